//! The learning rate over time: warm-up, then constant, cosine or linear, as transformers has them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Course of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// The peak until the end.
    #[default]
    Constant,
    /// Half a cosine from the peak down to `min_ratio` of it.
    Cosine,
    /// A straight line from the peak down to `min_ratio` of it.
    Linear,
}

/// Settings of the schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Course of the learning rate after the warm-up.
    pub kind: Schedule,
    /// Number of updates in which the learning rate grows from 0 to its peak; at most the updates
    /// of the run.
    pub warmup_updates: u64,
    /// Learning rate towards which the schedule falls, as a share of the peak: that of an update
    /// after the last one.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_ratio: f64,
}

impl ScheduleConfig {
    /// A problem with a run of `n_updates` updates, named by its key.
    pub fn problem_with(&self, n_updates: u64) -> Option<String> {
        (self.warmup_updates > n_updates).then(|| {
            format!(
                "warmup_updates is {}, wanted at most {n_updates}, the updates of the run",
                self.warmup_updates
            )
        })
    }

    /// The learning rate of update `update` (counted from 0) of `n_updates`, as a share of the
    /// peak.
    ///
    /// `transformers.get_{constant,cosine,linear}_schedule_with_warmup` at step `update`.
    pub fn factor(&self, update: u64, n_updates: u64) -> f64 {
        if update < self.warmup_updates {
            return update as f64 / self.warmup_updates.max(1) as f64;
        }
        let decaying = n_updates.saturating_sub(self.warmup_updates).max(1) as f64;
        let progress = ((update - self.warmup_updates) as f64 / decaying).min(1.0);
        let share = match self.kind {
            Schedule::Constant => return 1.0,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Schedule::Linear => 1.0 - progress,
        };
        self.min_ratio + (1.0 - self.min_ratio) * share
    }
}
