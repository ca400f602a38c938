//! Sums and means over the tokens of each completion.

use tch::{Kind, Tensor};

/// Number of tokens of each completion, at least 1: [B, C] → [B, 1].
pub(super) fn lengths(mask: &Tensor) -> Tensor {
    row_sum(mask).clamp_min(1.0)
}

/// Sum over each row: [B, C] → [B, 1], in the type of the values.
pub(super) fn row_sum(values: &Tensor) -> Tensor {
    values.sum_dim_intlist([-1i64].as_slice(), true, None::<Kind>)
}

/// Sum of the tokens of each completion: [B, C] → [B, 1].
pub(super) fn masked_sum(values: &Tensor, mask: &Tensor) -> Tensor {
    row_sum(&(values * mask))
}

/// Mean over the tokens of each completion; 0 without tokens: [B, C] → [B, 1].
pub(super) fn masked_mean(values: &Tensor, mask: &Tensor) -> Tensor {
    masked_sum(values, mask) / lengths(mask)
}
