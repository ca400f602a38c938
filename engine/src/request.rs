//! What goes into an engine and what comes out of it, as plain data.

use std::time::Duration;

use joust_schema::tables::FinishReason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::SamplingParams;

/// Identifies a request among those of one engine.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// A prompt and how to continue it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Chosen by the caller; samples carry it.
    pub id: RequestId,
    /// The prompt, special tokens included.
    pub prompt_token_ids: Vec<u32>,
    /// How to sample.
    pub params: SamplingParams,
    /// Higher is sooner; among equals the order of arrival counts.
    pub priority: i32,
    /// How long it may take from now on; what is not finished then ends as `abort`.
    pub timeout: Option<Duration>,
}

impl Request {
    /// A request of ordinary priority that may take its time.
    pub fn new(id: RequestId, prompt_token_ids: Vec<u32>, params: SamplingParams) -> Self {
        Self { id, prompt_token_ids, params, priority: 0, timeout: None }
    }
}

/// A finished sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The request that it belongs to.
    pub request_id: RequestId,
    /// Its index among the request's samples.
    pub index: u32,
    /// The sampled tokens, the stop token included where one ended the sample.
    pub token_ids: Vec<u32>,
    /// Log-probability of each sampled token under the untempered softmax over the whole
    /// vocabulary: `logprobs[t]` belongs to `token_ids[t]`.
    pub logprobs: Vec<f32>,
    /// The tokens as text, without special tokens and without the stop text.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them whose computation was shared with another sample.
    pub cached_prompt_tokens: usize,
    /// From the first computation on the request to the end of the sample.
    pub latency_ms: f64,
}

/// What an engine has done, and what its memory holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Prompt tokens of the requests that were started.
    pub prompt_tokens: u64,
    /// Prompt tokens that were computed; the others were there already.
    pub computed_prompt_tokens: u64,
    /// Samples that lost their memory to others and were computed again.
    pub preemptions: u64,
    /// Tokens that the key/value memory has room for.
    pub kv_tokens: usize,
    /// Tokens' worth of blocks that are free.
    pub kv_free_tokens: usize,
    /// Tokens' worth of blocks that only the prefix cache keeps.
    pub kv_cached_tokens: usize,
}
