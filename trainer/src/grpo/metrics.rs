//! The metrics of a step's updates, under the names that TRL's users know.

use crate::metrics::Metrics;

/// Sums over the updates of a step.
#[derive(Default)]
pub(super) struct UpdateSums {
    loss: f64,
    grad_norm: f64,
    /// Learning rate of the last update.
    lr: f64,
    n_updates: f64,
}

impl UpdateSums {
    /// Adds an update.
    pub(super) fn add(&mut self, loss: f64, grad_norm: f64, lr: f64) {
        self.loss += loss;
        self.grad_norm += grad_norm;
        self.lr = lr;
        self.n_updates += 1.0;
    }

    /// Whether there was an update.
    pub(super) fn has_updates(&self) -> bool {
        self.n_updates > 0.0
    }

    /// The metrics of the updates; the number alone where there is none.
    pub(super) fn metrics(&self) -> Metrics {
        let n_updates = self.n_updates;
        let mut metrics = Metrics::from([("updates".to_owned(), n_updates)]);
        let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
        if self.has_updates() {
            put("loss", self.loss / n_updates);
            put("grad_norm", self.grad_norm / n_updates);
            put("learning_rate", self.lr);
        }
        metrics
    }
}
