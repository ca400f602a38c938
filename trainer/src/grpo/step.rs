//! What a step is given and what it gives back.

use arrow::array::{ArrayRef, RecordBatch};
use joust_schema::group_rows::GroupRows;
use joust_schema::seed::Seed;

use crate::metrics::Metrics;

/// The tables of one step. Row i of `rewards` belongs to row i of `rollouts`; both are ordered by
/// group and member.
#[derive(Clone, Copy, Debug)]
pub struct ScoredTables<'a> {
    /// The `rollouts` table.
    pub rollouts: &'a RecordBatch,
    /// The `rewards` table.
    pub rewards: &'a RecordBatch,
    /// The rows of each group.
    pub groups: &'a GroupRows,
}

/// How the completions of a step were sampled, and the key of its draws.
#[derive(Clone, Copy, Debug)]
pub struct StepInfo {
    /// Number of the step, counted from 1: its place in the schedule of the learning rate.
    pub step: u64,
    /// Key of the step's shuffles.
    pub seed: Seed,
    /// Temperature that completions were sampled with.
    pub temperature: f64,
    /// Maximum number of tokens per completion.
    pub max_completion_length: usize,
}

/// Results of one step beside the new weights.
#[derive(Debug)]
pub struct StepOutcome {
    /// The column `advantage` of the `rewards` table; null for rows without a reward and for
    /// truncated rows that are masked.
    pub advantages: ArrayRef,
    /// The metrics of the updates.
    pub metrics: Metrics,
}
