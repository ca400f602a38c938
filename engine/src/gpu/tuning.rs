//! Constants that trade speed for speed on a GPU, each with the measurement that decides it. None
//! of them changes which kernels exist; `joust bench gpu` prints what they are set by.

/// Tokens up to which FP8 products go through the skinny GEMM kernel. It reads the weights once, in
/// tiles of 8 tokens, and should keep pace with the memory at two tiles. Set by "product in fp8"
/// against "product in fp8, few tokens" at 9..=64 rows.
pub(super) const SKINNY_GEMM_TOKENS: i64 = 16;

/// Maximum number of tokens that the skinny GEMM kernel takes: its largest instance. It serves
/// 17..=64 tokens only where libtorch refuses the product.
pub(super) const SKINNY_GEMM_MAX_TOKENS: i64 = 64;

/// Chunks of 64 bytes per weight row that a warp of the skinny GEMM keeps on their way: 24 KiB per
/// block. At 3.35 TB/s and 0.8 us of latency, 20 KiB per multiprocessor keep the memory busy. Set
/// by the GB/s of "product in fp8, few tokens".
pub(super) const SKINNY_GEMM_CHUNKS_AHEAD: i64 = 4;

/// Blocks per kernel that prefetch the next product's weights into L2, about one per
/// multiprocessor. Set by `joust bench engine` with `fetch_ahead_mib` at 0 and at its default.
pub(super) const PREFETCH_BLOCKS: i64 = 128;

/// Maximum number of rows of a step that is recorded as a graph; a larger step keeps the GPU busy
/// without one. Set by `joust bench engine` with and without `cuda_graphs` at 256 rows.
pub(super) const GRAPH_MAX_ROWS: usize = 256;

/// Minimum number of shared spans that are worth a pass of cascade attention: 256 tokens. Set by
/// "attend_decode, shared prefix" against "attend_decode" at short contexts.
pub(super) const CASCADE_MIN_SPANS: usize = 16;

/// Maximum number of neighbouring rows that are considered for one group of cascade attention: a
/// bound on host time per step.
pub(super) const CASCADE_MAX_GROUP: usize = 64;

/// Batch sizes that graphs are recorded for; a batch is padded to the next one. Few sizes keep
/// recording short, many waste no rows.
pub(super) fn graph_rows(n_rows: usize) -> usize {
    match n_rows {
        0..=2 => n_rows,
        3..=8 => n_rows.next_power_of_two(),
        9..=64 => n_rows.next_multiple_of(8),
        _ => n_rows.next_multiple_of(16),
    }
}

/// Splits per context for `n_rows` decoding rows: with few rows enough blocks for the whole GPU,
/// with many rows little to merge. Set by "attend_decode" and "merge_splits" per number of rows;
/// the number of key/value heads and the context length are not looked at yet.
pub(super) fn n_splits(n_rows: usize) -> usize {
    match n_rows {
        0..=8 => 16,
        9..=32 => 8,
        33..=64 => 4,
        65..=128 => 2,
        _ => 1,
    }
}
