//! The state of a training run between steps, and its results.

use std::collections::BTreeMap;
use std::path::PathBuf;

use joust_rollout::PromptCursor;
use joust_trainer::Metrics;
use serde::{Deserialize, Serialize};

use super::scored::ScoredGroup;

/// The state that a checkpoint holds beside weights and optimiser.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct TrainingState {
    /// Number of complete steps.
    pub(super) step: u64,
    /// Position in the prompts.
    pub(super) cursor: PromptCursor,
    /// Number of tokens sampled so far.
    pub(super) num_tokens: u64,
    /// Accuracy on held-out prompts before the first step, if it is measured.
    pub(super) accuracy_before: Option<f64>,
    /// Newest accuracy on held-out prompts.
    pub(super) accuracy: Option<f64>,
    /// The metrics of the last step if a stop broke off the evaluation after it, which is to be
    /// repeated; they are logged after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unevaluated: Option<UnloggedMetrics>,
}

/// Metrics as JSON has them: `None` is a number that is not finite.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct UnloggedMetrics(BTreeMap<String, Option<f64>>);

impl From<Metrics> for UnloggedMetrics {
    fn from(metrics: Metrics) -> Self {
        let finite = |value: f64| value.is_finite().then_some(value);
        Self(metrics.into_iter().map(|(name, value)| (name, finite(value))).collect())
    }
}

impl From<UnloggedMetrics> for Metrics {
    fn from(UnloggedMetrics(metrics): UnloggedMetrics) -> Self {
        metrics.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect()
    }
}

/// How the loop of a start has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// All steps are made; the model is exported.
    Finished,
    /// The run was asked to stop. A later start goes on after its last step.
    Stopped,
}

/// A run whose loop has ended.
pub struct FinishedRun {
    /// How it has ended.
    pub end: RunEnd,
    /// The run's folder.
    pub dir: PathBuf,
    /// Number of steps, those of earlier starts included.
    pub steps: u64,
    /// Number of updates, those of earlier starts included.
    pub n_updates: u64,
    /// Seconds of this start's loop.
    pub seconds: f64,
    /// Accuracy on held-out prompts before the first step, if it is measured.
    pub accuracy_before: Option<f64>,
    /// Newest accuracy on held-out prompts.
    pub accuracy: Option<f64>,
    /// The groups of the last step; empty if this start made no step.
    pub last_groups: Vec<ScoredGroup>,
}
