//! Errors of the engine, named by what the caller can do about them.

use std::path::{Path, PathBuf};

/// Errors of reading, running and writing models.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file that violates its format.
    #[error("{}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// The violation.
        reason: String,
    },
    /// A model's configuration lacks a key or holds an impossible value.
    #[error("{}: {reason}", path.display())]
    BadConfig {
        /// The configuration file.
        path: PathBuf,
        /// The key, the value seen and the value wanted.
        reason: String,
    },
    /// A valid file or request that needs a feature this engine lacks.
    #[error("{what} is not supported{}", advice.map(|it| format!("; {it}")).unwrap_or_default())]
    Unsupported {
        /// The feature, and where it is needed: a noun, as `rope_scaling of type x`.
        what: String,
        /// What to do instead, where there is something.
        advice: Option<&'static str>,
    },
    /// A checkpoint without a tensor that its configuration requires.
    #[error("tensor {name} is missing from the checkpoint{}", in_path(path))]
    MissingTensor {
        /// The tensor's name in the checkpoint.
        name: String,
        /// The checkpoint; empty if not known.
        path: PathBuf,
    },
    /// A tensor whose shape differs from the configuration's.
    #[error("tensor {name} has shape {seen:?}, the configuration wants {wanted:?}")]
    Shape {
        /// The tensor's name in the checkpoint.
        name: String,
        /// Its shape in the file.
        seen: Vec<i64>,
        /// The shape that the configuration requires.
        wanted: Vec<i64>,
    },
    /// A tensor whose number format or values contradict the configuration.
    #[error("tensor {name} {reason}")]
    BadTensor {
        /// The tensor's name in the checkpoint.
        name: String,
        /// The contradiction.
        reason: String,
    },
    /// A configuration with a quantization and a checkpoint without FP8 tensors.
    #[error("no tensor is FP8, but config.json has a quantization_config; remove that key")]
    NotFp8,
    /// A prompt that does not fit into the context.
    #[error(
        "the prompt has {tokens} tokens, the context holds {limit}; shorten it or raise max_context"
    )]
    PromptTooLong {
        /// Number of tokens of the prompt.
        tokens: usize,
        /// Maximum number of prompt tokens that leaves room for one sampled token.
        limit: usize,
    },
    /// A prompt whose size alone says that it does not fit into the context.
    #[error(
        "the prompt has {bytes} bytes, which are more than {limit} tokens; the context holds \
         {limit}; shorten it or raise max_context"
    )]
    PromptTooLarge {
        /// Size of the prompt's text.
        bytes: usize,
        /// Maximum number of prompt tokens that leaves room for one sampled token.
        limit: usize,
    },
    /// A request without prompt tokens.
    #[error("the prompt has no tokens; give it at least one (a BOS token, say)")]
    EmptyPrompt,
    /// A request or a configuration with contradictory settings.
    #[error("bad request: {0}")]
    BadRequest(String),
    /// A text that cannot be tokenized, or a broken tokenizer file.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A chat template that is missing, does not parse, or refuses the messages.
    #[error("chat template: {0}")]
    Template(String),
    /// A requested device that is missing, or that failed.
    #[error("device: {0}")]
    Device(String),
    /// An operation that libtorch refused.
    #[error("libtorch: {0}")]
    Tensor(#[from] tch::TchError),
    /// A model whose output is NaN or infinite: its weights are broken, or overflow in their number
    /// format.
    #[error("the model gives a log-probability of {logprob}; its weights hold NaN or overflow")]
    NotFinite {
        /// The log-probability of the sampled token.
        logprob: f32,
    },
    /// A model that does not fit into the device's memory together with its intermediate results
    /// and its keys and values.
    #[error(
        "the model takes {} GiB, intermediate results and libraries {} GiB, \
         keys and values {} GiB, and the device has {} GiB; set {mends}a smaller step_tokens, \
         max_batch, max_context or kv_memory_mib, or use a larger device",
        gib(weights),
        gib(buffers),
        gib(kv),
        gib(memory)
    )]
    OutOfMemory {
        /// Memory of the device, in bytes.
        memory: usize,
        /// Bytes of the weights.
        weights: usize,
        /// Bytes of intermediate results and of the device's libraries.
        buffers: usize,
        /// Bytes of keys and values.
        kv: usize,
        /// Settings that need less memory and are not set yet, each followed by a comma.
        mends: &'static str,
    },
    /// A weight matrix to be quantised, or a scale, with NaN or infinite values.
    #[error("tensor {name} holds NaN or infinite values")]
    InfiniteWeight {
        /// The tensor's name in the checkpoint.
        name: String,
    },
    /// A full queue of waiting requests.
    #[error("the queue is full with {limit} requests; try again later")]
    QueueFull {
        /// Capacity of the queue, in requests.
        limit: usize,
    },
}

impl Error {
    /// Adds the model's path to an error about one of its tensors.
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

    /// A feature, named by a noun, that this engine lacks.
    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), advice: None }
    }

    /// An I/O error with the path at which it happened.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// A file that violates its format.
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
