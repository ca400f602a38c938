//! Requests to an engine, finished samples and statistics, as plain data. It does not know how they
//! are computed.

use std::time::Duration;

use joust_schema::tables::FinishReason;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::SamplingParams;

/// Identifier of a request within one engine.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// A prompt and how to continue it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Identifier chosen by the caller; each sample carries it.
    pub id: RequestId,
    /// Tokens of the prompt, special tokens included.
    pub prompt_token_ids: Vec<u32>,
    /// Number of samples, how they are drawn, and when they end.
    pub params: SamplingParams,
    /// Priority: requests with a higher value start earlier, equal ones in order of arrival.
    pub priority: i32,
    /// Maximum time from submission on; samples that are unfinished then end with
    /// `FinishReason::Abort`.
    pub timeout: Option<Duration>,
}

impl Request {
    /// A request with priority 0 and no timeout.
    pub fn new(id: RequestId, prompt_token_ids: Vec<u32>, params: SamplingParams) -> Self {
        Self { id, prompt_token_ids, params, priority: 0, timeout: None }
    }
}

/// A finished sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The sample's request.
    pub request_id: RequestId,
    /// Index among the request's samples, from 0.
    pub index: u32,
    /// Sampled tokens, including the token that ended the sample.
    pub token_ids: Vec<u32>,
    /// Log-probability of each sampled token under the untempered softmax over the whole
    /// vocabulary: `logprobs[t]` belongs to `token_ids[t]`.
    pub logprobs: Vec<f32>,
    /// Log-probability of each sampled token under the distribution that it was drawn from:
    /// tempered, renormalised over the tokens that top-k and top-p keep; 0 at temperature 0.
    pub behaviour_logprobs: Vec<f32>,
    /// Text of the tokens, without special tokens and without the stop string.
    pub text: String,
    /// Why the sample ended.
    pub finish_reason: FinishReason,
    /// Number of prompt tokens.
    pub prompt_tokens: usize,
    /// Number of prompt tokens whose keys and values were cached or shared with another sample.
    pub cached_prompt_tokens: usize,
    /// Time from the first step that computed the request to the end of the sample, in ms.
    pub latency_ms: f64,
}

/// Counters of an engine's work, and the state of its key/value memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Number of prompt tokens of all started requests.
    pub prompt_tokens: u64,
    /// Number of prompt tokens that were computed; the others came from the prefix cache.
    pub computed_prompt_tokens: u64,
    /// Number of preemptions: samples whose memory was taken and that were computed again.
    pub preemptions: u64,
    /// Capacity of the key/value memory in tokens.
    pub kv_tokens: usize,
    /// Capacity of the free blocks in tokens.
    pub kv_free_tokens: usize,
    /// Capacity of the blocks that only the prefix cache holds, in tokens.
    pub kv_cached_tokens: usize,
}
