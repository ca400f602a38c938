//! A step's figures, under the names that TRL's users know.

use std::collections::BTreeMap;

use joust_schema::ids::GroupId;
use joust_schema::tables::{FinishReason, Reward, Rollout};
use tch::{Kind, Tensor};

use crate::Metrics;
use crate::advantage::deviation;

/// Sums over a step for its figures.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) loss: f64,
    pub(super) grad_norm: f64,
    pub(super) lr: f64,
    pub(super) n_updates: f64,
    pub(super) n_tokens: f64,
    pub(super) entropy: f64,
    pub(super) kl: f64,
    pub(super) clipped_low: f64,
    pub(super) clipped_high: f64,
    pub(super) logprob_difference: f64,
    pub(super) logprob_difference_max: f64,
    pub(super) n_compared: f64,
}

impl Sums {
    /// How far the trainer's log-probabilities are from those recorded at sampling time.
    pub(super) fn compare(&mut self, logprobs: &Tensor, sampled: &[f32]) {
        let sampled = Tensor::from_slice(sampled).to_device(logprobs.device());
        let difference = (logprobs.detach() - sampled).abs();
        self.logprob_difference += difference.sum(Kind::Double).double_value(&[]);
        self.logprob_difference_max =
            self.logprob_difference_max.max(difference.max().double_value(&[]));
        self.n_compared += difference.numel() as f64;
    }

    pub(super) fn metrics(&self, has_reference: bool) -> Metrics {
        let n_updates = self.n_updates.max(1.0);
        let mut metrics = Metrics::new();
        let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
        put("updates", self.n_updates);
        put("loss", self.loss / n_updates);
        if self.n_updates > 0.0 {
            let n_tokens = self.n_tokens.max(1.0);
            put("grad_norm", self.grad_norm / n_updates);
            put("learning_rate", self.lr);
            put("entropy", self.entropy / n_tokens);
            put("clip_ratio/low_mean", self.clipped_low / n_tokens);
            put("clip_ratio/high_mean", self.clipped_high / n_tokens);
            put("clip_ratio/region_mean", (self.clipped_low + self.clipped_high) / n_tokens);
            if has_reference {
                put("kl", self.kl / n_tokens);
            }
        }
        if self.n_compared > 0.0 {
            put(
                "sampling/sampling_logp_difference/mean",
                self.logprob_difference / self.n_compared,
            );
            put("sampling/sampling_logp_difference/max", self.logprob_difference_max);
        }
        metrics
    }
}

/// What is known of a step before any update, under the names that TRL's users know.
pub(super) fn reward_metrics(rollouts: &[Rollout], rewards: &[Reward]) -> Metrics {
    let scored: Vec<f64> = rewards.iter().filter_map(|reward| reward.reward).collect();
    let mut groups: BTreeMap<&GroupId, Vec<f64>> = BTreeMap::new();
    for reward in rewards {
        groups.entry(&reward.group_id).or_default().extend(reward.reward);
    }
    let n_groups = groups.len().max(1) as f64;
    let deviations: Vec<f64> = groups.values().map(|group| deviation(group)).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let lengths: Vec<f64> =
        rollouts.iter().map(|rollout| rollout.completion_token_ids.len() as f64).collect();
    let ended: Vec<f64> = rollouts
        .iter()
        .filter(|rollout| rollout.finish_reason == FinishReason::Stop)
        .map(|rollout| rollout.completion_token_ids.len() as f64)
        .collect();
    let mut metrics = Metrics::new();
    let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
    if !scored.is_empty() {
        put("reward", mean(&scored));
        put("reward_std", mean(&deviations));
    }
    let without_spread = deviations.iter().filter(|deviation| **deviation < 1e-8).count();
    put("frac_reward_zero_std", without_spread as f64 / n_groups);
    put("frac_reward_missing", 1.0 - scored.len() as f64 / rewards.len().max(1) as f64);
    if lengths.is_empty() {
        return metrics;
    }
    put("completions/mean_length", mean(&lengths));
    put("completions/min_length", lengths.iter().copied().fold(f64::INFINITY, f64::min));
    put("completions/max_length", lengths.iter().copied().fold(0.0, f64::max));
    put("completions/clipped_ratio", 1.0 - ended.len() as f64 / rollouts.len().max(1) as f64);
    if !ended.is_empty() {
        put("completions/mean_terminated_length", mean(&ended));
    }
    metrics
}
