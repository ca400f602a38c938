//! The errors of the engine, named by what the caller can do about them.

use std::path::{Path, PathBuf};

/// Everything that can go wrong between a model folder and a sampled token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's word on it.
        source: std::io::Error,
    },
    /// A file is there but does not hold what its format promises.
    #[error("{}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A model's configuration lacks a key or holds an impossible value.
    #[error("{}: {reason}", path.display())]
    BadConfig {
        /// The configuration file.
        path: PathBuf,
        /// The key and what is wrong with it.
        reason: String,
    },
    /// The file is valid, but asks for something this engine does not do.
    #[error("{what} is not supported")]
    Unsupported {
        /// What was asked for, and where.
        what: String,
    },
    /// A checkpoint lacks a tensor that its configuration calls for.
    #[error("tensor {name} is missing from the checkpoint{}", in_path(path))]
    MissingTensor {
        /// The tensor's name in the checkpoint.
        name: String,
        /// The checkpoint, where known.
        path: PathBuf,
    },
    /// A tensor's shape is not the one that the configuration calls for.
    #[error("tensor {name} has shape {seen:?}, the configuration wants {wanted:?}")]
    Shape {
        /// The tensor's name in the checkpoint.
        name: String,
        /// Its shape in the file.
        seen: Vec<i64>,
        /// The shape that the configuration implies.
        wanted: Vec<i64>,
    },
    /// A tensor is not what the configuration says of it.
    #[error("tensor {name} {reason}")]
    BadTensor {
        /// The tensor's name in the checkpoint.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration has FP8 tensors, the checkpoint none.
    #[error("no tensor is FP8, but config.json has a quantization_config; take it out")]
    NotFp8,
    /// A prompt does not fit into the context.
    #[error(
        "the prompt has {tokens} tokens, the context holds {limit}; shorten it or raise max_context"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// The most that a prompt may have, so that one token can be sampled.
        limit: usize,
    },
    /// A request without a single prompt token.
    #[error("the prompt has no tokens; give it at least one (a BOS token, say)")]
    EmptyPrompt,
    /// A request whose settings contradict themselves.
    #[error("bad request: {0}")]
    BadRequest(String),
    /// Text could not be tokenized or the tokenizer file is broken.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A chat template is missing, broken or refused the messages.
    #[error("chat template: {0}")]
    Template(String),
    /// The device that was asked for is not there.
    #[error("device: {0}")]
    Device(String),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Tensor(#[from] tch::TchError),
    /// The model's output is no number: its weights are broken, or overflow in their number format.
    #[error("the model gives a log-probability of {logprob}; its weights hold NaN or overflow")]
    NotFinite {
        /// What it gave.
        logprob: f32,
    },
    /// A model, its intermediate results and its keys and values are larger than the device's
    /// memory.
    #[error(
        "the model takes {} GiB, intermediate results and libraries {} GiB, keys and values {} GiB, \
         and the device has {} GiB; set {mends}a smaller step_tokens, max_batch, \
         max_context or kv_memory_mib, or take a larger device",
        gib(weights),
        gib(buffers),
        gib(kv),
        gib(memory)
    )]
    OutOfMemory {
        /// What there is, in bytes.
        memory: usize,
        /// Bytes of the weights.
        weights: usize,
        /// Bytes of intermediate results and of the device's libraries.
        buffers: usize,
        /// Bytes of keys and values.
        kv: usize,
        /// Settings that take less and are not set yet, each with a comma.
        mends: &'static str,
    },
    /// A weight matrix that is to be quantised, or a scale, holds values that are no numbers.
    #[error("tensor {name} holds NaN or infinite values")]
    InfiniteWeight {
        /// The tensor's name in the checkpoint.
        name: String,
    },
    /// The waiting queue is full.
    #[error("the queue holds {limit} requests already; try again later")]
    QueueFull {
        /// Its capacity.
        limit: usize,
    },
}

impl Error {
    /// Adds the model's path to what is wrong with a tensor.
    pub(crate) fn of_model(self, model: &Path) -> Self {
        match self {
            Self::MissingTensor { name, path } if path.as_os_str().is_empty() => {
                Self::MissingTensor { name, path: model.to_owned() }
            }
            Self::Shape { .. }
            | Self::BadTensor { .. }
            | Self::InfiniteWeight { .. }
            | Self::NotFp8 => Self::bad_file(model, self.to_string()),
            other => other,
        }
    }

    /// Wraps an I/O error with the path it happened at.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// A file whose content breaks its format.
    pub fn bad_file(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::BadFile { path: path.into(), reason: reason.into() }
    }

    /// A model configuration with a missing or impossible value.
    pub fn bad_config(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::BadConfig { path: path.into(), reason: reason.into() }
    }
}

fn gib(bytes: &usize) -> String {
    format!("{:.1}", *bytes as f64 / f64::from(1 << 30))
}

fn in_path(path: &Path) -> String {
    if path.as_os_str().is_empty() { String::new() } else { format!(" {}", path.display()) }
}
