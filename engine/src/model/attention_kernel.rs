//! libtorch's fused attention as a pair of functions: forward with the log-sum-exp of the scores,
//! and backward from it (FlashAttention, arXiv 2205.14135). Autograd is not involved, so that an
//! output may be merged from several calls before its gradient is taken.

use tch::{Device, Tensor};

use crate::error::Error;

/// Whether and how queries see keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scores {
    /// Whether query i sees keys 0..=i only; all keys otherwise.
    pub(super) is_causal: bool,
    /// Factor of the scores before the softmax.
    pub(super) scale: f64,
}

/// Attention of B sequences, and what its gradient is computed from.
pub(super) struct Attended {
    /// [B, Hq, T, D]
    pub(super) out: Tensor,
    /// Log-sum-exp of the scores: [B, Hq, T] f32, f64 of f64 inputs.
    pub(super) lse: Tensor,
}

/// Number of queries that the rows of a GPU's log-sum-exp are padded to a multiple of.
const LSE_ALIGNMENT: i64 = 32;

/// `q` [B, Hq, T, D], `k` and `v` [B, Hq, S, D] → [B, Hq, T, D].
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(super) fn forward(
    [q, k, v]: [&Tensor; 3],
    Scores { is_causal, scale }: Scores,
) -> Result<Attended, Error> {
    const NO_MASK: Option<&Tensor> = None;
    if q.device() == Device::Cpu {
        let (out, lse) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, is_causal, NO_MASK, scale,
        )?;
        return Ok(Attended { out, lse });
    }
    let (out, lse, ..) = Tensor::f_internal_scaled_dot_product_efficient_attention(
        q, k, v, NO_MASK, true, 0.0, is_causal, scale,
    )?;
    let n_queries = q.size()[2];
    Ok(Attended { out, lse: lse.narrow(2, 0, n_queries) })
}

/// Gradients of `q`, `k` and `v` from the gradient of the output, in their shapes. `attended` may
/// come of more keys than these: the gradient is that of the part which these keys have in it.
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(super) fn backward(
    [q, k, v]: [&Tensor; 3],
    attended: &Attended,
    gradient: &Tensor,
    Scores { is_causal, scale }: Scores,
) -> Result<[Tensor; 3], Error> {
    const NO_TENSOR: Option<&Tensor> = None;
    let Attended { out, lse } = attended;
    if q.device() == Device::Cpu {
        let (dq, dk, dv) = Tensor::f_internal_scaled_dot_product_flash_attention_for_cpu_backward(
            gradient, q, k, v, out, lse, 0.0, is_causal, NO_TENSOR, scale,
        )?;
        return Ok([dq, dk, dv]);
    }
    let n_queries = q.size()[2];
    let padding = (LSE_ALIGNMENT - n_queries % LSE_ALIGNMENT) % LSE_ALIGNMENT;
    let lse = lse.f_constant_pad_nd([0, padding])?;
    // [B, T, Hq, D]
    let flip = |x: &Tensor| x.transpose(1, 2);
    let no_dropout = Tensor::zeros([1], (tch::Kind::Int64, q.device()));
    let (dq, dk, dv, _) = Tensor::f_internal_efficient_attention_backward(
        &flip(gradient),
        &flip(q),
        &flip(k),
        &flip(v),
        NO_TENSOR,
        &flip(out),
        NO_TENSOR,
        NO_TENSOR,
        n_queries,
        k.size()[2],
        &lse,
        0.0,
        &no_dropout,
        &no_dropout,
        i64::from(is_causal),
        false,
        scale,
        None,
        None,
        false,
    )?;
    Ok([flip(&dq), flip(&dk), flip(&dv)])
}
