//! Estimates of the divergence from the reference, per token.
//!
//! An estimate is added to the loss, or taken out of the rewards as a number.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// An estimate of the KL divergence from samples: with l = log-probability of the policy, q = that
/// of the reference (Schulman, "Approximating KL divergence", 2020).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// l − q. Unbiased; its gradient is not that of the divergence.
    K1,
    /// |l − q|.
    Abs,
    /// (l − q)² / 2. Its gradient is that of the divergence.
    K2,
    /// exp(q − l) − (q − l) − 1. Unbiased and never negative.
    #[default]
    K3,
}

/// Where the divergence counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KlPlace {
    /// Its estimate is added to the loss of each token, with its gradient.
    #[default]
    Loss,
    /// Its estimate before the step's first update is subtracted from rewards: the sum over the
    /// tokens from that of the completion, before advantages are made (TRL's `RLOOTrainer`; verl's
    /// `use_kl_in_reward`). With the baseline `none` and `scale_rewards` `whiten`, each token has
    /// the reward minus the estimates from itself on (REINFORCE++). Recorded rewards stay as they
    /// are. TRL and verl take the estimate `k1`.
    Reward,
}

/// The term that keeps the policy near the reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KlTerm {
    /// Weight of the divergence. 0: no reference policy is loaded.
    #[schemars(range(min = 0.0, max = 1e3))]
    pub weight: f64,
    /// The estimate.
    pub estimator: KlEstimator,
    /// Where it counts.
    pub place: KlPlace,
    /// Whether the gradient in the loss is that of `k2` and only the value that of the estimator
    /// (verl's `k1+`, `k3+`).
    pub straight_through: bool,
    /// Whether the estimate in the loss is multiplied by the importance ratio, which removes its
    /// bias for completions of an older policy (DeepSeek-V3.2).
    pub by_ratio: bool,
}

impl Default for KlTerm {
    fn default() -> Self {
        let estimator = KlEstimator::default();
        let place = KlPlace::default();
        Self { weight: 0.0, estimator, place, straight_through: false, by_ratio: true }
    }
}

impl KlTerm {
    /// Weight in the loss; 0 where the divergence is taken out of the rewards.
    pub(super) fn weight_in_loss(&self) -> f64 {
        match self.place {
            KlPlace::Loss => self.weight,
            KlPlace::Reward => 0.0,
        }
    }

    /// Whether the divergence is taken out of the rewards.
    pub(crate) fn is_in_reward(&self) -> bool {
        self.place == KlPlace::Reward && self.weight > 0.0
    }

    /// What is taken out of the reward at each token, from log-probabilities of the policy before
    /// the step's first update and of the reference.
    pub(crate) fn penalties(&self, old: &[f32], reference: &[f32]) -> Vec<f64> {
        let [old, reference] = [old, reference].map(|numbers| {
            let numbers: Vec<f64> = numbers.iter().copied().map(f64::from).collect();
            Tensor::from_slice(&numbers)
        });
        let values = self.estimator.value(&old, &reference) * self.weight;
        Vec::try_from(values).expect("a flat tensor of f64 is a list. This is a bug.")
    }

    /// What is wrong with the term, named by its key.
    pub(crate) fn contradiction(&self) -> Option<String> {
        (self.place == KlPlace::Reward && self.straight_through).then(|| {
            "straight_through is set with place = \"reward\", wanted one of them: what is taken \
             out of rewards has no gradient"
                .to_owned()
        })
    }

    /// The estimate of each token, before weight and ratio: [B, C].
    pub(super) fn per_token(&self, logprobs: &Tensor, reference: &Tensor) -> Tensor {
        let value = self.estimator.value(logprobs, reference);
        match self.straight_through {
            false => value,
            true => {
                let k2 = KlEstimator::K2.value(logprobs, reference);
                &k2 - k2.detach() + value.detach()
            }
        }
    }
}

impl KlEstimator {
    fn value(self, logprobs: &Tensor, reference: &Tensor) -> Tensor {
        let difference = logprobs - reference;
        match self {
            Self::K1 => difference,
            Self::Abs => difference.abs(),
            Self::K2 => difference.square() / 2.0,
            Self::K3 => {
                let difference = reference - logprobs;
                difference.exp() - &difference - 1.0
            }
        }
    }
}
