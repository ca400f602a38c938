//! What is minimised per token: the importance ratio and the advantage in one expression.
//!
//! Notation per token: w = importance ratio, l and o = current and old log-probability,
//! p = exp(l), A = advantage, sg = no gradient. It does not know how the ratio was taken, nor how
//! tokens become one number.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::rows::{masked_mean, masked_sum};

/// The loss of one token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Surrogate {
    /// −min(w·A, clip(w, 1 − low, 1 + high)·A), the clipped ratio of PPO (arXiv 1707.06347).
    Clip(ClipBounds),
    /// −sg(clip(w, min, max))·A·l (CISPO, arXiv 2506.13585): no token loses its gradient.
    Cispo(CispoBounds),
    /// −sigmoid(τ·(w − 1))·4/τ·A, a gate in place of a clip (SAPO, arXiv 2511.20347).
    Sapo(SapoTemperatures),
    /// −sg(min(w, 20))·A·l where the probability has not moved too far in the direction of the
    /// advantage: p − exp(o) ≤ high for A > 0, ≥ −low otherwise (DPPO with total variation,
    /// arXiv 2602.04879).
    DppoTv(ProbabilityBounds),
    /// −A·exp(mean over tokens of s·min(s·n, s·clip(n, −low, high))) with n = l − o and s the sign
    /// of A: the geometric mean of the clipped ratios (GMPO, arXiv 2507.20673).
    Gmpo(LogBounds),
    /// −sg(φ)·A·l with the weight φ = exp(λ + k·v − λ·exp(v)) of a completion, v = the sum of l − o
    /// (VESPO, arXiv 2602.10693).
    Vespo(VespoShape),
    /// −A·l, without any ratio (REINFORCE).
    Reinforce(NoBounds),
    /// −A·l + β/2·(l − o)² (direct reward optimisation, arXiv 2405.19107).
    Dro(DroPenalty),
}

/// Bounds of the clipped ratio.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClipBounds {
    /// Distance below 1 at which the ratio is clipped.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub low: f64,
    /// Distance above 1 at which the ratio is clipped. Default: `low`.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub high: Option<f64>,
    /// Upper bound of the unclipped ratio, for tokens of either sign (TRL's `delta`, INTELLECT-2).
    #[schemars(range(min = 1.0, max = 1e6))]
    pub delta: Option<f64>,
    /// Bound c of the loss where the advantage is negative: at most −c·A (dual clip,
    /// arXiv 1912.09729; 3 in verl).
    #[schemars(range(min = 1.0, max = 1e6))]
    pub dual: Option<f64>,
}

impl Default for ClipBounds {
    fn default() -> Self {
        Self { low: 0.2, high: None, delta: None, dual: None }
    }
}

/// Bounds of the weight of CISPO.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CispoBounds {
    /// Smallest weight.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min: f64,
    /// Largest weight.
    #[schemars(range(min = 1.0, max = 1e6))]
    pub max: f64,
}

impl Default for CispoBounds {
    fn default() -> Self {
        Self { min: 0.0, max: 5.0 }
    }
}

/// Temperatures of SAPO's gate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SapoTemperatures {
    /// For positive advantages.
    #[schemars(range(min = 1e-3, max = 1e3))]
    pub positive: f64,
    /// For others.
    #[schemars(range(min = 1e-3, max = 1e3))]
    pub negative: f64,
}

impl Default for SapoTemperatures {
    fn default() -> Self {
        Self { positive: 1.0, negative: 1.05 }
    }
}

/// How far a probability may move.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProbabilityBounds {
    /// Downwards.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub low: f64,
    /// Upwards.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub high: f64,
}

impl Default for ProbabilityBounds {
    fn default() -> Self {
        Self { low: 0.2, high: 0.2 }
    }
}

/// Bounds of the difference of log-probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogBounds {
    /// Distance below 0.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub low: f64,
    /// Distance above 0.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub high: f64,
}

impl Default for LogBounds {
    fn default() -> Self {
        Self { low: 0.4, high: 0.4 }
    }
}

/// Shape of VESPO's weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VespoShape {
    /// k for positive advantages.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub k_positive: f64,
    /// λ for positive advantages.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub lambda_positive: f64,
    /// k for others.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub k_negative: f64,
    /// λ for others.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub lambda_negative: f64,
}

impl Default for VespoShape {
    fn default() -> Self {
        Self { k_positive: 2.0, lambda_positive: 3.0, k_negative: 3.0, lambda_negative: 2.0 }
    }
}

/// REINFORCE has no constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NoBounds {}

/// The penalty of DRO.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DroPenalty {
    /// β.
    #[schemars(range(min = 0.0, max = 1e3))]
    pub beta: f64,
}

impl Default for DroPenalty {
    fn default() -> Self {
        Self { beta: 0.1 }
    }
}

/// What a surrogate is computed from: [B, C], but `log_ratio` and `advantages` may be [B, 1].
pub(super) struct TokenTerms<'a> {
    pub(super) logprobs: &'a Tensor,
    pub(super) old: &'a Tensor,
    pub(super) log_ratio: &'a Tensor,
    pub(super) advantages: &'a Tensor,
    pub(super) mask: &'a Tensor,
}

/// Largest ratio of DPPO, and largest logarithm of VESPO's weight, as in the references.
const MAX_RATIO: f64 = 20.0;
const MAX_LOG_RATIO: f64 = 20.0;
const MIN_WEIGHT: f64 = 1e-8;

impl Surrogate {
    /// Loss of each token, [B, C], or of all tokens of a completion alike, [B, 1].
    pub(super) fn per_token(&self, terms: &TokenTerms<'_>) -> Tensor {
        let TokenTerms { logprobs, old, log_ratio, advantages, mask } = *terms;
        match self {
            Self::Clip(bounds) => bounds.per_token(&log_ratio.exp(), advantages),
            Self::Cispo(bounds) => {
                -log_ratio.exp().clamp(bounds.min, bounds.max).detach() * advantages * logprobs
            }
            Self::Sapo(temperatures) => {
                let tau = by_sign(advantages, temperatures.positive, temperatures.negative);
                -(&tau * (log_ratio.exp() - 1.0)).sigmoid() * 4.0 / tau * advantages
            }
            Self::DppoTv(bounds) => {
                let moved = (logprobs.exp() - old.exp()).detach();
                let up = moved.le(bounds.high).logical_and(&advantages.gt(0.0));
                let down = moved.ge(-bounds.low).logical_and(&advantages.le(0.0));
                let kept = up.logical_or(&down).to_kind(logprobs.kind());
                -log_ratio.exp().clamp_max(MAX_RATIO).detach() * advantages * logprobs * kept
            }
            Self::Gmpo(bounds) => {
                let sign = advantages.sign();
                let signed = &sign * (logprobs - old);
                let clipped = &sign * (logprobs - old).clamp(-bounds.low, bounds.high);
                let mean = masked_mean(&(sign * signed.minimum(&clipped)), mask); // [B, 1]
                -mean.exp() * advantages
            }
            Self::Vespo(shape) => {
                let difference = (logprobs - old).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO);
                let log = masked_sum(&difference, mask); // [B, 1]
                let log = log.clamp(MIN_WEIGHT.ln(), MAX_LOG_RATIO);
                let k = by_sign(advantages, shape.k_positive, shape.k_negative);
                let lambda = by_sign(advantages, shape.lambda_positive, shape.lambda_negative);
                let weight = (&lambda + k * &log - &lambda * log.exp()).exp();
                -weight.detach() * advantages * logprobs
            }
            Self::Reinforce(NoBounds {}) => -(advantages * logprobs),
            Self::Dro(penalty) => {
                (logprobs - old).square() * (penalty.beta / 2.0) - advantages * logprobs
            }
        }
    }

    /// The ratios between which a token is not clipped, for the metrics; `None` if the surrogate
    /// has no such bounds.
    pub(super) fn unclipped(&self) -> Option<(f64, f64)> {
        match self {
            Self::Clip(bounds) => Some((1.0 - bounds.low, 1.0 + bounds.high())),
            Self::Cispo(bounds) => Some((bounds.min, bounds.max)),
            Self::Gmpo(bounds) => Some(((-bounds.low).exp(), bounds.high.exp())),
            _ => None,
        }
    }
}

impl ClipBounds {
    fn high(&self) -> f64 {
        self.high.unwrap_or(self.low)
    }

    fn per_token(&self, ratio: &Tensor, advantages: &Tensor) -> Tensor {
        let unclipped = match self.delta {
            Some(delta) => ratio.clamp_max(delta) * advantages,
            None => ratio * advantages,
        };
        let clipped = ratio.clamp(1.0 - self.low, 1.0 + self.high()) * advantages;
        let loss = -unclipped.minimum(&clipped);
        match self.dual {
            None => loss,
            Some(bound) => {
                let bounded = loss.minimum(&(advantages * -bound));
                bounded.where_self(&advantages.lt(0.0), &loss)
            }
        }
    }
}

/// One of two numbers by the sign of the advantage, in its shape.
fn by_sign(advantages: &Tensor, positive: f64, other: f64) -> Tensor {
    let ones = advantages.ones_like();
    (&ones * positive).where_self(&advantages.gt(0.0), &(ones * other))
}
