//! Circuit breaker: keeps calls away from a server that keeps failing, and tells which servers have
//! just failed. A pure state machine; the caller has the clock.

use std::time::Duration;

/// Number of consecutive failures after which a server rests: more than a server that answers two
/// calls in three has by chance.
const MAX_FAILURES: u32 = 10;

/// Length of the first rest, and of the first suspicion; it doubles with each further failure.
const FIRST_REST: Duration = Duration::from_secs(1);

/// Maximum length of a rest.
pub(super) const MAX_REST: Duration = Duration::from_secs(30);

/// Health of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Breaker {
    failures: u32,
    /// End of the rest; then one call is sent as a trial.
    rests_until: Duration,
    is_on_trial: bool,
    /// Number of consecutive suspicions.
    suspicions: u32,
    /// End of the last one: until then other servers are preferred.
    suspected_until: Duration,
}

impl Breaker {
    /// Whether a call may be sent.
    pub(super) fn allows(&self, now: Duration) -> bool {
        self.failures < MAX_FAILURES || (now >= self.rests_until && !self.is_on_trial)
    }

    /// Whether the server rests after failures.
    pub(super) fn rests(&self, now: Duration) -> bool {
        self.failures >= MAX_FAILURES && now < self.rests_until
    }

    /// Whether the server has just failed, so that another one is preferred.
    pub(super) fn is_suspected(&self, now: Duration) -> bool {
        now < self.suspected_until
    }

    /// End of the rest: time from which a call may be sent again.
    pub(super) fn rests_until(&self) -> Duration {
        self.rests_until
    }

    /// Records that a call is sent.
    pub(super) fn record_sent(&mut self) {
        self.is_on_trial = self.failures >= MAX_FAILURES;
    }

    /// Records that a call was answered.
    pub(super) fn record_answer(&mut self) {
        *self = Self::default();
    }

    /// Records that a call failed by the server's fault, which was `sent` at that time. A call that
    /// was sent before the rest is no trial, whenever it fails.
    pub(super) fn record_failure(&mut self, sent: Duration, now: Duration) {
        // calls of a burst are one sign
        if sent >= self.suspected_until {
            self.suspected_until = now + doubled(self.suspicions);
            self.suspicions = self.suspicions.saturating_add(1);
        }
        if self.is_stale(sent) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.is_on_trial = false;
        if self.failures >= MAX_FAILURES {
            self.rests_until = now + doubled(self.failures - MAX_FAILURES);
        }
    }

    /// Records that the caller gave a call up before its end, which says nothing about the server.
    pub(super) fn record_given_up(&mut self, sent: Duration) {
        self.is_on_trial &= self.is_stale(sent);
    }

    /// Whether a call was sent before the last rest: one of the burst that led to it.
    fn is_stale(&self, sent: Duration) -> bool {
        self.failures >= MAX_FAILURES && sent < self.rests_until
    }
}

/// Length of a rest, or of a suspicion, after this number of earlier ones.
fn doubled(n_before: u32) -> Duration {
    (FIRST_REST * (1 << n_before.min(16))).min(MAX_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaker_rests_a_failing_server_and_tries_it_again_with_one_call() {
        let second = Duration::from_secs;
        let mut breaker = Breaker::default();
        for _ in 0..MAX_FAILURES {
            assert!(breaker.allows(second(1)));
            breaker.record_sent();
            breaker.record_failure(second(1), second(1));
        }
        assert!(!breaker.allows(second(1)) && breaker.rests_until() == second(2));
        assert!(breaker.rests(second(1)));
        assert!(breaker.allows(second(2)) && !breaker.rests(second(2)));
        breaker.record_sent();
        assert!(!breaker.allows(second(7)), "only one call is the trial");
        breaker.record_failure(second(2), second(8));
        assert_eq!(breaker.rests_until(), second(10), "the second rest is twice as long");
        breaker.record_sent();
        breaker.record_given_up(second(10));
        assert!(breaker.allows(second(10)));
        breaker.record_sent();
        breaker.record_answer();
        assert!(breaker.allows(second(10)) && breaker == Breaker::default());
        for at in 0..100 {
            breaker.record_failure(second(100 * at), second(100 * at));
        }
        assert_eq!(breaker.rests_until(), second(9930), "no rest is longer than half a minute");
    }

    #[test]
    fn breaker_counts_the_calls_of_one_burst_as_one_failure_of_the_server() {
        let (second, ms) = (Duration::from_secs, Duration::from_millis);
        // 64 calls at once, which fail one after the other in two seconds
        let mut breaker = Breaker::default();
        (0..64).for_each(|_| breaker.record_sent());
        for call in 0..32 {
            breaker.record_failure(second(0), ms(call));
        }
        let until = ms(u64::from(MAX_FAILURES) - 1) + FIRST_REST;
        assert_eq!(breaker.rests_until(), until, "the first rest");
        // one call is the trial, although others of the burst are under way
        assert!(breaker.allows(until));
        breaker.record_sent();
        for _ in 0..16 {
            breaker.record_failure(second(0), until + ms(1));
            breaker.record_given_up(second(0));
            assert!(!breaker.allows(until + ms(1)), "the trial decides");
        }
        breaker.record_failure(until, until + ms(2));
        assert_eq!(breaker.rests_until(), until + ms(2) + 2 * FIRST_REST, "the second rest");
        // an answer of an old call is one, too
        breaker.record_answer();
        assert!(breaker.allows(until + ms(3)));
    }

    #[test]
    fn breaker_suspects_a_server_that_has_just_failed_for_twice_as_long_each_time() {
        let second = Duration::from_secs;
        let mut breaker = Breaker::default();
        assert!(!breaker.is_suspected(second(0)));
        // two calls of one burst
        breaker.record_failure(second(5), second(6));
        breaker.record_failure(second(5), second(6));
        assert!(breaker.is_suspected(second(6)) && !breaker.is_suspected(second(7)));
        breaker.record_failure(second(7), second(7));
        assert!(breaker.is_suspected(second(8)) && !breaker.is_suspected(second(9)));
        breaker.record_answer();
        assert!(!breaker.is_suspected(second(8)));
    }

    #[test]
    fn breaker_ignores_single_failures() {
        let mut breaker = Breaker::default();
        for _ in 0..1_000 {
            breaker.record_sent();
            breaker.record_failure(Duration::ZERO, Duration::ZERO);
            breaker.record_sent();
            breaker.record_answer();
            assert!(breaker.allows(Duration::ZERO));
        }
    }
}
