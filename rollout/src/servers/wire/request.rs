//! What is asked of a server, whatever its kind, and how lists of tokens are read.

use joust_engine::SamplingParams;
use serde_json::Value;

/// What is asked for.
pub(in crate::servers) struct WireRequest<'a> {
    pub(in crate::servers) prompt_token_ids: &'a [u32],
    /// How it is sampled; the number of samples is `n_choices`.
    pub(in crate::servers) params: &'a SamplingParams,
    pub(in crate::servers) n_choices: usize,
    /// Tokens that end a completion.
    pub(in crate::servers) end_tokens: Vec<u32>,
}

impl WireRequest<'_> {
    /// Seed of the first choice. Servers take no seeds above i64, and add up to `n_choices`.
    pub(super) fn seed(&self) -> i64 {
        (self.params.seed >> 2) as i64
    }

    /// As servers write "all tokens".
    pub(super) fn top_k(&self) -> i64 {
        match self.params.top_k {
            0 => -1,
            top_k => top_k as i64,
        }
    }
}

/// A list of token ids.
pub(super) fn token_ids(value: &Value) -> Option<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    value.as_array()?.iter().map(id).collect()
}
