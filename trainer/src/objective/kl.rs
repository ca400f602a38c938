//! Estimates of the divergence from the reference, per token.
//!
//! It does not know where the estimate is added.

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

/// The term that keeps the policy near the reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KlTerm {
    /// Weight in the loss. 0: no reference policy is loaded.
    #[schemars(range(min = 0.0, max = 1e3))]
    pub weight: f64,
    /// The estimate.
    pub estimator: KlEstimator,
    /// Whether the gradient is that of `k2` and only the value that of the estimator (verl's `k1+`,
    /// `k3+`).
    pub straight_through: bool,
    /// Whether the estimate is multiplied by the importance ratio, which removes its bias for
    /// completions of an older policy (DeepSeek-V3.2).
    pub by_ratio: bool,
}

impl Default for KlTerm {
    fn default() -> Self {
        let estimator = KlEstimator::default();
        Self { weight: 0.0, estimator, straight_through: false, by_ratio: true }
    }
}

impl KlTerm {
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
