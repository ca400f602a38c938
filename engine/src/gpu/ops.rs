//! What is computed between the products, as a trait: by kernels, or by libtorch's own operations.
//!
//! Shapes: n rows (tokens), H hidden size, K and N a matrix's inputs and outputs, I width of the MLP,
//! Hq query heads, Hkv key/value heads, D head size, R decoding rows, S splits of their contexts.

use tch::Tensor;

use super::arena::LayerArena;
use crate::error::Error;
use crate::model::Linear;

/// Activations as the next product wants them, written in place.
#[derive(Debug)]
pub(super) enum Activations {
    /// [n, K] bf16.
    Plain(Tensor),
    /// [n, K] E4M3 and `[n]` f32, one scale a token.
    Fp8(Tensor, Tensor),
}

impl Activations {
    /// Some of the rows.
    pub(super) fn rows(&self, start: i64, n_rows: i64) -> Result<Self, Error> {
        Ok(match self {
            Self::Plain(x) => Self::Plain(x.f_narrow(0, start, n_rows)?),
            Self::Fp8(values, scale) => {
                Self::Fp8(values.f_narrow(0, start, n_rows)?, scale.f_narrow(0, start, n_rows)?)
            }
        })
    }
}

/// MeasureSizes that do not change from batch to batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    /// Hq
    pub(super) n_heads: i64,
    /// Hkv
    pub(super) n_kv_heads: i64,
    /// D
    pub(super) head_dim: i64,
}

impl Heads {
    /// Values of a token's queries.
    pub(super) fn q_width(&self) -> i64 {
        self.n_heads * self.head_dim
    }

    /// Values of a token's queries, keys and values.
    pub(super) fn qkv_width(&self) -> i64 {
        (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
    }
}

/// The contexts of decoding rows, on the device.
#[derive(Debug)]
pub(super) struct DecodeContexts {
    /// [R, capacity] i32: block << 5 | tokens, the first so many slots of a block.
    pub(super) spans: Tensor,
    /// `[R]` i32; a row without spans is padding.
    pub(super) n_spans: Tensor,
    /// Parts that each context is cut into, without what it shares.
    pub(super) n_splits: i64,
    /// What rows begin with alike; none reads each context by itself.
    pub(super) cascade: Option<CascadeBundles>,
}

impl DecodeContexts {
    /// Splits of a row in all.
    pub(super) fn n_all_splits(&self) -> i64 {
        self.n_splits + self.cascade.as_ref().map_or(0, |cascade| cascade.n_splits)
    }
}

/// Bundles of rows that begin alike, on the device (see [`super::cascade::CascadePlan`]).
#[derive(Debug)]
pub(super) struct CascadeBundles {
    /// `[R]` i32: spans that a row leaves to its bundle.
    pub(super) n_shared: Tensor,
    /// [B, BUNDLE_ROWS] i32: the rows of each bundle, filled up with -1.
    pub(super) rows: Tensor,
    /// `[B]` i32: spans that all of a bundle's rows begin with; 0 is no bundle.
    pub(super) n_spans: Tensor,
    /// Parts that a bundle's spans are cut into: the last splits of each of its rows.
    pub(super) n_splits: i64,
}

/// The matrix of the product that comes next, if one does: a part of it may be fetched meanwhile.
pub(super) type Prefetch<'a> = Option<&'a Linear>;

/// The operations. All write to memory that their caller gives; none waits for the device.
pub(super) trait Ops: Send {
    /// `x` [n, H] f32 += `more` [n, H] bf16, where given; `out` = x / sqrt(mean(x²) + eps) · weight.
    fn rmsnorm_residual(
        &self,
        x: &Tensor,
        more: Option<&Tensor>,
        weight: &Tensor,
        eps: f64,
        out: &Activations,
        next: Prefetch,
    ) -> Result<(), Error>;

    /// `gate_up` [n, 2·I] bf16 → `out` = silu(gate) · up [n, I].
    fn silu_mul(&self, gate_up: &Tensor, out: &Activations, next: Prefetch) -> Result<(), Error>;

    /// `x` [n, K] bf16 → `out` [n, K].
    fn quantize(&self, x: &Tensor, out: &Activations) -> Result<(), Error>;

    /// Rotates the queries of `qkv` [n, (Hq + 2·Hkv)·D] bf16 in place and stores rotated keys and the
    /// values at `slots` `[n]` i32 (block · BLOCK_TOKENS + offset; negative: nowhere). `positions` `[n]`
    /// i32, `inv_freq` [D/2] f32.
    fn rope_append(
        &self,
        qkv: &Tensor,
        positions: &Tensor,
        inv_freq: &Tensor,
        slots: &Tensor,
        arena: &LayerArena,
    ) -> Result<(), Error>;

    /// Keys and values at `slots` `[T]` i32: two of [T, Hkv, D] bf16.
    fn gather_kv(&self, arena: &LayerArena, slots: &Tensor, out: &[Tensor; 2])
    -> Result<(), Error>;

    /// Attention of the queries of `qkv`'s first R rows over their contexts, a split at a time:
    /// `partial` [R, S, Hq·D] f32 and the natural logarithm of each split's sum of exponentials, `lse`
    /// [R, S, Hq] f32; S is [`DecodeContexts::n_all_splits`]. Which part of a context is in which split is left
    /// open.
    fn attend_decode(
        &self,
        qkv: &Tensor,
        arena: &LayerArena,
        contexts: &DecodeContexts,
        partial: &Tensor,
        lse: &Tensor,
    ) -> Result<(), Error>;

    /// The splits put together: `out` [R, Hq·D].
    fn merge_splits(
        &self,
        partial: &Tensor,
        lse: &Tensor,
        out: &Activations,
        next: Prefetch,
    ) -> Result<(), Error>;

    /// `out` [n, N] bf16 = x·Wᵀ + b of an FP8 matrix and at most [`SKINNY_GEMM_MAX_TOKENS`] tokens: `values` [n, K] E4M3,
    /// `scale` `[n]` f32.
    fn gemm_w8a8_skinny(
        &self,
        linear: &Linear,
        values: &Tensor,
        scale: &Tensor,
        out: &Tensor,
    ) -> Result<(), Error>;

    /// One token a row of `logits` [R, V] bf16. `draws` [4, R] f64: temperature (below 1e-5 takes the most
    /// probable token), top-p, top-k (0 keeps all), and a draw from [0, 1); `drawn` [2, R] f64: the token
    /// and its log-probability under the untempered softmax.
    fn sample(&self, logits: &Tensor, draws: &Tensor, drawn: &Tensor) -> Result<(), Error>;
}
