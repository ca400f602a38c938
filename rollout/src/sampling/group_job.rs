//! The group of one prompt: the key of its draws, how it is sampled, and its rows.
//!
//! It does not know who samples.

use joust_engine::{Sample, SamplingParams, Tokenizer};
use joust_schema::ids::{GroupId, Member, PolicyVersion};
use joust_schema::tables::{FinishReason, Rollout};

use super::render::{RenderedPrompt, render};
use super::request::GenerateRequest;
use crate::config::RolloutConfig;
use crate::group::RolloutGroup;
use crate::prompts::row::PromptRow;

/// One group to sample.
pub(crate) struct GroupJob {
    /// Index of the prompt in the request.
    pub(crate) prompt_idx: usize,
    /// Index of the group in its step.
    group_idx: usize,
    step: i64,
    policy_version: PolicyVersion,
    pub(crate) row: PromptRow,
    /// Key of the group's draws.
    pub(crate) seed: u64,
    group_size: Option<u32>,
    temperature: Option<f64>,
}

impl GroupJob {
    pub(crate) fn new(request: &GenerateRequest<'_>, prompt_idx: usize) -> Self {
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

    /// The group with its prompt as the policy sees it.
    ///
    /// # Errors
    /// As [`Tokenizer::render_chat`] and [`Tokenizer::encode`].
    pub(crate) fn rendered(
        self,
        tokenizer: &Tokenizer,
        config: &RolloutConfig,
    ) -> Result<RenderedGroup, joust_engine::Error> {
        let question = self.row.prompt.question();
        let prompt = render(&self.row, &question, tokenizer, config)?;
        let params = SamplingParams {
            max_tokens: config.max_completion_length,
            temperature: self.temperature.unwrap_or(config.temperature),
            top_p: config.top_p,
            top_k: config.top_k,
            n: self.group_size.unwrap_or(config.group_size),
            seed: self.seed,
            stop: config.stop.clone(),
            ..SamplingParams::default()
        };
        Ok(RenderedGroup { job: self, question, prompt, params })
    }
}

/// A group whose prompt is rendered.
pub(crate) struct RenderedGroup {
    job: GroupJob,
    question: String,
    prompt: RenderedPrompt,
    /// How it is sampled.
    pub(crate) params: SamplingParams,
}

/// A completion of a group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SampledCompletion {
    /// Tokens, the one that ended it included.
    pub(crate) token_ids: Vec<u32>,
    /// Log-probabilities under the untempered softmax; NaN where they are not known.
    pub(crate) logprobs: Vec<f32>,
    /// Log-probabilities under the distribution that was drawn from, where they are known.
    pub(crate) behaviour_logprobs: Option<Vec<f32>>,
    /// Text without special tokens and stop string.
    pub(crate) text: String,
    pub(crate) finish_reason: FinishReason,
}

impl From<Sample> for SampledCompletion {
    fn from(sample: Sample) -> Self {
        Self {
            token_ids: sample.token_ids,
            logprobs: sample.logprobs,
            behaviour_logprobs: Some(sample.behaviour_logprobs),
            text: sample.text,
            finish_reason: sample.finish_reason,
        }
    }
}

impl RenderedGroup {
    /// Index of the prompt in the request.
    pub(crate) fn prompt_idx(&self) -> usize {
        self.job.prompt_idx
    }

    /// The prompt's row.
    pub(crate) fn row(&self) -> &PromptRow {
        &self.job.row
    }

    /// Tokens of the prompt.
    pub(crate) fn prompt_token_ids(&self) -> &[u32] {
        &self.prompt.token_ids
    }

    /// The group with its completions, member by member.
    pub(crate) fn with(self, completions: Vec<SampledCompletion>) -> RolloutGroup {
        let Self { job, question, prompt, .. } = self;
        let group_id = GroupId(format!("{:05}-{:04}", job.step, job.group_idx));
        let prompt_token_ids = table_ids(prompt.token_ids);
        let rollout = |(member, completion): (usize, SampledCompletion)| Rollout {
            step: job.step,
            group_id: group_id.clone(),
            member: Member(member as u32),
            prompt_id: job.row.prompt_id.clone(),
            policy_version: job.policy_version,
            prompt: prompt.text.clone(),
            completion: completion.text,
            prompt_token_ids: prompt_token_ids.clone(),
            completion_token_ids: table_ids(completion.token_ids),
            completion_logprobs: completion.logprobs,
            behaviour_logprobs: completion.behaviour_logprobs,
            finish_reason: completion.finish_reason,
            seed: job.seed as i64,
        };
        RolloutGroup {
            group_id: group_id.clone(),
            completions: completions.into_iter().enumerate().map(rollout).collect(),
            prompt_id: job.row.prompt_id,
            prompt: job.row.prompt,
            columns: job.row.columns,
            question,
            answer: job.row.answer,
        }
    }
}

/// Token ids as the `rollouts` table has them; the vector's memory is reused.
fn table_ids(token_ids: Vec<u32>) -> Vec<i32> {
    token_ids.into_iter().map(|id| id as i32).collect()
}
