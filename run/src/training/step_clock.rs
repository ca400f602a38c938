//! Seconds of a step by its stages, of which sampling and scoring overlap.
//!
//! It knows moments, and not what happens at them.

use std::time::{Duration, Instant};

use joust_trainer::Metrics;

/// The moments of a round: groups are sampled, and scored meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTimes {
    /// The first prompt was handed to the workers.
    pub(super) began: Instant,
    /// The first group was handed to a part of the reward or to the judge.
    pub(super) reward_began: Instant,
    /// The last group was whole.
    pub(super) sampled: Instant,
    /// The last group was scored.
    pub(super) scored: Instant,
}

/// Seconds of a step.
pub(super) struct StepClock {
    began: Instant,
    rollout: Duration,
    reward: Duration,
    overlap: Duration,
    train: Duration,
}

impl StepClock {
    /// A step that begins now.
    pub(super) fn start() -> Self {
        let [rollout, reward, overlap, train] = [Duration::ZERO; 4];
        Self { began: Instant::now(), rollout, reward, overlap, train }
    }

    /// Time since the step began.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Adds a round.
    pub(super) fn add_round(&mut self, times: &RoundTimes) {
        let RoundTimes { began, reward_began, sampled, scored } = *times;
        self.rollout += sampled - began;
        self.reward += scored - reward_began;
        self.overlap += sampled.saturating_duration_since(reward_began);
    }

    /// Adds time of training.
    pub(super) fn add_training(&mut self, took: Duration) {
        self.train += took;
    }

    /// Metrics of the stages and of the whole step, in which `n_tokens` were computed.
    pub(super) fn metrics(self, n_tokens: f64) -> Metrics {
        let seconds = self.began.elapsed().as_secs_f64();
        let stages = [
            ("time/rollout_s", self.rollout),
            ("time/reward_s", self.reward),
            ("time/overlap_s", self.overlap),
            ("time/train_s", self.train),
        ];
        let stages = stages.map(|(name, took)| (name.to_owned(), took.as_secs_f64()));
        let mut metrics = Metrics::from(stages);
        metrics.insert("step_time".to_owned(), seconds);
        metrics.insert("tokens_per_second".to_owned(), n_tokens / seconds);
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_add_up_where_what_overlaps_counts_once() {
        let mut clock = StepClock::start();
        let at = |seconds| clock.began + Duration::from_secs(seconds);
        // the judge begins while groups are sampled, and goes on after them
        let first =
            RoundTimes { began: at(0), reward_began: at(2), sampled: at(6), scored: at(11) };
        // it begins when all groups are whole
        let second =
            RoundTimes { began: at(11), reward_began: at(14), sampled: at(14), scored: at(15) };
        [first, second].iter().for_each(|times| clock.add_round(times));
        clock.add_training(Duration::from_secs(5));
        let metrics = clock.metrics(0.0);
        let seconds = |name: &str| metrics[&format!("time/{name}_s")];
        assert_eq!((seconds("rollout"), seconds("reward")), (9.0, 10.0));
        assert_eq!((seconds("overlap"), seconds("train")), (4.0, 5.0));
    }
}
