//! The time that is left until some work is done, by the mean time of its units so far.
//!
//! Knows no work.

use std::fmt::Write;
use std::time::{Duration, Instant};

use indicatif::style::ProgressTracker;
use indicatif::{HumanDuration, ProgressState};

/// What an estimate is made of.
#[derive(Clone)]
pub(crate) struct TimeLeft {
    /// Number of units that were done before, and when the others began.
    first: (u64, Instant),
    /// Number of units that are done, and when the last one was.
    last: (u64, Instant),
}

impl TimeLeft {
    /// Work of which `n_done` units are done, and which goes on now.
    pub(crate) fn new(n_done: u64, now: Instant) -> Self {
        Self { first: (n_done, now), last: (n_done, now) }
    }

    /// Takes note of the number of units that are done now.
    pub(crate) fn note(&mut self, n_done: u64, now: Instant) {
        if n_done != self.last.0 {
            self.last = (n_done, now);
        }
    }

    /// The time that is left of work of `n_total` units; `None` before the first one is done.
    pub(crate) fn at(&self, n_total: u64, now: Instant) -> Option<Duration> {
        let ((n_before, began), (n_done, last)) = (self.first, self.last);
        let n_new = n_done.checked_sub(n_before).filter(|&n| n > 0)?;
        let per_unit = last.saturating_duration_since(began).as_secs_f64() / n_new as f64;
        let left = Duration::try_from_secs_f64(per_unit * n_total.saturating_sub(n_done) as f64);
        Some(left.ok()?.saturating_sub(now.saturating_duration_since(last)))
    }
}

impl ProgressTracker for TimeLeft {
    fn clone_box(&self) -> Box<dyn ProgressTracker> {
        Box::new(self.clone())
    }

    fn tick(&mut self, state: &ProgressState, now: Instant) {
        self.note(state.pos(), now);
    }

    fn reset(&mut self, _: &ProgressState, _: Instant) {}

    fn write(&self, state: &ProgressState, text: &mut dyn Write) {
        let n_total = state.len().unwrap_or_default();
        let _ = match self.at(n_total, Instant::now()) {
            Some(left) => write!(text, "{:#}", HumanDuration(left)),
            None => write!(text, "-"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_that_of_the_mean_unit_and_none_before_the_first_one_is_done() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let seconds = |left: &TimeLeft, at| left.at(10, after(at)).map(|left| left.as_secs());
        // a run that goes on after four of ten steps
        let mut left = TimeLeft::new(4, began);
        left.note(4, after(1));
        assert_eq!(seconds(&left, 5), None);
        left.note(5, after(10));
        assert_eq!(seconds(&left, 10), Some(50));
        // a longer step makes the estimate smaller, never endless
        assert_eq!((seconds(&left, 30), seconds(&left, 90)), (Some(30), Some(0)));
        left.note(7, after(60));
        assert_eq!(seconds(&left, 60), Some(60));
        left.note(10, after(70));
        assert_eq!(seconds(&left, 75), Some(0));
    }
}
