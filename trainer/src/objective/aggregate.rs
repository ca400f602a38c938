//! How the losses of tokens become one number.
//!
//! It does not know what the losses are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::rows::{lengths, row_sum};

/// Reduction of the token losses to one number. Masked completions count as completions, as in TRL;
/// verl leaves them out of the number of completions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// Sum over all tokens, divided by the number of tokens of the update.
    TokenMean,
    /// Sum over all tokens, divided by the mean number of tokens per update of the step (DAPO,
    /// arXiv 2503.14476). With one update per step it is `token_mean`.
    #[default]
    StepTokenMean,
    /// Mean over completions of the token mean of each completion (GRPO, arXiv 2402.03300).
    SequenceMean,
    /// Mean over completions of the token sum of each completion.
    SequenceSum,
    /// Sum over all tokens, divided by the number of completions × `max_completion_length` (Dr.
    /// GRPO, arXiv 2503.20783). It has no length bias.
    ConstantLength,
    /// Sum over all tokens.
    TokenSum,
}

/// Denominators of a whole update, so that the losses of its micro-batches add up to its loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalizer {
    /// Number of completions of the update.
    pub n_rows: usize,
    /// Number of trained tokens of the update.
    pub n_tokens: usize,
    /// Number of trained tokens of the update that the surrogate is taken of.
    pub n_kept: usize,
    /// Number of trained tokens of all updates that the step's completions are split into, divided
    /// by the number of these updates.
    pub n_tokens_per_update: f64,
    /// Maximum number of tokens per completion while sampling.
    pub max_completion_length: usize,
}

impl Aggregate {
    /// A micro-batch's share of the loss of its update: a scalar.
    ///
    /// # Shapes
    /// `per_token` [B, C] or [B, 1] (the same for all tokens of a completion), `mask` [B, C].
    pub(super) fn reduce(self, per_token: &Tensor, mask: &Tensor, whole: &Normalizer) -> Tensor {
        let masked = per_token * mask; // [B, C]
        let n_rows = whole.n_rows.max(1) as f64;
        match self {
            Self::TokenMean => masked.sum(None) / whole.n_tokens.max(1) as f64,
            Self::StepTokenMean => masked.sum(None) / whole.n_tokens_per_update.max(1.0),
            Self::SequenceMean => (row_sum(&masked) / lengths(mask)).sum(None) / n_rows,
            Self::SequenceSum => masked.sum(None) / n_rows,
            Self::ConstantLength => {
                masked.sum(None) / (n_rows * whole.max_completion_length.max(1) as f64)
            }
            Self::TokenSum => masked.sum(None),
        }
    }
}
