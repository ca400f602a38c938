//! The entropy of the policy in its loss: a bonus for it, and the choice of tokens by it.
//!
//! It does not know how entropies are computed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The part that the policy's entropy has in the loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EntropyTerm {
    /// Weight of the mean entropy of the trained tokens, with `top_share` of the chosen ones, which
    /// is subtracted from the loss (TRL's `entropy_coef`, verl's `entropy_coeff`). 0: no bonus.
    #[schemars(range(min = 0.0, max = 1e3))]
    pub weight: f64,
    /// Share of a step's tokens that are trained: those with the highest entropy under the policy
    /// before the step's first update (TRL's `top_entropy_quantile`, arXiv 2506.01939). The others
    /// count in the denominators of the policy loss, and in the divergence from the reference.
    /// Below 1 each step computes an additional forward pass.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1.0))]
    pub top_share: f64,
}

impl Default for EntropyTerm {
    fn default() -> Self {
        Self { weight: 0.0, top_share: 1.0 }
    }
}

impl EntropyTerm {
    /// Whether not all tokens are trained.
    pub fn selects(&self) -> bool {
        self.top_share < 1.0
    }

    /// For each token of each sample, 1 if it is trained, and 0 if it is not: those whose entropy
    /// is at least the quantile 1 − `top_share` of all, interpolated as by `torch.quantile`.
    pub(crate) fn kept(&self, entropies: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut sorted = entropies.concat();
        sorted.sort_unstable_by(f32::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else { return entropies.to_vec() };
        let place = (1.0 - self.top_share) * last as f64;
        let (low, high) = (sorted[place as usize], sorted[(place.ceil() as usize).min(last)]);
        let threshold = f64::from(low) + f64::from(high - low) * place.fract();
        let is_kept = |entropy: &f32| f32::from(f64::from(*entropy) >= threshold);
        entropies.iter().map(|of_sample| of_sample.iter().map(is_kept).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::EntropyTerm;

    #[test]
    fn tokens_with_the_highest_entropies_are_kept() {
        let entropies = [vec![0.1, 3.0, 2.0], vec![], vec![1.0, 0.5]];
        let kept = |top_share| EntropyTerm { weight: 0.0, top_share }.kept(&entropies);
        assert_eq!(kept(0.2), [vec![0.0, 1.0, 0.0], vec![], vec![0.0, 0.0]]);
        assert_eq!(kept(0.5), [vec![0.0, 1.0, 1.0], vec![], vec![1.0, 0.0]]);
        assert_eq!(kept(0.9), [vec![0.0, 1.0, 1.0], vec![], vec![1.0, 1.0]]);
        assert!(EntropyTerm { weight: 0.0, top_share: 0.5 }.kept(&[]).is_empty());
    }
}
