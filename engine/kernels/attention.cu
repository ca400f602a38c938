// Attention of one query token per row over a paged cache, split over the context (flash decoding),
// and the merge of the splits. It knows nothing of sequences: a row's context is a list of spans,
// and rows may share cache blocks. Prefixes that several rows share may be left to cascade.cu.
//
// Macros and arenas as in attention.cuh.

constexpr int WARPS = 4;
// Minimum number of thread blocks per multiprocessor. With D = 128 a warp loads 8 KiB at a time in
// bf16, and about half in e4m3: 96 or 48 KiB per multiprocessor, where 25 KiB keep the memory busy.
// With one block more the compiler spills registers and delays most loads of values until after the
// first product. For other shapes the registers decide.
constexpr int MIN_BLOCKS_PER_SM = HEAD_DIM == 128 && HEAD_TILES == 1 ? 3 : 1;

/// q row r at q + r * q_stride [Hq, D] bf16, query head h with kv head h / G; spans [R, max_spans]
/// i32, each block << 5 | n_tokens (the first 1..16 slots of that block); n_spans [R] i32 (0:
/// padding); n_shared [R] i32: number of leading spans that are skipped, or null for none.
/// Split s < n_splits covers the s-th part of the other spans, ceil(n / n_splits) spans each.
/// -> partial [R, n_all_splits, Hq, D] f32: attention over the split alone; lse
/// [R, n_all_splits, Hq] f32: natural logarithm of the split's sum of exp(score), -inf for an empty
/// split, whose partial is not written. In rows without shared spans, the splits from n_splits on
/// are marked empty too.
/// grid (R, Hkv, n_splits), block 128, no dynamic shared memory. Rows are the fastest dimension, so
/// that rows with a common prefix run at the same time and share it in L2.
extern "C" __global__ void __launch_bounds__(WARPS * 32, MIN_BLOCKS_PER_SM)
attend_decode(const bf16* __restrict__ q, long long q_stride, const KV* __restrict__ keys,
              const KV* __restrict__ values, const float* __restrict__ key_scales,
              const float* __restrict__ value_scales, const int* __restrict__ spans,
              const int* __restrict__ n_spans, const int* __restrict__ n_shared, int max_spans,
              int n_kv_heads, int n_splits, int n_all_splits, float softmax_scale,
              float* __restrict__ partial, float* __restrict__ lse) {
    alignas(16) __shared__ float warp_values[WARPS][8][HEAD_DIM];
    __shared__ float warp_peak[WARPS][8], warp_sum[WARPS][8];
    int row = blockIdx.x, kv_head = blockIdx.y, split = blockIdx.z;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int first_own = n_shared ? n_shared[row] : 0;
    int per = (n_spans[row] - first_own + n_splits - 1) / n_splits;
    int first = first_own + split * per;
    int end = least(first + per, n_spans[row]);
    // Offset of this row, split and kv head in lse, and (times HEAD_DIM) in partial.
    long long out = (((long long)row * n_all_splits + split) * n_kv_heads + kv_head) * GROUPS;
    if (split == 0 && first_own == 0 && threadIdx.x < GROUPS) {
        for (int s = n_splits; s < n_all_splits; s++)
            lse[out + (long long)s * n_kv_heads * GROUPS + threadIdx.x] = negative_infinity();
    }
    if (first >= end) {
        if (threadIdx.x < GROUPS) lse[out + threadIdx.x] = negative_infinity();
        return;
    }

    RunningSoftmax<HEAD_TILES> state;
    Query<HEAD_TILES> query;
    const bf16* own_q = q + row * q_stride + kv_head * GROUPS * HEAD_DIM;
#pragma unroll
    for (int h = 0; h < HEAD_TILES; h++)
        query.load(h, own_q + 8 * h * HEAD_DIM, GROUPS - 8 * h, softmax_scale);
    const int* row_spans = spans + (long long)row * max_spans;
    int next = first + warp < end ? row_spans[first + warp] : 0;
    for (int s = first + warp; s < end; s += WARPS) {
        KvSpan span =
            kv_span(keys, values, key_scales, value_scales, next, n_kv_heads, kv_head);
        next = s + WARPS < end ? row_spans[s + WARPS] : 0;
        attend_span<InOrder>(state, query, span);
    }
    gather_sums(state);

    float scale[2] = {state.value_power, state.value_power};
#pragma unroll
    for (int h = 0; h < HEAD_TILES; h++) {
        if (h > 0) __syncthreads();  // The previous tile may still be read.
        store_values(state, h, scale, 8, &warp_values[warp][0][0]);
        if (lane % 4 == 0) {
            warp_peak[warp][lane / 4] = state.peak[h];
            warp_sum[warp][lane / 4] = state.sum[h];
        }
        __syncthreads();
        int n_heads = least(GROUPS - 8 * h, 8);
        for (int i = threadIdx.x; i < n_heads * HEAD_DIM; i += WARPS * 32) {
            int head = i / HEAD_DIM;
            float peak = VERY_LOW, sum = 0.0f, y = 0.0f;
#pragma unroll
            for (int w = 0; w < WARPS; w++) peak = fmaxf(peak, warp_peak[w][head]);
#pragma unroll
            for (int w = 0; w < WARPS; w++) {
                float shrink = exp2f(warp_peak[w][head] - peak);
                sum += warp_sum[w][head] * shrink;
                y += warp_values[w][head][i % HEAD_DIM] * shrink;
            }
            partial[(out + 8 * h) * HEAD_DIM + i] = y / sum;
            if (i % HEAD_DIM == 0) lse[out + 8 * h + head] = log_sum(peak, sum);
        }
    }
}

/// Merges the splits of a row into y (shared memory) and returns the largest |y| of the calling
/// thread's values: y = sum of exp(lse[s]) partial[s] / sum of exp(lse[s]); zero where all splits
/// are empty.
DEVICE float merge_row(const float* partial, const float* lse, int n_splits, int width, float* y) {
    int n_heads = width / HEAD_DIM;
    float amax = 0.0f;
    for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
        const float* head_lse = lse + i / HEAD_DIM;
        float peak = VERY_LOW, sum = 0.0f, out[8] = {}, part[8];
        for (int s = 0; s < n_splits; s++) peak = fmaxf(peak, head_lse[s * n_heads]);
#pragma unroll 4
        for (int s = 0; s < n_splits; s++) {
            // Loaded without a condition, so that the loads of several splits overlap. An empty
            // split's partial was never written and may be NaN.
            float weight = expf(head_lse[s * n_heads] - peak);
            load8(partial + (long long)s * width + i, part);
            sum += weight;
#pragma unroll
            for (int j = 0; j < 8; j++) out[j] += weight == 0.0f ? 0.0f : weight * part[j];
        }
        float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
#pragma unroll
        for (int j = 0; j < 8; j++) out[j] *= inverse;
        store8(y + i, out);
        amax = max_abs8(amax, out);
    }
    return amax;
}

/// partial [R, n_splits, width] f32, lse [R, n_splits, Hq] f32, width = Hq * D -> q [R, width]
/// e4m3, scale [R] f32. Thread blocks from n_rows = R on prefetch next_bytes each of `next`.
/// grid (R or more), block a multiple of 32 up to 1024, dynamic shared memory width * 4 bytes (at
/// most 48 KiB).
extern "C" __global__ void __launch_bounds__(1024)
merge_splits_quantize(const float* partial, const float* lse, int n_splits, int width, u8* q,
                      float* scale, int n_rows, const u8* next, int next_bytes) {
    if (prefetches_next(n_rows, next, next_bytes)) return;
    JOUST_DYNAMIC_SHARED(float, y);
    long long first_split = (long long)blockIdx.x * n_splits;
    float amax = merge_row(partial + first_split * width, lse + first_split * (width / HEAD_DIM),
                           n_splits, width, y);
    quantize_shared_row(y, amax, width, q + (long long)blockIdx.x * width, scale + blockIdx.x);
}

/// As `merge_splits_quantize`, with y rounded to bf16 -> out [R, width].
/// Thread blocks from n_rows = R on prefetch next_bytes each of `next`.
/// grid (R or more), block a multiple of 32 up to 1024, dynamic shared memory width * 4 bytes (at
/// most 48 KiB).
extern "C" __global__ void __launch_bounds__(1024)
merge_splits(const float* partial, const float* lse, int n_splits, int width, bf16* out, int n_rows,
             const u8* next, int next_bytes) {
    if (prefetches_next(n_rows, next, next_bytes)) return;
    JOUST_DYNAMIC_SHARED(float, y);
    long long first_split = (long long)blockIdx.x * n_splits;
    merge_row(partial + first_split * width, lse + first_split * (width / HEAD_DIM), n_splits,
              width, y);
    for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
        float part[8];
        load8(y + i, part);
        store8(out + (long long)blockIdx.x * width + i, part);
    }
}
