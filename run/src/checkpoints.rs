//! When checkpoints are due: at the steps of the config, and after some time in between.
//!
//! It takes the time as it is given, and knows neither models nor files.

use std::time::{Duration, Instant};

use joust_trainer::checkpoint::Retention;

use crate::config::CheckpointSection;

/// Interim checkpoints take at most about this share of the time.
const MOST_TIME: f64 = 0.05;

/// Decides after each step whether a checkpoint is written, and which kind.
pub(crate) struct CheckpointClock {
    section: CheckpointSection,
    last: Instant,
    /// Time that the last checkpoint took.
    cost: Duration,
}

impl CheckpointClock {
    pub(crate) fn new(section: &CheckpointSection, now: Instant) -> Self {
        Self { section: section.clone(), last: now, cost: Duration::ZERO }
    }

    /// A checkpoint beside those of the config.
    pub(crate) fn interim(&self) -> Retention {
        Retention { keep_last: self.section.keep_last, is_interim: true }
    }

    /// The checkpoint that is due after a step, which may be the last one of the run.
    pub(crate) fn due(&self, step: u64, is_last: bool, now: Instant) -> Option<Retention> {
        let every = self.section.every as u64;
        if is_last || (every > 0 && step.is_multiple_of(every)) {
            return Some(Retention { is_interim: false, ..self.interim() });
        }
        let wait = (self.section.every_minutes * 60.0).max(self.cost.as_secs_f64() / MOST_TIME);
        let is_time = self.section.every_minutes > 0.0
            && now.saturating_duration_since(self.last).as_secs_f64() >= wait;
        is_time.then_some(self.interim())
    }

    /// Notes a checkpoint that was begun and finished at these times.
    pub(crate) fn written(&mut self, began: Instant, finished: Instant) {
        self.cost = finished.saturating_duration_since(began);
        self.last = finished;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(clock: &CheckpointClock, step: u64, at: Instant) -> Option<bool> {
        clock.due(step, false, at).map(|retention| retention.is_interim)
    }

    #[test]
    fn checkpoints_are_due_by_step_and_by_time() {
        let start = Instant::now();
        let minutes = |n: u64| start + Duration::from_secs(60 * n);
        let section = CheckpointSection { every: 4, every_minutes: 10.0, keep_last: 2 };
        let mut clock = CheckpointClock::new(&section, start);
        assert_eq!(due(&clock, 3, minutes(9)), None);
        assert_eq!(due(&clock, 4, minutes(9)), Some(false));
        assert_eq!(due(&clock, 5, minutes(10)), Some(true));
        clock.written(minutes(10), minutes(11));
        assert_eq!(due(&clock, 6, minutes(20)), None);
        // a minute for writing: the next one after twenty minutes
        assert_eq!(due(&clock, 7, minutes(30)), None);
        assert_eq!(due(&clock, 7, minutes(31)), Some(true));
        assert!(!clock.due(7, true, minutes(12)).unwrap().is_interim);
        let never = CheckpointSection { every: 0, every_minutes: 0.0, keep_last: 0 };
        assert_eq!(due(&CheckpointClock::new(&never, start), 8, minutes(100_000)), None);
    }
}
