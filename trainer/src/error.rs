//! What can go wrong in training, named by what the caller can do about it.

/// A failure of a training step or a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A batch is not what the trainer's contract says.
    #[error("batch: {0}")]
    Batch(String),
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// The loss is not a number; the weights have not been touched.
    #[error(
        "the loss is {loss} at update {update}; lower the learning rate or look at the rewards"
    )]
    NotFinite {
        /// The loss.
        loss: f64,
        /// Updates made before it.
        update: u64,
    },
    /// A checkpoint does not fit this run.
    #[error("checkpoint {}: {reason}", path.display())]
    Checkpoint {
        /// The checkpoint's folder.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The model or its files.
    #[error(transparent)]
    Engine(#[from] joust_engine::Error),
    /// Tables or files.
    #[error(transparent)]
    Schema(#[from] joust_schema::Error),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Tensor(#[from] tch::TchError),
}
