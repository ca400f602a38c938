//! The results of a run on given texts.

use std::path::PathBuf;

use crate::training::state::RunEnd;

/// A run whose loop has ended.
pub struct FinishedTuning {
    /// How it has ended.
    pub end: RunEnd,
    /// Number of steps, those of earlier starts included.
    pub steps: u64,
    /// Seconds of this start's loop.
    pub seconds: f64,
    /// Loss on held-out examples when it was first and last measured by this start.
    pub eval_losses: Option<[f64; 2]>,
    /// The run's folder.
    pub dir: PathBuf,
}
