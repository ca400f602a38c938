//! Failures of a run, named by what the caller can do about them.

/// A failure of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A mistake in the user's config, files or folders.
    #[error("{0}")]
    Input(String),
    /// A config cannot be written as TOML.
    #[error("config: {0}")]
    Config(#[from] toml::ser::Error),
    /// Prompts or rollouts.
    #[error(transparent)]
    Rollout(#[from] joust_rollout::Error),
    /// Judging.
    #[error(transparent)]
    Reward(#[from] joust_reward::Error),
    /// Training or checkpoints.
    #[error(transparent)]
    Trainer(#[from] joust_trainer::Error),
    /// The model or its files.
    #[error(transparent)]
    Engine(#[from] joust_engine::Error),
    /// Tables or files.
    #[error(transparent)]
    Schema(#[from] joust_schema::Error),
}

impl Error {
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::Input(message.into())
    }
}
