//! The policy-gradient losses of the GRPO family, as TRL computes them.
//!
//! Pure tensor functions of log-probabilities; they do not know the model. Notation per token:
//! l = current, o = old, q = reference log-probability, m = mask, A = the row's advantage,
//! r = exp(l − o), the importance ratio. The loss of a token is
//! −min(r·A, clip(r, 1 − ε, 1 + ε_high)·A) + β·k3, where k3 = exp(q − l) − (q − l) − 1 (Schulman,
//! "Approximating KL divergence", 2020), times r where the bias of sampling from the old policy is
//! corrected (DeepSeek-V3.2). Sources: GRPO arXiv 2402.03300, clip-higher and token mean DAPO
//! arXiv 2503.14476, Dr. GRPO arXiv 2503.20783; reference implementation: TRL 1.16
//! `GRPOTrainer._compute_loss`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Reduction of the token losses to one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Mean over completions of the token mean of each completion.
    Grpo,
    /// Sum over all tokens, divided by the number of tokens. Long completions count more.
    #[default]
    Dapo,
    /// Sum over all tokens, divided by the number of completions × `max_completion_length`. It has
    /// no length bias.
    DrGrpo,
}

/// Constants of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossConfig {
    /// How token losses become one number.
    pub loss_type: LossType,
    /// ε: distance below 1 at which the ratio is clipped.
    pub epsilon: f64,
    /// ε_high: distance above 1 at which the ratio is clipped.
    pub epsilon_high: f64,
    /// β: weight of the divergence from the reference.
    pub beta: f64,
    /// Multiplies k3 by the ratio.
    pub kl_bias_correction: bool,
}

/// Denominators of a whole update, so that the losses of its micro-batches add up to its loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalizer {
    /// Number of completions of the update.
    pub n_rows: usize,
    /// Number of completion tokens of the update.
    pub n_tokens: usize,
    /// Maximum number of tokens per completion while sampling.
    pub max_completion_length: usize,
}

/// Inputs of the loss: one micro-batch.
///
/// # Shapes
/// All [B, C], right-padded to the longest completion, but `advantages` [B, 1].
pub struct LossInputs<'a> {
    /// Current log-probabilities, with gradients.
    pub logprobs: &'a Tensor,
    /// Log-probabilities of the policy that sampled; `None` takes the current ones, detached.
    pub old_logprobs: Option<&'a Tensor>,
    /// Log-probabilities of the reference; needed where β > 0.
    pub reference_logprobs: Option<&'a Tensor>,
    /// 1 for completion tokens, 0 for padding.
    pub mask: &'a Tensor,
    /// The rows' advantages.
    pub advantages: &'a Tensor,
}

/// The loss of a micro-batch and sums for the metrics.
pub struct Loss {
    /// This micro-batch's share of the update's loss: a scalar with gradients.
    pub loss: Tensor,
    /// Σ m·k3, where a reference is given.
    pub kl_sum: Option<f64>,
    /// Number of tokens with a ratio below 1 − ε and a negative advantage.
    pub n_clipped_low: f64,
    /// Number of tokens with a ratio above 1 + ε_high and a positive advantage.
    pub n_clipped_high: f64,
}

/// Computes the loss of one micro-batch.
pub fn policy_loss(inputs: &LossInputs<'_>, config: &LossConfig, normalizer: &Normalizer) -> Loss {
    let LossInputs { logprobs, mask, advantages, .. } = *inputs;
    let detached = logprobs.detach();
    let old = inputs.old_logprobs.unwrap_or(&detached);
    let importance_ratio = (logprobs - old).exp(); // [B, C]
    let (low, high) = (1.0 - config.epsilon, 1.0 + config.epsilon_high);
    let unclipped = &importance_ratio * advantages;
    let clipped = importance_ratio.clamp(low, high) * advantages;
    let mut per_token = -unclipped.minimum(&clipped);
    let mut kl_sum = None;
    if let Some(reference) = inputs.reference_logprobs {
        let difference = reference - logprobs;
        let k3 = difference.exp() - &difference - 1.0;
        let k3 = if config.kl_bias_correction { k3 * &importance_ratio } else { k3 };
        kl_sum = Some((&k3.detach() * mask).sum(Kind::Double).double_value(&[]));
        // out of place: the gradient of the ratio needs the old value of `per_token`
        per_token = per_token.g_add(&(k3 * config.beta));
    }
    let masked = per_token * mask;
    let loss = match config.loss_type {
        LossType::Grpo => {
            let lengths = mask.sum_dim_intlist([-1i64].as_slice(), false, None).clamp_min(1.0);
            let means = masked.sum_dim_intlist([-1i64].as_slice(), false, None) / lengths; // [B]
            means.sum(None) / normalizer.n_rows.max(1) as f64
        }
        LossType::Dapo => masked.sum(None) / normalizer.n_tokens.max(1) as f64,
        LossType::DrGrpo => {
            masked.sum(None)
                / (normalizer.n_rows.max(1) * normalizer.max_completion_length.max(1)) as f64
        }
    };
    let count = |outside: Tensor, side: Tensor| {
        (outside.logical_and(&side).to_kind(Kind::Double) * mask)
            .sum(Kind::Double)
            .double_value(&[])
    };
    let importance_ratio = importance_ratio.detach();
    Loss {
        loss,
        kl_sum,
        n_clipped_low: count(importance_ratio.lt(low), advantages.lt(0.0)),
        n_clipped_high: count(importance_ratio.gt(high), advantages.gt(0.0)),
    }
}

#[cfg(test)]
mod tests;
