//! Failures of training, named by what the caller can do about them.

/// A failure of a training step or a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A batch breaks the trainer's contract.
    #[error("batch: {0}")]
    Batch(String),
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// The loss or the gradient is not finite; the weights are unchanged.
    #[error(
        "the loss is {loss} at update {update}; lower the learning rate (a run may go on with \
         another one after its newest checkpoint), or look at the rewards"
    )]
    NotFinite {
        /// The loss, or the norm of the gradient.
        loss: f64,
        /// Number of updates before it.
        update: u64,
    },
    /// An update has made weights that no model can work with. They are not saved.
    #[error(
        "after update {update} the weights are not finite, or so large that the model's logits are \
         not; nothing of them was saved: lower the learning rate (a run may go on with another \
         one after its newest checkpoint)"
    )]
    BadWeights {
        /// Number of updates, this one included.
        update: u64,
    },
    /// A checkpoint does not fit this run.
    #[error("checkpoint {}: {reason}", path.display())]
    Checkpoint {
        /// The checkpoint's folder.
        path: std::path::PathBuf,
        /// The reason.
        reason: String,
    },
    /// The model or its files.
    #[error(transparent)]
    Engine(#[from] joust_engine::Error),
    /// Tables or files.
    #[error(transparent)]
    Schema(#[from] joust_schema::Error),
    /// The other ranks of the run.
    #[error(transparent)]
    Ranks(#[from] joust_dist::Error),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Tensor(#[from] tch::TchError),
}
