//! How far the trainer's probabilities of sampled tokens are from the sampler's.
//!
//! Notation per token: o = log-probability that the trainer gives it, s = that with which it was
//! drawn, w = exp(o − s). It knows no loss.

use joust_dist::Collectives;
use tch::{Kind, Tensor};

use super::sums::add_ranks;
use crate::error::Error;
use crate::metrics::Metrics;

/// Sums over tokens.
#[derive(Default)]
pub(super) struct Mismatch {
    n_tokens: f64,
    distance: f64,
    distance_max: f64,
    kl: f64,
    weight: f64,
    weight_squared: f64,
}

impl Mismatch {
    /// Adds tokens: the trainer's log-probabilities and the sampler's, `[M]` each.
    pub(super) fn add(&mut self, logprobs: &Tensor, behaviour: &Tensor) {
        let difference = logprobs.detach().to_kind(Kind::Double) - behaviour;
        let weights = difference.exp();
        let sum = |values: &Tensor| values.sum(Kind::Double).double_value(&[]);
        let distances = difference.abs();
        self.n_tokens += difference.numel() as f64;
        self.distance += sum(&distances);
        self.distance_max = self.distance_max.max(distances.max().double_value(&[]));
        self.kl += sum(&(&weights - 1.0 - &difference));
        self.weight += sum(&weights);
        self.weight_squared += sum(&weights.square());
    }

    /// Adds the tokens of all ranks.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    pub(super) fn reduce(&mut self, ranks: &Collectives) -> Result<(), Error> {
        let Self { n_tokens, distance, kl, weight, weight_squared, .. } = self;
        add_ranks([n_tokens, distance, kl, weight, weight_squared], ranks)?;
        Ok(ranks.max_f64(std::slice::from_mut(&mut self.distance_max))?)
    }

    /// Mean and largest |o − s|; the divergence of the sampler from the trainer, mean of w − 1 −
    /// (o − s) (Schulman, "Approximating KL divergence", 2020: k3); and the effective sample size
    /// (Σw)² / (n·Σw²) (Kish, "Survey Sampling", 1965).
    pub(super) fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::new();
        if self.n_tokens == 0.0 {
            return metrics;
        }
        let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
        put("sampling/sampling_logp_difference/mean", self.distance / self.n_tokens);
        put("sampling/sampling_logp_difference/max", self.distance_max);
        put("sampling/kl", self.kl / self.n_tokens);
        let effective = self.weight * self.weight / (self.n_tokens * self.weight_squared);
        put("sampling/effective_sample_size", effective);
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_those_of_the_definitions() {
        let mut mismatch = Mismatch::default();
        assert!(mismatch.metrics().is_empty());
        mismatch.add(&Tensor::from_slice(&[-1.0f64, -2.0]), &Tensor::from_slice(&[-1.5f32, -2.0]));
        mismatch.add(&Tensor::from_slice(&[-0.25f64]), &Tensor::from_slice(&[0.0f32]));
        let metrics = mismatch.metrics();
        let weights = [0.5f64.exp(), 1.0, (-0.25f64).exp()];
        let sum: f64 = weights.iter().sum();
        let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
        for (name, wanted) in [
            ("sampling/sampling_logp_difference/mean", 0.25),
            ("sampling/sampling_logp_difference/max", 0.5),
            ("sampling/kl", (sum - 3.0 - 0.25) / 3.0),
            ("sampling/effective_sample_size", sum * sum / (3.0 * squares)),
        ] {
            assert!((metrics[name] - wanted).abs() < 1e-12, "{name} {}", metrics[name]);
        }
    }
}
