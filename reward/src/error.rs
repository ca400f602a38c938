//! What can go wrong in scoring, named by what the caller can do about it.
//!
//! A judge call that fails is no error of scoring: it is a missing vote, and a status in the
//! result.

/// A failure to score.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// A group that cannot be scored as it is.
    #[error("group {group_id}: {reason}")]
    Group {
        /// The group.
        group_id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The judge's model or its tokenizer.
    #[error("judge: {0}")]
    Engine(#[from] joust_engine::Error),
    /// Tables or files.
    #[error(transparent)]
    Schema(#[from] joust_schema::Error),
}
