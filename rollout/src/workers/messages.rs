//! Messages between the pool and its worker threads.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use joust_engine::model::Decoder;
use joust_schema::ids::PolicyVersion;

use super::request::GenerateRequest;
use crate::group::{DroppedPrompt, RolloutGroup};
use crate::prompts::row::PromptRow;

/// One group to sample.
pub(super) struct GroupJob {
    /// Index of the prompt in the request.
    pub(super) prompt_idx: usize,
    /// Index of the group in its step.
    pub(super) group_idx: usize,
    pub(super) step: i64,
    pub(super) policy_version: PolicyVersion,
    pub(super) row: PromptRow,
    /// Key of the group's draws.
    pub(super) seed: u64,
    pub(super) group_size: Option<u32>,
    pub(super) temperature: Option<f64>,
}

impl GroupJob {
    pub(super) fn new(request: &GenerateRequest<'_>, prompt_idx: usize) -> Self {
        let row = request.prompts[prompt_idx].clone();
        let group_idx = request.n_groups_before + prompt_idx * request.group_stride;
        let seed = request.seed.child("rollout", request.step as u64);
        let seed = seed.child_str("prompt", &row.prompt_id.0).child("group", group_idx as u64);
        Self {
            prompt_idx,
            group_idx,
            step: request.step,
            policy_version: request.policy_version,
            row,
            seed: seed.0,
            group_size: request.group_size,
            temperature: request.temperature,
        }
    }
}

/// A message to a worker.
pub(super) enum WorkerCommand {
    /// Sample these groups, unless and until the switch is set.
    Generate(Vec<GroupJob>, Option<Arc<AtomicBool>>),
    /// Free the memory that the next weights make anew.
    Release,
    /// Take these weights.
    Publish(Box<Decoder>),
}

/// The result for one prompt.
pub(super) enum PromptOutcome {
    Group(Box<RolloutGroup>),
    Dropped(DroppedPrompt),
}

/// A message from a worker. Each command ends in `Done` or `Failed`.
pub(super) enum WorkerReport {
    /// The result for the prompt with this index.
    Outcome(usize, PromptOutcome),
    /// The command is carried out.
    Done,
    /// The command failed.
    Failed { worker: usize, reason: String },
}
