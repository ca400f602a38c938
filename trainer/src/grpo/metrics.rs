//! A step's metrics, under the names that TRL's users know.

use super::rows::ScoredColumns;
use crate::advantage::{are_equal, deviation, mean};
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

    /// The metrics of the updates.
    pub(super) fn metrics(&self) -> Metrics {
        let n_updates = self.n_updates.max(1.0);
        let mut metrics = Metrics::new();
        let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
        put("updates", self.n_updates);
        put("loss", self.loss / n_updates);
        if self.has_updates() {
            put("grad_norm", self.grad_norm / n_updates);
            put("learning_rate", self.lr);
        }
        metrics
    }
}

/// The metrics of a step in which there was nothing to learn.
pub(super) fn without_updates() -> Metrics {
    Metrics::from([("updates".to_owned(), 0.0), ("loss".to_owned(), 0.0)])
}

/// The metrics of rewards and completions, known before any update.
pub(super) fn reward_metrics(columns: &ScoredColumns<'_>) -> Metrics {
    let rewards = columns.rewards();
    let known: Vec<f64> = rewards.iter().flatten().copied().collect();
    let of_group = |rows: std::ops::Range<usize>| {
        rewards[rows].iter().flatten().copied().collect::<Vec<f64>>()
    };
    let groups: Vec<Vec<f64>> = columns.groups.iter().map(of_group).collect();
    let deviations: Vec<f64> = groups.iter().map(|rewards| deviation(rewards)).collect();
    let n_groups = groups.len().max(1) as f64;
    let lengths = columns.completion_lengths();
    let lengths: Vec<f64> = lengths.into_iter().map(|n_tokens| n_tokens as f64).collect();
    let ended = lengths.iter().zip(columns.ended()).filter(|(_, ended)| *ended);
    let ended: Vec<f64> = ended.map(|(length, _)| *length).collect();
    let mut metrics = Metrics::new();
    let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
    if !known.is_empty() {
        put("reward", mean(&known));
        put("reward_std", mean(&deviations));
    }
    let n_without_spread = groups.iter().filter(|rewards| are_equal(rewards)).count();
    put("frac_reward_zero_std", n_without_spread as f64 / n_groups);
    put("frac_reward_missing", 1.0 - known.len() as f64 / rewards.len().max(1) as f64);
    if lengths.is_empty() {
        return metrics;
    }
    put("completions/mean_length", mean(&lengths));
    put("completions/min_length", lengths.iter().copied().fold(f64::INFINITY, f64::min));
    put("completions/max_length", lengths.iter().copied().fold(0.0, f64::max));
    put("completions/clipped_ratio", 1.0 - ended.len() as f64 / lengths.len() as f64);
    if !ended.is_empty() {
        put("completions/mean_terminated_length", mean(&ended));
    }
    metrics
}
