//! How servers are asked for a group, by their kind.
//!
//! It does not know which answers are right.

mod request;
mod sglang;
mod vllm;

use std::time::Duration;

use joust_fleet::{BadAnswer, RequestError, ServerClient};
use serde_json::Value;

use super::answer::Answered;
use crate::config::SamplerKind;
pub(super) use request::WireRequest;

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
