//! What a caller asks of the workers, and how it follows their progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use joust_schema::ids::PolicyVersion;
use joust_schema::seed::Seed;

use crate::prompts::row::PromptRow;

/// Prompts to sample from, and how.
#[derive(Clone, Copy, Debug)]
pub struct GenerateRequest<'a> {
    /// Training step; 0 outside of training.
    pub step: i64,
    /// The weights that the workers hold.
    pub policy_version: PolicyVersion,
    /// The prompts: one group per prompt.
    pub prompts: &'a [PromptRow],
    /// Number of groups that the step has already: those of this request are counted on from it.
    pub n_groups_before: usize,
    /// Distance of the numbers of two groups that follow each other: the number of ranks where
    /// each samples a part of a step.
    pub group_stride: usize,
    /// Key of every draw.
    pub seed: Seed,
    /// Number of completions per prompt; `None` takes the configured one.
    pub group_size: Option<u32>,
    /// Temperature; `None` takes the configured one, 0 the most probable tokens.
    pub temperature: Option<f64>,
    /// Once it is true, the workers break off.
    pub cancelled: Option<&'a Arc<AtomicBool>>,
    /// Once it is true, servers that are all gone are not waited for: then the sampling breaks off
    /// as if it were cancelled.
    pub stop: Option<&'a Arc<AtomicBool>>,
}

impl GenerateRequest<'_> {
    /// Whether nobody waits for the groups any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_some_and(|cancelled| cancelled.load(Ordering::Acquire))
    }
}

/// Progress of a [`GenerateRequest`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RolloutProgress {
    /// Number of groups that are finished or dropped.
    pub n_groups: usize,
    /// Number of groups requested.
    pub n_groups_total: usize,
    /// Number of tokens in the finished groups.
    pub n_tokens: usize,
}
