//! How servers are asked for a group, by their kind.
//!
//! It does not know which answers are right.

mod sglang;
mod vllm;

use std::time::Duration;

use joust_engine::SamplingParams;
use joust_fleet::{BadAnswer, RequestError, ServerClient};
use serde_json::Value;

use super::answer::Answered;
use crate::config::SamplerKind;

/// Maximum time of the question which weights a server holds.
const LABEL_TIMEOUT: Duration = Duration::from_secs(20);

/// A kind of server.
pub(super) enum Wire {
    /// With the name that servers give the policy.
    Vllm {
        model: String,
    },
    Sglang,
}

/// What is asked for.
pub(super) struct WireRequest<'a> {
    pub(super) prompt_token_ids: &'a [u32],
    /// How it is sampled; the number of samples is `n_choices`.
    pub(super) params: &'a SamplingParams,
    pub(super) n_choices: usize,
    /// Tokens that end a completion.
    pub(super) end_tokens: Vec<u32>,
}

impl WireRequest<'_> {
    /// Seed of the first choice. Servers take no seeds above i64, and add up to `n_choices`.
    fn seed(&self) -> i64 {
        (self.params.seed >> 2) as i64
    }

    /// As servers write "all tokens".
    fn top_k(&self) -> i64 {
        match self.params.top_k {
            0 => -1,
            top_k => top_k as i64,
        }
    }
}

impl Wire {
    pub(super) fn new(kind: SamplerKind, model: String) -> Self {
        match kind {
            SamplerKind::Sglang => Self::Sglang,
            SamplerKind::Vllm | SamplerKind::Engine => Self::Vllm { model },
        }
    }

    /// Path of a call.
    pub(super) fn path(&self) -> &'static str {
        match self {
            Self::Vllm { .. } => vllm::PATH,
            Self::Sglang => sglang::PATH,
        }
    }

    /// Body of a call.
    pub(super) fn body(&self, request: &WireRequest<'_>) -> Value {
        match self {
            Self::Vllm { model } => vllm::body(model, request),
            Self::Sglang => sglang::body(request),
        }
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`BadAnswer`] where fields are missing or of another type.
    pub(super) fn read(&self, answer: &Value) -> Result<Answered, BadAnswer> {
        match self {
            Self::Vllm { .. } => vllm::read(answer),
            Self::Sglang => sglang::read(answer),
        }
    }

    /// What a server calls the weights that it holds now.
    ///
    /// # Errors
    /// As [`ServerClient::get`].
    pub(super) async fn label(&self, server: &ServerClient) -> Result<String, RequestError> {
        let path = match self {
            Self::Vllm { .. } => vllm::LABEL_PATH,
            Self::Sglang => sglang::LABEL_PATH,
        };
        let url = format!("{}/{path}", server.base());
        let info = server.get(&url, LABEL_TIMEOUT).await?;
        let label = info["weight_version"].as_str().map(str::to_owned);
        label.ok_or_else(|| RequestError::Failed(format!("{url}: no weight_version"), None))
    }
}

/// A list of token ids.
fn token_ids(value: &Value) -> Option<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    value.as_array()?.iter().map(id).collect()
}
