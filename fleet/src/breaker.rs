//! Circuit breaker: keeps calls away from a server that keeps failing. A pure state machine; the
//! caller has the clock.

use std::time::Duration;

/// Number of consecutive failures after which a server rests: more than a server that answers two
/// calls in three has by chance.
const MAX_FAILURES: u32 = 10;

/// Length of the first rest; it doubles with each further failure.
const FIRST_REST: Duration = Duration::from_secs(1);

/// Maximum length of a rest.
const MAX_REST: Duration = Duration::from_secs(30);

/// Health of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Breaker {
    failures: u32,
    /// End of the rest; then one call is sent as a trial.
    rests_until: Duration,
    is_on_trial: bool,
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

    /// Records that a call failed by the server's fault.
    pub(super) fn record_failure(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.is_on_trial = false;
        if self.failures >= MAX_FAILURES {
            let doublings = (self.failures - MAX_FAILURES).min(16);
            self.rests_until = now + (FIRST_REST * (1 << doublings)).min(MAX_REST);
        }
    }

    /// Records that the caller gave a call up before its end, which says nothing about the server.
    pub(super) fn record_given_up(&mut self) {
        self.is_on_trial = false;
    }
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
            breaker.record_failure(second(1));
        }
        assert!(!breaker.allows(second(1)) && breaker.rests_until() == second(2));
        assert!(breaker.rests(second(1)));
        assert!(breaker.allows(second(2)) && !breaker.rests(second(2)));
        breaker.record_sent();
        assert!(!breaker.allows(second(7)), "only one call is the trial");
        breaker.record_failure(second(8));
        assert_eq!(breaker.rests_until(), second(10), "the second rest is twice as long");
        breaker.record_sent();
        breaker.record_given_up();
        assert!(breaker.allows(second(10)));
        breaker.record_sent();
        breaker.record_answer();
        assert!(breaker.allows(second(10)) && breaker == Breaker::default());
        for _ in 0..100 {
            breaker.record_failure(second(20));
        }
        assert_eq!(breaker.rests_until(), second(50), "no rest is longer than half a minute");
    }

    #[test]
    fn breaker_ignores_single_failures() {
        let mut breaker = Breaker::default();
        for _ in 0..1_000 {
            breaker.record_sent();
            breaker.record_failure(Duration::ZERO);
            breaker.record_sent();
            breaker.record_answer();
            assert!(breaker.allows(Duration::ZERO));
        }
    }
}
