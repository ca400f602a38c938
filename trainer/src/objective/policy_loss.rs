//! The policy loss: ratio × surrogate × correction × aggregate × KL × entropy.
//!
//! A pure function of log-probabilities; it does not know the model. With w = importance ratio,
//! c = correction's weight: the loss of a token is c·surrogate(w, A) + weight·kl (times w where
//! that is asked for), and the aggregate reduces the tokens to one number; a bonus for the mean
//! entropy is subtracted from it. Order and details are
//! those of TRL 1.16's `GRPOTrainer._compute_loss`, the parts that TRL lacks those of verl 0.9.1
//! and OpenRLHF 0.11.2; tests hold values and gradients of all three.

use tch::{Kind, Tensor};

use super::aggregate::{Aggregate, Normalizer};
use super::correction::{Correction, SamplerTerms};
use super::entropy::EntropyTerm;
use super::kl::KlTerm;
use super::ratio::Ratio;
use super::surrogate::{Surrogate, TokenTerms};

/// A policy loss as its six parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicyLoss {
    /// What the importance ratio is taken over.
    pub ratio: Ratio,
    /// The loss of one token.
    pub surrogate: Surrogate,
    /// Weights for a sampler with other probabilities than the trainer's.
    pub correction: Option<Correction>,
    /// Reduction to one number.
    pub aggregate: Aggregate,
    /// Divergence from the reference.
    pub kl: KlTerm,
    /// Bonus for entropy, and choice of tokens by it.
    pub entropy: EntropyTerm,
}

/// Inputs of the loss: one micro-batch.
///
/// # Shapes
/// All [B, C], right-padded to the longest completion; `advantages` may be [B, 1].
pub struct PolicyTerms<'a> {
    /// Current log-probabilities, with gradients.
    pub logprobs: &'a Tensor,
    /// Log-probabilities under the policy that sampled; `None` takes the current ones, detached.
    pub old: Option<&'a Tensor>,
    /// Log-probabilities with which the sampler drew the tokens; needed by a correction.
    pub behaviour: Option<&'a Tensor>,
    /// Log-probabilities under the reference; needed where the KL term has a weight.
    pub reference: Option<&'a Tensor>,
    /// 1 for trained tokens, 0 for others.
    pub mask: &'a Tensor,
    /// 1 for the tokens that the surrogate is taken of; `None` takes all of `mask`.
    pub kept: Option<&'a Tensor>,
    /// Entropies of the policy, with gradients; needed where the entropy term has a weight.
    pub entropies: Option<&'a Tensor>,
    /// The advantages of rows or tokens.
    pub advantages: &'a Tensor,
}

/// The loss of a micro-batch and sums for the metrics.
pub struct MicroBatchLoss {
    /// This micro-batch's share of the update's loss: a scalar with gradients.
    pub loss: Tensor,
    /// Sum of the divergence over the tokens, where a reference is given.
    pub kl_sum: Option<f64>,
    /// Number of tokens with a ratio below the surrogate's bounds and a negative advantage.
    pub n_clipped_low: f64,
    /// Number of tokens with a ratio above the surrogate's bounds and a positive advantage.
    pub n_clipped_high: f64,
}

impl PolicyLoss {
    /// Computes the loss of one micro-batch.
    ///
    /// # Panics
    /// Where a correction has no `behaviour`, or a bonus for entropy no `entropies`.
    pub fn micro_batch(&self, terms: &PolicyTerms<'_>, whole: &Normalizer) -> MicroBatchLoss {
        let PolicyTerms { logprobs, mask, advantages, .. } = *terms;
        let detached = logprobs.detach();
        let old = terms.old.unwrap_or(&detached);
        let log_ratio = self.ratio.log_ratio(logprobs, old, mask);
        let tokens = TokenTerms { logprobs, old, log_ratio: &log_ratio, advantages, mask };
        let surrogate = self.surrogate.per_token(&tokens);
        // never in place: autograd may need the values
        let corrected = match &self.correction {
            None => surrogate,
            Some(correction) => {
                let behaviour = terms.behaviour;
                let behaviour =
                    behaviour.expect("A correction has its sampler's part. This is a bug.");
                let terms = SamplerTerms { logprobs, old, behaviour, advantages, mask };
                surrogate * correction.token_weights(&terms)
            }
        };
        let corrected = match terms.kept {
            None => corrected,
            Some(kept) => corrected * kept,
        };
        let kl = terms.reference.map(|reference| {
            let kl = self.kl.per_token(logprobs, reference);
            if self.kl.by_ratio { kl * log_ratio.exp() } else { kl }
        });
        let kl_sum = kl.as_ref().map(|kl| (kl.detach() * mask).sum(Kind::Double).double_value(&[]));
        let per_token = match kl {
            Some(kl) if self.kl.weight_in_loss() > 0.0 => corrected + kl * self.kl.weight,
            _ => corrected,
        };
        let [n_clipped_low, n_clipped_high] = self.n_clipped(&log_ratio, advantages, mask);
        let mut loss = self.aggregate.reduce(&per_token, mask, whole);
        if self.entropy.weight > 0.0 {
            let entropies = terms.entropies.expect("A bonus has entropies. This is a bug.");
            let sum = (entropies * terms.kept.unwrap_or(mask)).sum(None::<Kind>);
            loss -= sum * (self.entropy.weight / whole.n_kept.max(1) as f64);
        }
        MicroBatchLoss { loss, kl_sum, n_clipped_low, n_clipped_high }
    }

    /// Whether completions with the advantage 0 have a gradient.
    pub fn learns_without_advantage(&self) -> bool {
        self.kl.weight_in_loss() > 0.0
            || self.entropy.weight > 0.0
            || matches!(self.surrogate, Surrogate::Dro(_))
    }

    fn n_clipped(&self, log_ratio: &Tensor, advantages: &Tensor, mask: &Tensor) -> [f64; 2] {
        let Some((low, high)) = self.surrogate.unclipped() else { return [0.0; 2] };
        let ratio = log_ratio.detach().exp();
        let count = |outside: Tensor, side: Tensor| {
            let tokens = outside.logical_and(&side).to_kind(Kind::Double) * mask;
            tokens.sum(Kind::Double).double_value(&[])
        };
        [count(ratio.lt(low), advantages.lt(0.0)), count(ratio.gt(high), advantages.gt(0.0))]
    }
}
