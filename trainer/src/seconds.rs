//! Where the time of training goes.

/// Seconds that a trainer has spent, by part. On a GPU, work counts where its result is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrainSeconds {
    /// Log-probabilities that stay fixed: of the old policy and the reference.
    pub fixed_s: f64,
    /// Forward passes and losses.
    pub forward_s: f64,
    /// Gradients.
    pub backward_s: f64,
    /// Updates of the weights.
    pub optimizer_s: f64,
}

impl TrainSeconds {
    /// All parts together.
    pub fn total(&self) -> f64 {
        self.fixed_s + self.forward_s + self.backward_s + self.optimizer_s
    }
}
