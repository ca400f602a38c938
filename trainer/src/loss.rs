//! The policy-gradient losses of the GRPO family, as TRL computes them.
//!
//! Pure tensor functions of log-probabilities; they do not know the model. Notation per token:
//! l = current, o = old, q = reference log-probability, m = mask, A = the row's advantage,
//! r = exp(l − o). Each token's loss is −min(r·A, clip(r, 1 − ε, 1 + ε_high)·A) + β·k3, where
//! k3 = exp(q − l) − (q − l) − 1 (Schulman, "Approximating KL divergence", 2020), times r where the
//! bias of sampling from the old policy is corrected (DeepSeek-V3.2). Sources: GRPO arXiv 2402.03300,
//! clip-higher and token mean DAPO arXiv 2503.14476, Dr. GRPO arXiv 2503.20783; reference
//! implementation: TRL 1.16 `GRPOTrainer._compute_loss`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// How token losses become one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Mean over completions of each completion's token mean.
    Grpo,
    /// Sum over all tokens divided by their number: long completions count more.
    #[default]
    Dapo,
    /// Sum over all tokens divided by completions × `max_completion_length`: no length bias.
    DrGrpo,
}

/// Constants of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossConfig {
    /// How token losses become one number.
    pub loss_type: LossType,
    /// ε: how far below 1 the ratio counts.
    pub epsilon: f64,
    /// ε_high: how far above 1 the ratio counts.
    pub epsilon_high: f64,
    /// β: weight of the divergence from the reference.
    pub beta: f64,
    /// Multiplies k3 by the ratio.
    pub kl_bias_correction: bool,
}

/// What the sums of a whole optimiser batch are divided by, so that micro-batches add up to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalizer {
    /// Completions of the batch.
    pub n_rows: usize,
    /// Completion tokens of the batch.
    pub n_tokens: usize,
    /// The limit that completions were sampled under.
    pub max_completion_length: usize,
}

/// Inputs of the loss: one micro-batch.
///
/// # Shapes
/// All [B, C], right-padded to the longest completion, but `advantages` [B, 1].
pub struct LossInputs<'a> {
    /// Current log-probabilities, with gradients.
    pub logprobs: &'a Tensor,
    /// Log-probabilities of the policy that sampled; the current ones, detached, where none.
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
    /// This micro-batch's share of the batch's loss: a scalar with gradients.
    pub loss: Tensor,
    /// Σ m·k3, where a reference is given.
    pub kl_sum: Option<f64>,
    /// Tokens whose ratio is below 1 − ε with a negative advantage.
    pub n_clipped_low: f64,
    /// Tokens whose ratio is above 1 + ε_high with a positive advantage.
    pub n_clipped_high: f64,
}

/// Computes the loss of one micro-batch.
pub fn policy_loss(inputs: &LossInputs<'_>, config: &LossConfig, by: &Normalizer) -> Loss {
    let LossInputs { logprobs, mask, advantages, .. } = *inputs;
    let detached = logprobs.detach();
    let old = inputs.old_logprobs.unwrap_or(&detached);
    let ratio = (logprobs - old).exp(); // [B, C]
    let (low, high) = (1.0 - config.epsilon, 1.0 + config.epsilon_high);
    let unclipped = &ratio * advantages;
    let clipped = ratio.clamp(low, high) * advantages;
    let mut per_token = -unclipped.minimum(&clipped);
    let mut kl_sum = None;
    if let Some(reference) = inputs.reference_logprobs {
        let difference = reference - logprobs;
        let k3 = difference.exp() - &difference - 1.0;
        let k3 = if config.kl_bias_correction { k3 * &ratio } else { k3 };
        kl_sum = Some((&k3.detach() * mask).sum(Kind::Double).double_value(&[]));
        // out of place, for the ratio's gradient needs what stood here
        per_token = per_token.g_add(&(k3 * config.beta));
    }
    let masked = per_token * mask;
    let loss = match config.loss_type {
        LossType::Grpo => {
            let lengths = mask.sum_dim_intlist([-1i64].as_slice(), false, None).clamp_min(1.0);
            let means = masked.sum_dim_intlist([-1i64].as_slice(), false, None) / lengths; // [B]
            means.sum(None) / by.n_rows.max(1) as f64
        }
        LossType::Dapo => masked.sum(None) / by.n_tokens.max(1) as f64,
        LossType::DrGrpo => {
            masked.sum(None) / (by.n_rows.max(1) * by.max_completion_length.max(1)) as f64
        }
    };
    let count = |outside: Tensor, side: Tensor| {
        (outside.logical_and(&side).to_kind(Kind::Double) * mask)
            .sum(Kind::Double)
            .double_value(&[])
    };
    let ratio = ratio.detach();
    Loss {
        loss,
        kl_sum,
        n_clipped_low: count(ratio.lt(low), advantages.lt(0.0)),
        n_clipped_high: count(ratio.gt(high), advantages.gt(0.0)),
    }
}

#[cfg(test)]
mod tests;
