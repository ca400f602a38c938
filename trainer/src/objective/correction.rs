//! Correction for a sampler whose probabilities are not the trainer's.
//!
//! Notation per token: o = log-probability that the trainer gives the token under the policy that
//! sampled, s = log-probability with which the sampler drew it, m = mask. It does not know the
//! surrogate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::rows::{masked_mean, masked_sum};

/// Whether sampling computes what training computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerNumbers {
    /// In the same number format: probabilities differ in their last digits only.
    Same,
    /// In another one: bf16 or FP8 weights, FP8 keys and values.
    Other,
}

/// The importance weights of a correction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CorrectionWeights {
    /// 1 everywhere: completions are only left out.
    None,
    /// exp(o − s) of each token.
    #[default]
    Token,
    /// exp of the sum of o − s over a completion.
    Sequence,
}

/// Weights exp(o − s) of tokens or sequences, and completions that are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Correction {
    /// The weights.
    pub weights: CorrectionWeights,
    /// Largest weight: larger ones become this one (truncated importance sampling).
    #[schemars(range(min = 0.0, max = 1e6))]
    pub truncate: Option<f64>,
    /// Smallest and largest weight: a token, or a completion, with another weight is left out
    /// (IcePop; TRL's `sequence_mask` is `[0, 3]` by sequence).
    pub mask: Option<[f64; 2]>,
    /// Smallest and largest geometric mean of exp(o − s) over a completion: others are left out.
    pub keep_sequences: Option<[f64; 2]>,
    /// A completion with a negative advantage is left out where the mean of s − l over its tokens,
    /// l = current log-probability, is larger (off-policy sequence mask, DeepSeek-V3.2).
    #[schemars(range(min = -1e6, max = 1e6))]
    pub max_drift: Option<f64>,
}

/// What a correction is computed from: [B, C], but `advantages` [B, 1] or [B, C].
pub(super) struct SamplerTerms<'a> {
    pub(super) logprobs: &'a Tensor,
    pub(super) old: &'a Tensor,
    pub(super) behaviour: &'a Tensor,
    pub(super) advantages: &'a Tensor,
    pub(super) mask: &'a Tensor,
}

impl Correction {
    /// Problems between its keys.
    pub(crate) fn contradictions(&self) -> Vec<String> {
        let bounds = [("mask", self.mask), ("keep_sequences", self.keep_sequences)];
        let reversed = bounds.into_iter().filter_map(|(key, bounds)| {
            let [low, high] = bounds?;
            let is_wrong = low.is_nan() || high.is_nan() || low > high;
            is_wrong.then(|| format!("{key} is [{low}, {high}], wanted the smaller bound first"))
        });
        let mut problems: Vec<String> = reversed.collect();
        if self.weights == CorrectionWeights::None && self.mask.is_some() {
            problems.push("mask needs weights, wanted weights = \"token\" or \"sequence\"".into());
        }
        problems
    }

    /// No correction.
    pub(super) const NONE: Self = Self {
        weights: CorrectionWeights::None,
        truncate: None,
        mask: None,
        keep_sequences: None,
        max_drift: None,
    };

    /// The correction of a sampler that computes in another number format: weights of whole
    /// completions, those above 3 left out (TRL's `sequence_mask`).
    pub(super) const OF_OTHER_NUMBERS: Self =
        Self { weights: CorrectionWeights::Sequence, mask: Some([0.0, 3.0]), ..Self::NONE };

    /// Weight of each token, without gradients: [B, C] or [B, 1].
    pub(super) fn token_weights(&self, terms: &SamplerTerms<'_>) -> Tensor {
        let SamplerTerms { logprobs, old, behaviour, advantages, mask } = *terms;
        let difference = (old - behaviour).detach();
        let log = match self.weights {
            CorrectionWeights::None => mask.zeros_like(),
            CorrectionWeights::Token => &difference * mask,
            CorrectionWeights::Sequence => masked_sum(&difference, mask),
        };
        let mut weights = log.exp();
        if let Some([low, high]) = self.mask {
            weights = kept_only(&weights, &within(&weights, low, high));
        }
        if let Some(bound) = self.truncate {
            weights = weights.clamp_max(bound);
        }
        if let Some([low, high]) = self.keep_sequences {
            let means = masked_mean(&difference, mask).exp(); // [B, 1]
            weights = kept_only(&weights, &within(&means, low, high));
        }
        if let Some(bound) = self.max_drift {
            let drift = masked_mean(&(behaviour - logprobs.detach()), mask); // [B, 1]
            let kept = drift.le(bound).logical_or(&advantages.ge(0.0));
            weights = kept_only(&weights, &kept);
        }
        weights
    }
}

/// Whether each value is between two bounds.
fn within(values: &Tensor, low: f64, high: f64) -> Tensor {
    values.ge(low).logical_and(&values.le(high))
}

/// The weights where `kept`, 0 elsewhere: also in place of an infinite one.
fn kept_only(weights: &Tensor, kept: &Tensor) -> Tensor {
    weights.where_self(kept, &weights.zeros_like())
}
