// Attention of many rows over what their contexts begin with: keys and values are read once for
// ROWS rows and used from shared memory. The results are splits of those rows, which attention.cu
// merges with the others (the cascade of Hydragen and FlashInfer, as one more split).
//
// Macros and arenas as in attention.cuh.

constexpr int ROWS = 8;
// A warp has two tiles: two rows, or one with more than eight heads a kv head.
constexpr int WARP_ROWS = HEAD_TILES == 1 ? 2 : 1;
constexpr int THREADS = ROWS / WARP_ROWS * 32;
constexpr int BLOCK_BYTES = BLOCK_TOKENS * HEAD_DIM * sizeof(KV);
// Blocks of keys and values in shared memory: one in use, the others on their way.
constexpr int STAGES = least(8, 40960 / (2 * BLOCK_BYTES));

// A copy's 16 bytes, and how many of them a token has.
constexpr int CHUNK = 16 / sizeof(KV), CHUNKS = HEAD_DIM / CHUNK;

/// Chunks of a token in another order for each token, so that the lanes that load at the same time
/// find theirs in different banks: of keys two neighbouring tokens with four chunks each, of values
/// every other token with two.
struct Scattered {
    static MEMBER int place(int token, int dim) {
        int turn = ((token & 6) ^ (token & 1) << 2) % CHUNKS;
        return token * HEAD_DIM + (dim ^ turn * CHUNK);
    }
};

struct alignas(16) Stage {
    KV keys[BLOCK_TOKENS * HEAD_DIM], values[BLOCK_TOKENS * HEAD_DIM];
    float key_scales[KV_FP8 ? BLOCK_TOKENS : 4], value_scales[KV_FP8 ? BLOCK_TOKENS : 4];
};

/// Begins to copy a block, by all threads.
DEVICE void copy_block(Stage& stage, const Block& block) {
    constexpr int AT_ONCE = THREADS / CHUNKS;  // tokens
#pragma unroll
    for (int first = 0; first < BLOCK_TOKENS; first += AT_ONCE) {
        int token = first + threadIdx.x / CHUNKS, dim = threadIdx.x % CHUNKS * CHUNK;
        if (AT_ONCE > BLOCK_TOKENS && token >= BLOCK_TOKENS) continue;
        int to = Scattered::place(token, dim), from = InOrder::place(token, dim);
        copy16_async((uint4*)(stage.keys + to), (const u8*)(block.keys + from), true);
        copy16_async((uint4*)(stage.values + to), (const u8*)(block.values + from), true);
    }
#if KV_FP8
    if (threadIdx.x < BLOCK_TOKENS / 4) {
        int at = threadIdx.x * 4;
        copy16_async((uint4*)(stage.key_scales + at), (const u8*)(block.key_scales + at), true);
        copy16_async((uint4*)(stage.value_scales + at), (const u8*)(block.value_scales + at), true);
    }
#endif
}

/// q, spans, arenas and outputs as for `attend_decode`. rows [B, ROWS] i32: the rows of a bundle,
/// filled up with -1; n_spans [B] i32: so many spans all of them begin with (0: no bundle), which
/// the first row's list gives. Split s < n_splits takes the s-th part of them, ceil(n / n_splits)
/// spans each.
/// -> splits n_all_splits - n_splits + s of partial and lse.
/// grid (B, Hkv, n_splits), block 128 for up to 8 query heads a kv head, 256 for more; no dynamic
/// shared memory.
extern "C" __global__ void __launch_bounds__(THREADS)
attend_cascade(const bf16* __restrict__ q, long long q_stride, const KV* __restrict__ keys,
              const KV* __restrict__ values, const float* __restrict__ key_scales,
              const float* __restrict__ value_scales, const int* __restrict__ spans,
              const int* __restrict__ rows, const int* __restrict__ n_spans, int max_spans,
              int n_kv_heads, int n_splits, int n_all_splits, float softmax_scale,
              float* __restrict__ partial, float* __restrict__ lse) {
    __shared__ Stage stages[STAGES];
    int bundle = blockIdx.x, kv_head = blockIdx.y, split = blockIdx.z, n = n_spans[bundle];
    if (n == 0) return;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, leader = rows[bundle * ROWS];
    int per = (n + n_splits - 1) / n_splits;
    int first = split * per, end = least(first + per, n);

    // The row of each tile, or -1, its first head there, and the place of that in lse.
    int row[2], head[2];
    long long out[2];
    Running<2> state;
    Query<2> query;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        row[h] = rows[bundle * ROWS + (WARP_ROWS == 2 ? 2 * warp + h : warp)];
        head[h] = WARP_ROWS == 2 ? 0 : 8 * h;
        long long out_split = (long long)row[h] * n_all_splits + n_all_splits - n_splits + split;
        out[h] = (out_split * n_kv_heads + kv_head) * GROUPS + head[h];
        // A tile without a row computes the leader's, and writes nothing.
        const bf16* own_q = q + (row[h] < 0 ? leader : row[h]) * q_stride;
        query.load(h, own_q + (kv_head * GROUPS + head[h]) * HEAD_DIM, GROUPS - head[h], softmax_scale);
    }
    const int* shared_spans = spans + (long long)leader * max_spans;
    auto span_at = [&](int s) { return s < end ? shared_spans[s] : 0; };
    auto copy = [&](int span, int stage) {
        if (span)
            copy_block(stages[stage], block_at(keys, values, key_scales, value_scales, span,
                                               n_kv_heads, kv_head));
        end_copy_group();  // One for each block, also where there is none.
    };
    for (int i = 0; i < STAGES - 1; i++) copy(span_at(first + i), i);
    int current = 0, last = STAGES - 1;
    // Of the next block to be copied and of the one that is used: known before they are wanted.
    int next = span_at(first + STAGES - 1), own = span_at(first);
    for (int s = first; s < end; s++) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();  // All have what they copied of this block, and have left the one before.
        copy(next, last);
        next = span_at(s + STAGES);
        const Stage& stage = stages[current];
        Block block{stage.keys, stage.values, stage.key_scales, stage.value_scales, own & 31};
        own = span_at(s + 1);
        take<Scattered>(state, query, block);
        last = current;
        current = current + 1 < STAGES ? current + 1 : 0;
    }
    gather_sums(state);

#pragma unroll
    for (int h = 0; h < 2; h++) {
        float scale[2];
#pragma unroll
        for (int e = 0; e < 2; e++)
            scale[e] = state.value_power / __shfl_sync(WHOLE_WARP, state.sum[h], lane % 4 * 8 + 4 * e);
        if (row[h] < 0) continue;
        int n_heads = GROUPS - head[h];
        if (first < end) store_values(state, h, scale, n_heads, partial + out[h] * HEAD_DIM);
        if (lane % 4 == 0 && lane / 4 < n_heads)
            lse[out[h] + lane / 4] =
                first < end ? log_sum(state.peak[h], state.sum[h]) : negative_infinity();
    }
}
