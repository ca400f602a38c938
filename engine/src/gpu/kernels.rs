//! The kernels of `engine/kernels`, each declared once: parameters in the order of the source, with
//! number formats and shapes, and what runs it. What a kernel computes stands in its source file.

use super::cascade::BUNDLE_ROWS;
use super::kernel::Dim::{
    AllSplits, Bundles, HeadSize, Heads, KvBlocks, KvHeads, MaxSpans, Outputs, Prefetchers, QWidth,
    QkvWidth, Rows, Splits, Vocab, Width,
};
use super::kernel::Format::{Bf16, Bytes, E4m3, F32, F64, I32, Kv};
use super::kernel::Param::{F32Value, I32Value, Optional, Tensor};
use super::kernel::Size::{AtLeast, Fixed, Is, Over, Times};
use super::kernel::{Dims, Kernel, Param};
use crate::ffi::cuda::kernel::LaunchShape;
use crate::kv::BLOCK_TOKENS;

/// Widest row that a kernel keeps in a block's shared memory, beside what it needs itself.
pub(super) const MAX_SHARED_WIDTH: i64 = 12_224;

/// A kernel that writes the next product's inputs, in both forms of them.
pub(super) struct Forms {
    /// Writes bf16.
    pub(super) plain: Kernel,
    /// Writes E4M3 with one scale per row; its name ends in `_quantize`.
    pub(super) fp8: Kernel,
}

/// Declares both forms of a kernel: its own parameters, then the output, then the weights of which
/// the blocks behind those of the rows prefetch a part.
macro_rules! forms {
    ($name:literal, [$($param:expr),* $(,)?], $shape:expr) => {
        Forms {
            plain: Kernel {
                name: $name,
                params: &[
                    $($param,)*
                    Tensor("out", Bf16, &[Is(Rows), Is(Width)]),
                    Param::I32(Rows),
                    Optional("next", Bytes, &[]),
                    I32Value("next_bytes"),
                ],
                shape: $shape,
            },
            fp8: Kernel {
                name: concat!($name, "_quantize"),
                params: &[
                    $($param,)*
                    Tensor("q", E4m3, &[Is(Rows), Is(Width)]),
                    Tensor("scale", F32, &[Is(Rows)]),
                    Param::I32(Rows),
                    Optional("next", Bytes, &[]),
                    I32Value("next_bytes"),
                ],
                shape: $shape,
            },
        }
    };
}

/// RMSNorm of the residual stream after adding to it.
pub(super) const RMSNORM_RESIDUAL: Forms = forms!(
    "rmsnorm_residual",
    [
        Tensor("x", F32, &[Is(Rows), Is(Width)]),
        Optional("added", Bf16, &[Is(Rows), Is(Width)]),
        Tensor("weight", Bf16, &[Is(Width)]),
        F32Value("eps"),
        Param::I32(Width),
    ],
    |dims| LaunchShape { shared: 4 * dims.count(Width), ..block_per_row(dims) }
);

/// Gated activation of the MLP.
pub(super) const SILU_MUL: Forms = forms!(
    "silu_mul",
    [Tensor("gate_up", Bf16, &[Is(Rows), Times(2, Width)]), Param::I32(Width)],
    block_per_row
);

/// Merge of the splits of decode attention.
pub(super) const MERGE_SPLITS: Forms = forms!(
    "merge_splits",
    [
        Tensor("partial", F32, &[Is(Rows), Is(AllSplits), Is(QWidth)]),
        Tensor("lse", F32, &[Is(Rows), Is(AllSplits), Is(Heads)]),
        Param::I32(AllSplits),
        Param::I32(Width),
    ],
    |dims| LaunchShape { shared: 4 * dims.count(Width), ..block_per_row(dims) }
);

/// bf16 rows to E4M3 with one scale per row.
pub(super) const QUANTIZE_ROWS: Kernel = Kernel {
    name: "quantize_rows",
    params: &[
        Tensor("x", Bf16, &[Is(Rows), Is(Width)]),
        Param::I64(Width),
        Param::I32(Width),
        Tensor("q", E4m3, &[Is(Rows), Is(Width)]),
        Tensor("scale", F32, &[Is(Rows)]),
    ],
    shape: block_per_row,
};

/// A layer's keys or values, and the scale of each token and head where they are E4M3.
const BLOCKS: &[super::kernel::Size] =
    &[Is(KvBlocks), Is(KvHeads), Fixed(BLOCK_TOKENS as i64), Is(HeadSize)];
const SCALES: &[super::kernel::Size] = &[Is(KvBlocks), Is(KvHeads), Fixed(BLOCK_TOKENS as i64)];

/// Norms of heads and rotary embedding of queries and keys, and the storing of keys and values.
pub(super) const ROPE_APPEND: Kernel = Kernel {
    name: "rope_append",
    params: &[
        Tensor("qkv", Bf16, &[Is(Rows), Is(QkvWidth)]),
        Tensor("positions", I32, &[Is(Rows)]),
        Tensor("inv_freq", F32, &[Over(HeadSize, 2)]),
        Tensor("slots", I32, &[Is(Rows)]),
        Optional("q_norm", Bf16, &[Is(HeadSize)]),
        Optional("k_norm", Bf16, &[Is(HeadSize)]),
        F32Value("eps"),
        Param::I32(Heads),
        Param::I32(KvHeads),
        Tensor("keys", Kv, BLOCKS),
        Tensor("values", Kv, BLOCKS),
        Optional("key_scales", F32, SCALES),
        Optional("value_scales", F32, SCALES),
    ],
    shape: |dims| {
        const HEADS_PER_BLOCK: u32 = 4;
        let n_all = dims.count(Heads) + 2 * dims.count(KvHeads);
        LaunchShape {
            grid: [dims.count(Rows), n_all.div_ceil(HEADS_PER_BLOCK), 1],
            block: 32 * HEADS_PER_BLOCK,
            shared: 0,
        }
    },
};

/// Keys and values of a list of slots, in bf16.
pub(super) const GATHER_KV: Kernel = Kernel {
    name: "gather_kv",
    params: &[
        Tensor("keys", Kv, BLOCKS),
        Tensor("values", Kv, BLOCKS),
        Optional("key_scales", F32, SCALES),
        Optional("value_scales", F32, SCALES),
        Tensor("slots", I32, &[Is(Rows)]),
        Param::I32(KvHeads),
        Tensor("out_keys", Bf16, &[Is(Rows), Is(KvHeads), Is(HeadSize)]),
        Tensor("out_values", Bf16, &[Is(Rows), Is(KvHeads), Is(HeadSize)]),
    ],
    shape: |dims| LaunchShape {
        grid: [dims.count(Rows), 1, 1],
        block: row_block(dims.get(KvHeads) * dims.get(HeadSize)),
        shared: 0,
    },
};

/// Declares an attention kernel over paged contexts by the two parameters that say which spans of
/// which rows it takes.
macro_rules! attention {
    ($name:literal, [$first:expr, $second:expr], $shape:expr) => {
        Kernel {
            name: $name,
            params: &[
                Tensor("q", Bf16, &[AtLeast(Rows), Is(QkvWidth)]),
                Param::I64(QkvWidth),
                Tensor("keys", Kv, BLOCKS),
                Tensor("values", Kv, BLOCKS),
                Optional("key_scales", F32, SCALES),
                Optional("value_scales", F32, SCALES),
                Tensor("spans", I32, &[Is(Rows), Is(MaxSpans)]),
                $first,
                $second,
                Param::I32(MaxSpans),
                Param::I32(KvHeads),
                Param::I32(Splits),
                Param::I32(AllSplits),
                F32Value("softmax_scale"),
                Tensor("partial", F32, &[Is(Rows), Is(AllSplits), Is(QWidth)]),
                Tensor("lse", F32, &[Is(Rows), Is(AllSplits), Is(Heads)]),
            ],
            shape: $shape,
        }
    };
}

/// Attention of one query token per row over its context.
pub(super) const ATTEND_DECODE: Kernel = attention!(
    "attend_decode",
    [Tensor("n_spans", I32, &[Is(Rows)]), Optional("n_shared", I32, &[Is(Rows)])],
    |dims| LaunchShape {
        grid: [dims.count(Rows), dims.count(KvHeads), dims.count(Splits)],
        block: 128,
        shared: 0,
    }
);

/// Cascade attention: bundles of rows over the prefix that they share.
pub(super) const ATTEND_CASCADE: Kernel = attention!(
    "attend_cascade",
    [
        Tensor("rows", I32, &[Is(Bundles), Fixed(BUNDLE_ROWS as i64)]),
        Tensor("n_spans", I32, &[Is(Bundles)])
    ],
    |dims| {
        // a warp has two rows, or one with more than eight query heads per key/value head
        let warp_rows = if dims.get(Heads) / dims.get(KvHeads) <= 8 { 2 } else { 1 };
        LaunchShape {
            grid: [dims.count(Bundles), dims.count(KvHeads), dims.count(Splits)],
            block: 32 * BUNDLE_ROWS as u32 / warp_rows,
            shared: 0,
        }
    }
);

/// Declares an instance of the skinny GEMM by the output channels per block.
macro_rules! skinny_gemm {
    ($name:literal, $channels:literal) => {
        Kernel {
            name: $name,
            params: &[
                Tensor("weight", E4m3, &[Is(Outputs), Is(Width)]),
                Tensor("weight_scale", F32, &[Is(Outputs)]),
                Tensor("x", E4m3, &[Is(Rows), Is(Width)]),
                Tensor("x_scale", F32, &[Is(Rows)]),
                Optional("bias", Bf16, &[Is(Outputs)]),
                Param::I32(Rows),
                Param::I32(Width),
                Param::I32(Outputs),
                Tensor("out", Bf16, &[Is(Rows), Is(Outputs)]),
            ],
            shape: |dims| LaunchShape {
                grid: [dims.count(Outputs).div_ceil($channels), 1, 1],
                block: 192,
                shared: 0,
            },
        }
    };
}

/// FP8 product of up to 8 tokens.
pub(super) const GEMM_W8A8_SKINNY_8: Kernel = skinny_gemm!("gemm_w8a8_skinny_8", 16);
/// FP8 product of up to 16 tokens.
pub(super) const GEMM_W8A8_SKINNY_16: Kernel = skinny_gemm!("gemm_w8a8_skinny_16", 16);
/// FP8 product of up to 32 tokens.
pub(super) const GEMM_W8A8_SKINNY_32: Kernel = skinny_gemm!("gemm_w8a8_skinny_32", 32);
/// FP8 product of up to 64 tokens.
pub(super) const GEMM_W8A8_SKINNY_64: Kernel = skinny_gemm!("gemm_w8a8_skinny_64", 32);

/// One token per row of logits.
pub(super) const SAMPLE: Kernel = Kernel {
    name: "sample",
    params: &[
        Tensor("logits", Bf16, &[Is(Rows), Is(Vocab)]),
        Param::I32(Vocab),
        Param::I32(Rows),
        Tensor("draws", F64, &[Fixed(4), Is(Rows)]),
        Tensor("drawn", F64, &[Fixed(3), Is(Rows)]),
    ],
    shape: |dims| LaunchShape { grid: [dims.count(Rows), 1, 1], block: 1_024, shared: 0 },
};

/// One block per row, and those that prefetch.
fn block_per_row(dims: &Dims) -> LaunchShape {
    let n_rows = dims.count(Rows);
    let n_prefetchers = if n_rows > 0 { dims.count(Prefetchers) } else { 0 };
    LaunchShape {
        grid: [n_rows + n_prefetchers, 1, 1],
        block: row_block(dims.get(Width)),
        shared: 0,
    }
}

/// Threads of a block that takes eight values per thread of a row at a time.
fn row_block(width: i64) -> u32 {
    let eights = (width as u32).div_ceil(8);
    // where one turn is not enough, as few turns as possible, of equal length
    let turns = eights.div_ceil(1_024).max(1);
    eights.div_ceil(turns).next_multiple_of(32).min(1_024)
}
