//! Errors of scoring, named by what the caller can do about them.
//!
//! A failed call of the judge is not an error of scoring: it is a missing vote, and a status in the
//! result.

/// What keeps a process from those that judge with it.
pub type PoolError = Box<dyn std::error::Error + Send + Sync>;

/// A failure to score.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is wrong.
    #[error("{0}")]
    Config(String),
    /// A group cannot be scored.
    #[error("group {group_id}: {reason}")]
    Group {
        /// The group.
        group_id: String,
        /// The reason.
        reason: String,
    },
    /// The judge's model or its tokenizer cannot be loaded.
    #[error("{key}: {source}")]
    Model {
        /// The config key that names its place.
        key: &'static str,
        /// The reason.
        source: joust_engine::Error,
    },
    /// The judge's model or its tokenizer failed.
    #[error("judge: {0}")]
    Engine(#[from] joust_engine::Error),
    /// The processes that judge a step together cannot reach each other.
    #[error("{0}")]
    Pool(PoolError),
    /// A table is wrong, or a file cannot be read or written.
    #[error(transparent)]
    Schema(#[from] joust_schema::Error),
}
