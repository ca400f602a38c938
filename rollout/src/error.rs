//! What can go wrong between a prompt file and a group, named by what the caller can do about it.

use std::path::PathBuf;

/// A failure to read prompts or to sample completions.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A prompt file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Prompts {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        reason: String,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// A worker thread failed; the others still work.
    #[error("rollout worker {worker}: {reason}")]
    Worker {
        /// Number of the worker.
        worker: usize,
        /// What happened to it.
        reason: String,
    },
    /// Servers that sample gave no group, or not from the newest version of the policy.
    #[error("rollout.servers: {0}")]
    Servers(String),
    /// A server that samples cannot, or not from the newest version of the policy.
    #[error("rollout.servers: {0}")]
    ServerFault(#[from] crate::servers::control::fault::ServerFault),
    /// The caller cancelled the sampling.
    #[error("the sampling was cancelled")]
    Cancelled,
    /// The policy or its tokenizer.
    #[error(transparent)]
    Engine(#[from] joust_engine::Error),
    /// Tables or files.
    #[error(transparent)]
    Schema(#[from] joust_schema::Error),
}
