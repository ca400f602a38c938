//! Outage: since when no server of the fleet is up. A pure state machine; the caller has the clock.

use std::time::Duration;

/// State of the outage.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Outage {
    /// First sign of it after the last answer.
    since: Option<Duration>,
}

/// What a failed attempt is, while servers may be gone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Waiting {
    /// Servers are up, or an outage has no time of its own: the attempt counts as a try.
    Counts,
    /// The attempt does not count: the outage is shorter than calls may wait.
    Waits,
    /// The outage is over its time: the call has failed.
    Over,
}

impl Outage {
    /// Records an answer of any server, if only an error.
    pub(super) fn record_answer(&mut self) {
        self.since = None;
    }

    /// Records that a server was not up; true if this begins an outage.
    pub(super) fn record_gone(&mut self, now: Duration) -> bool {
        let begins = self.since.is_none();
        self.since.get_or_insert(now);
        begins
    }

    /// What an attempt is that found no server up.
    pub(super) fn waiting(&self, max: Duration, now: Duration) -> Waiting {
        match self.since {
            Some(since) if !max.is_zero() => match now.saturating_sub(since) < max {
                true => Waiting::Waits,
                false => Waiting::Over,
            },
            _ => Waiting::Counts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outage_has_its_own_time_which_an_answer_ends() {
        let (second, max) = (Duration::from_secs, Duration::from_secs(60));
        let mut outage = Outage::default();
        assert_eq!(outage.waiting(max, second(1)), Waiting::Counts);
        assert!(outage.record_gone(second(5)) && !outage.record_gone(second(50)));
        assert_eq!(outage.waiting(max, second(64)), Waiting::Waits);
        assert_eq!(outage.waiting(max, second(65)), Waiting::Over);
        assert_eq!(outage.waiting(Duration::ZERO, second(65)), Waiting::Counts);
        outage.record_answer();
        assert_eq!(outage.waiting(max, second(66)), Waiting::Counts);
        assert!(outage.record_gone(second(70)));
        assert_eq!(outage.waiting(max, second(129)), Waiting::Waits);
    }
}
