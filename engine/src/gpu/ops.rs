//! The operations between the products as a trait, implemented by kernels and by libtorch's
//! operations.
//!
//! Shapes: n rows (tokens), H hidden size, K and N a matrix's inputs and outputs, I width of the
//! MLP, Hq query heads, Hkv key/value heads, D head size, R decoding rows, S splits of their
//! contexts.

use tch::Tensor;

use super::arena::LayerArena;
use crate::error::Error;
use crate::model::{HeadNorms, Linear};

/// Inputs of the next product in its number format, written in place.
#[derive(Debug)]
pub(super) enum Activations {
    /// [n, K] bf16.
    Plain(Tensor),
    /// [n, K] E4M3 and `[n]` f32, one scale per token.
    Fp8(Tensor, Tensor),
}

impl Activations {
    /// The rows from `start` on.
    pub(super) fn rows(&self, start: i64, n_rows: i64) -> Result<Self, Error> {
        Ok(match self {
            Self::Plain(x) => Self::Plain(x.f_narrow(0, start, n_rows)?),
            Self::Fp8(values, scale) => {
                Self::Fp8(values.f_narrow(0, start, n_rows)?, scale.f_narrow(0, start, n_rows)?)
            }
        })
    }
}

/// Sizes of a model's attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    /// Hq
    pub(super) n_heads: i64,
    /// Hkv
    pub(super) n_kv_heads: i64,
    /// D
    pub(super) head_dim: i64,
    /// Factor of the scores before the softmax.
    pub(super) scale: f64,
}

impl Heads {
    /// Values per token of the queries.
    pub(super) fn q_width(&self) -> i64 {
        self.n_heads * self.head_dim
    }

    /// Values per token of queries, keys and values.
    pub(super) fn qkv_width(&self) -> i64 {
        (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
    }
}

/// Contexts of the decoding rows, on the device.
#[derive(Debug)]
pub(super) struct DecodeContexts {
    /// [R, capacity] i32: block << 5 | tokens, the number of the block's first slots in use.
    pub(super) spans: Tensor,
    /// Number of spans per row, `[R]` i32; a row without spans is padding.
    pub(super) n_spans: Tensor,
    /// Number of splits per context, without its shared prefix.
    pub(super) n_splits: i64,
    /// Bundles of rows that share a prefix; without them each context is read separately.
    pub(super) cascade: Option<CascadeBundles>,
}

impl DecodeContexts {
    /// Number of splits per row, those of the shared prefix included.
    pub(super) fn n_all_splits(&self) -> i64 {
        self.n_splits + self.cascade.as_ref().map_or(0, |cascade| cascade.n_splits)
    }
}

/// Bundles of rows that share a prefix, on the device (see [`super::cascade::CascadePlan`]).
#[derive(Debug)]
pub(super) struct CascadeBundles {
    /// Number of spans per row that its bundle computes, `[R]` i32.
    pub(super) n_shared: Tensor,
    /// Rows of each bundle, padded with -1: [B, BUNDLE_ROWS] i32.
    pub(super) rows: Tensor,
    /// Number of shared spans per bundle, `[B]` i32; 0 for a padding bundle.
    pub(super) n_spans: Tensor,
    /// Number of splits of a bundle's spans: the last splits of each of its rows.
    pub(super) n_splits: i64,
}

/// The matrix of the next product, if any: a kernel may prefetch a part of it.
pub(super) type Prefetch<'a> = Option<&'a Linear>;

/// The operations. All write to memory that the caller gives; none waits for the device.
pub(super) trait Ops: Send {
    /// `x` [n, H] f32 += `added` [n, H] bf16, where given; `out` = x / sqrt(mean(x²) + eps) ·
    /// weight.
    fn rmsnorm_residual(
        &self,
        x: &Tensor,
        added: Option<&Tensor>,
        weight: &Tensor,
        eps: f64,
        out: &Activations,
        next: Prefetch,
    ) -> Result<(), Error>;

    /// `gate_up` [n, 2·I] bf16 → `out` = silu(gate) · up [n, I].
    fn silu_mul(&self, gate_up: &Tensor, out: &Activations, next: Prefetch) -> Result<(), Error>;

    /// `x` [n, K] bf16 → `out` [n, K], a copy or E4M3 with one scale per row.
    fn quantize(&self, x: &Tensor, out: &Activations) -> Result<(), Error>;

    /// Normalises each head's queries and keys, where there are `norms`, rotates the queries of
    /// `qkv` [n, (Hq + 2·Hkv)·D] bf16 in place and stores rotated keys and the values at `slots`
    /// `[n]` i32 (block · BLOCK_TOKENS + offset; negative: nowhere). `positions` `[n]` i32,
    /// `inv_freq` [D/2] f32.
    fn rope_append(
        &self,
        qkv: &Tensor,
        positions: &Tensor,
        inv_freq: &Tensor,
        slots: &Tensor,
        norms: Option<&HeadNorms>,
        arena: &LayerArena,
    ) -> Result<(), Error>;

    /// Keys and values at `slots` `[T]` i32: two of [T, Hkv, D] bf16.
    fn gather_kv(&self, arena: &LayerArena, slots: &Tensor, out: &[Tensor; 2])
    -> Result<(), Error>;

    /// Attention of the queries of `qkv`'s first R rows over their contexts, per split: `partial`
    /// [R, S, Hq·D] f32, and the natural logarithm of each split's sum of exponentials, `lse` [R,
    /// S, Hq] f32. S is [`DecodeContexts::n_all_splits`]. Which part of a context is in which split
    /// is not defined.
    fn attend_decode(
        &self,
        qkv: &Tensor,
        arena: &LayerArena,
        contexts: &DecodeContexts,
        partial: &Tensor,
        lse: &Tensor,
    ) -> Result<(), Error>;

    /// Merges the splits: `out` [R, Hq·D].
    fn merge_splits(
        &self,
        partial: &Tensor,
        lse: &Tensor,
        out: &Activations,
        next: Prefetch,
    ) -> Result<(), Error>;

    /// `out` [n, N] bf16 = x·Wᵀ + b of an FP8 matrix and at most `SKINNY_GEMM_MAX_TOKENS` tokens:
    /// `values` [n, K] E4M3, `scale` `[n]` f32.
    fn gemm_w8a8_skinny(
        &self,
        linear: &Linear,
        values: &Tensor,
        scale: &Tensor,
        out: &Tensor,
    ) -> Result<(), Error>;

    /// Draws one token per row of `logits` [R, V] bf16. `draws` [4, R] f64: temperature (below 1e-5
    /// the most probable token is taken), top-p, top-k (0 keeps all), and a draw from [0, 1).
    /// `drawn` [3, R] f64: the token, its log-probability under the untempered softmax, and that
    /// under the distribution that it was drawn from.
    fn sample(&self, logits: &Tensor, draws: &Tensor, drawn: &Tensor) -> Result<(), Error>;
}
