//! A group whose samples are not all finished.

use joust_engine::Sample;
use joust_schema::ids::{GroupId, Member};
use joust_schema::tables::Rollout;

use super::messages::GroupJob;
use super::render::RenderedPrompt;
use crate::group::RolloutGroup;

/// A group in the engine: its prompt, and the samples that are finished.
pub(super) struct PendingGroup {
    job: GroupJob,
    question: String,
    prompt: RenderedPrompt,
    samples: Vec<Sample>,
    n_samples: usize,
}

impl PendingGroup {
    pub(super) fn new(
        job: GroupJob,
        question: String,
        prompt: RenderedPrompt,
        n_samples: u32,
    ) -> Self {
        Self { job, question, prompt, samples: Vec::new(), n_samples: n_samples as usize }
    }

    pub(super) fn add_sample(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.samples.len() == self.n_samples
    }

    /// The complete group, its members in the order of their samples.
    pub(super) fn into_group(self) -> RolloutGroup {
        let Self { job, question, prompt, mut samples, .. } = self;
        samples.sort_by_key(|sample| sample.index);
        let group_id = GroupId(format!("{:05}-{:04}", job.step, job.group_idx));
        let prompt_token_ids = table_ids(prompt.token_ids);
        let rollout = |sample: Sample| Rollout {
            step: job.step,
            group_id: group_id.clone(),
            member: Member(sample.index),
            prompt_id: job.row.prompt_id.clone(),
            policy_version: job.policy_version,
            prompt: prompt.text.clone(),
            completion: sample.text,
            prompt_token_ids: prompt_token_ids.clone(),
            completion_token_ids: table_ids(sample.token_ids),
            completion_logprobs: sample.logprobs,
            behaviour_logprobs: Some(sample.behaviour_logprobs),
            finish_reason: sample.finish_reason,
            seed: job.seed as i64,
        };
        let completions = samples.into_iter().map(rollout).collect();
        RolloutGroup {
            group_id: group_id.clone(),
            prompt_id: job.row.prompt_id,
            prompt: job.row.prompt,
            columns: job.row.columns,
            question,
            answer: job.row.answer,
            completions,
        }
    }
}

/// Token ids as the `rollouts` table has them; the vector's memory is reused.
fn table_ids(token_ids: Vec<u32>) -> Vec<i32> {
    token_ids.into_iter().map(|id| id as i32).collect()
}
