//! The importance ratio of the policy to the one that sampled, by token or by sequence.
//!
//! It does not know what becomes of the ratio.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::rows::{masked_mean, row_sum};

/// What the importance ratio is taken over. Per token: l = current, o = old log-probability,
/// m = mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ratio {
    /// exp(l − o) of each token.
    #[default]
    Token,
    /// exp of the mean of l − o over a completion: one ratio for all of its tokens (GSPO,
    /// arXiv 2507.18071).
    Sequence,
    /// exp of the sum of l − o over a completion: the ratio of the probabilities of whole
    /// completions (RLOO, arXiv 2402.14740; TRL's `RLOOTrainer`).
    SequenceSum,
    /// The value of `sequence`, with the gradient of each token alone (GSPO-token, there and in
    /// verl). With one advantage per completion it gives the gradient of `sequence`.
    SequenceToken,
}

impl Ratio {
    /// The logarithm of the ratio: [B, C] by token, [B, 1] by sequence.
    pub(super) fn log_ratio(self, logprobs: &Tensor, old: &Tensor, mask: &Tensor) -> Tensor {
        let difference = logprobs - old; // [B, C]
        match self {
            Self::Token => difference,
            Self::Sequence => masked_mean(&difference, mask), // [B, 1]
            Self::SequenceSum => row_sum(&(difference * mask)), // [B, 1]
            Self::SequenceToken => {
                logprobs - logprobs.detach() + masked_mean(&difference, mask).detach()
            }
        }
    }
}
