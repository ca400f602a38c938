//! Keeps calls away from a server that fails: a pure state machine; the caller has the clock.

use std::time::Duration;

/// Failures in a row after which a server is left alone: more than a server has by chance that answers
/// two calls in three.
const FAILURES: u32 = 10;

/// How long it is left alone at first; twice as long after each further failure.
const FIRST_REST: Duration = Duration::from_secs(1);

/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// What is known of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Breaker {
    failures: u32,
    /// Until when nothing is sent; one call is tried then.
    rests_until: Duration,
    is_trying: bool,
}

impl Breaker {
    /// Whether a call may be sent.
    pub(super) fn allows(&self, now: Duration) -> bool {
        self.failures < FAILURES || (now >= self.rests_until && !self.is_trying)
    }

    /// Whether it is left alone after failures.
    pub(super) fn rests(&self, now: Duration) -> bool {
        self.failures >= FAILURES && now < self.rests_until
    }

    /// When a call may be sent again.
    pub(super) fn rests_until(&self) -> Duration {
        self.rests_until
    }

    /// A call goes out.
    pub(super) fn sent(&mut self) {
        self.is_trying = self.failures >= FAILURES;
    }

    /// A call was answered.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// A call failed by the server's fault.
    pub(super) fn failed(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.is_trying = false;
        if self.failures >= FAILURES {
            let doublings = (self.failures - FAILURES).min(16);
            self.rests_until = now + (FIRST_REST * (1 << doublings)).min(LONGEST_REST);
        }
    }

    /// A call was given up before its end: nothing is learned from it.
    pub(super) fn given_up(&mut self) {
        self.is_trying = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_fails_is_left_alone_and_tried_again_with_one_call() {
        let second = Duration::from_secs;
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            assert!(breaker.allows(second(1)));
            breaker.sent();
            breaker.failed(second(1));
        }
        assert!(!breaker.allows(second(1)) && breaker.rests_until() == second(2));
        assert!(breaker.rests(second(1)));
        assert!(breaker.allows(second(2)) && !breaker.rests(second(2)));
        breaker.sent();
        assert!(!breaker.allows(second(7)), "one call at a time finds out");
        breaker.failed(second(8));
        assert_eq!(breaker.rests_until(), second(10), "it rests twice as long");
        breaker.sent();
        breaker.given_up();
        assert!(breaker.allows(second(10)));
        breaker.sent();
        breaker.answered();
        assert!(breaker.allows(second(10)) && breaker == Breaker::default());
        for _ in 0..100 {
            breaker.failed(second(20));
        }
        assert_eq!(breaker.rests_until(), second(50), "no rest is longer than half a minute");
    }

    #[test]
    fn single_failures_do_no_harm() {
        let mut breaker = Breaker::default();
        for _ in 0..1_000 {
            breaker.sent();
            breaker.failed(Duration::ZERO);
            breaker.sent();
            breaker.answered();
            assert!(breaker.allows(Duration::ZERO));
        }
    }
}
