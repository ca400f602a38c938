//! Prompts in, groups of completions out.
//!
//! Reads prompt files, renders chats, and samples one group of completions per prompt from a
//! policy, on worker threads. It does not know rewards.

#![forbid(unsafe_code)]

mod config;
mod error;
mod group;
mod prompts;
mod sampler;
mod sampling;
mod servers;
mod workers;

pub use config::{
    ChatTemplateUse, IdColumn, PromptsConfig, RolloutConfig, SamplerKind, ServersConfig,
    WeightsDType, WeightsVia,
};
pub use error::Error;
pub use group::{DroppedPrompt, RolloutBatch, RolloutGroup};
pub use prompts::row::{PromptNeeds, PromptRow};
pub use prompts::{PromptCursor, PromptSource};
pub use sampler::{Sampler, SamplerCounts};
pub use sampling::request::{GenerateRequest, RolloutProgress};
pub use sampling::{Sampling, SamplingEvent};
pub use servers::{PolicyServers, ServedPolicy, ServerFault, ServerSampler, StartId};
pub use workers::RolloutWorkers;
