//! Rate limit: spaces the calls to a server so that no minute holds more than its limit. A pure
//! state machine; the caller has the clock.
//!
//! The generic cell rate algorithm (ITU-T I.371): each call moves the time up to which the limit is
//! used by one interval, and a call may start up to one second before that time. A burst may thus
//! contain one second's worth of unused calls. The interval is 61/60 of the limit's, so that a
//! minute that begins with such a burst keeps the limit too.

use std::time::Duration;

/// A minute, and the second of a burst.
const SPREAD: Duration = Duration::from_secs(61);

/// Rate of the calls to one server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pace {
    /// Time between two calls; zero without a limit.
    interval: Duration,
    /// Maximum time before `used_up_to` at which a call may start.
    ahead: Duration,
    /// Time up to which the limit is used.
    used_up_to: Duration,
}

impl Pace {
    /// A limit of `calls_per_minute` calls in any minute; 0 sets no limit.
    pub(super) fn new(calls_per_minute: u32) -> Self {
        let Some(interval) = SPREAD.checked_div(calls_per_minute) else {
            return Self::default();
        };
        // rounded up to the next nanosecond, so that rounding never exceeds the limit
        let interval = interval + Duration::from_nanos(1);
        let n_in_a_second = (Duration::from_secs(1).as_nanos() / interval.as_nanos()).max(1);
        let ahead = interval * (n_in_a_second - 1) as u32;
        Self { interval, ahead, used_up_to: Duration::ZERO }
    }

    /// Time at which the next call may start; a past time means now.
    pub(super) fn ready_at(&self) -> Duration {
        self.used_up_to.saturating_sub(self.ahead)
    }

    /// Records that a call starts.
    pub(super) fn record_sent(&mut self, now: Duration) {
        self.used_up_to = self.used_up_to.max(now) + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Start time of each call, as early as the limit allows after the time at which it is wanted.
    fn starts(limit: u32, wanted: impl Iterator<Item = Duration>) -> Vec<Duration> {
        let mut pace = Pace::new(limit);
        let mut now = Duration::ZERO;
        let start = |at: Duration| {
            now = now.max(at).max(pace.ready_at());
            pace.record_sent(now);
            now
        };
        wanted.map(start).collect()
    }

    #[test]
    fn pace_spreads_simultaneous_calls_over_the_minute() {
        let starts = starts(600, std::iter::repeat_n(Duration::ZERO, 600));
        let in_first = |s: u64| starts.iter().filter(|at| **at < Duration::from_secs(s)).count();
        assert_eq!([in_first(1), in_first(2), in_first(31)], [18, 28, 313]);
        assert!(in_first(60) <= 600);
    }

    #[test]
    fn pace_without_a_limit_delays_nothing() {
        assert_eq!(starts(0, std::iter::repeat_n(Duration::ZERO, 100)), [Duration::ZERO; 100]);
    }

    #[test]
    fn pace_spaces_single_calls_at_a_low_limit() {
        let starts = starts(1, std::iter::repeat_n(Duration::ZERO, 2));
        assert!(starts[0] == Duration::ZERO && starts[1] > Duration::from_secs(60), "{starts:?}");
    }

    proptest! {
        #[test]
        fn pace_keeps_the_limit_in_every_minute_and_delays_no_call_longer_than_needed(
            limit in 1_u32..3_000,
            pauses in prop::collection::vec(prop_oneof![
                20 => Just(0_u64),
                3 => 0_u64..5_000,
                1 => 0_u64..200_000,
            ], 1..4_000),
        ) {
            let mut at = Duration::ZERO;
            let wanted: Vec<Duration> = pauses.iter().map(|pause| {
                at += Duration::from_millis(*pause);
                at
            }).collect();
            let starts = starts(limit, wanted.iter().copied());
            let minute = Duration::from_secs(60);
            for (first, start) in starts.iter().enumerate() {
                let in_minute = starts[first..].iter().take_while(|at| **at <= *start + minute);
                prop_assert!(in_minute.count() <= limit as usize);
            }
            // waiting calls start at 60 / 61 of the limit, and no call waits longer
            let last = *starts.last().expect("one at least");
            let most = at + minute.mul_f64(61.0 / 60.0 / f64::from(limit)) * starts.len() as u32;
            prop_assert!(last <= most + Duration::from_millis(1), "{last:?} {most:?}");
        }
    }
}
