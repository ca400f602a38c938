//! Prompts in, groups of completions out.
//!
//! Reads prompt files, renders chats, and lets worker threads sample each prompt's group from a
//! policy. It does not know what a completion is worth.

#![forbid(unsafe_code)]

mod config;
mod error;
mod group;
mod prompts;
mod workers;

pub use config::{ChatTemplate, PromptsConfig, RolloutConfig};
pub use error::Error;
pub use group::{Dropped, Group, RolloutBatch};
pub use prompts::{Cursor, PromptRow, PromptSource};
pub use workers::{GenerateRequest, Progress, RolloutWorkers};
