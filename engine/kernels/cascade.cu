// Cascade attention (Hydragen, arXiv 2402.05099; FlashInfer): attention of several rows over the
// prefix that their contexts share. Keys and values are read once for ROWS rows and used from
// shared memory. The results are further splits of those rows, which attention.cu merges with the
// others.
//
// Macros and arenas as in attention.cuh.

constexpr int ROWS = 8;
// A warp has two tiles: of two rows, or of one row with more than eight query heads per kv head.
constexpr int WARP_ROWS = HEAD_TILES == 1 ? 2 : 1;
constexpr int THREADS = ROWS / WARP_ROWS * 32;
constexpr int BLOCK_BYTES = BLOCK_TOKENS * HEAD_DIM * sizeof(KV);
// Cache blocks in shared memory: one in use, the others being copied.
constexpr int STAGES = least(8, 40960 / (2 * BLOCK_BYTES));

// Values per 16-byte copy, and copies per token.
constexpr int CHUNK = 16 / sizeof(KV), CHUNKS = HEAD_DIM / CHUNK;

/// Offset of a chunk in shared memory: the order of a token's chunks differs from token to token,
/// so that lanes that load at the same time use different banks. Loads at the same time are four
/// chunks each of two neighbouring tokens (keys), or two chunks each of every other token (values).
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

/// Starts the copy of a span's cache block to shared memory. All threads call it.
DEVICE void copy_span(Stage& stage, const KvSpan& span) {
    constexpr int AT_ONCE = THREADS / CHUNKS;  // tokens
#pragma unroll
    for (int first = 0; first < BLOCK_TOKENS; first += AT_ONCE) {
        int token = first + threadIdx.x / CHUNKS, dim = threadIdx.x % CHUNKS * CHUNK;
        if (AT_ONCE > BLOCK_TOKENS && token >= BLOCK_TOKENS) continue;
        int to = Scattered::place(token, dim), from = InOrder::place(token, dim);
        copy16_async((uint4*)(stage.keys + to), (const u8*)(span.keys + from), true);
        copy16_async((uint4*)(stage.values + to), (const u8*)(span.values + from), true);
    }
#if KV_FP8
    if (threadIdx.x < BLOCK_TOKENS / 4) {
        int at = threadIdx.x * 4;
        copy16_async((uint4*)(stage.key_scales + at), (const u8*)(span.key_scales + at), true);
        copy16_async((uint4*)(stage.value_scales + at), (const u8*)(span.value_scales + at), true);
    }
#endif
}

/// q, spans, arenas and outputs as for `attend_decode`. rows [B, ROWS] i32: rows of each bundle,
/// padded with -1; n_spans [B] i32: number of leading spans that all rows of the bundle share (0:
/// no bundle), listed in the first row's spans. Split s < n_splits covers the s-th part of these
/// spans, ceil(n / n_splits) spans each.
/// -> splits n_all_splits - n_splits + s of partial and lse.
/// grid (B, Hkv, n_splits), block 128 for up to 8 query heads per kv head, 256 for more; no dynamic
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

    // Per tile: its row or -1, its first head, and the offset of that head in lse.
    int row[2], head[2];
    long long out[2];
    RunningSoftmax<2> state;
    Query<2> query;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        row[h] = rows[bundle * ROWS + (WARP_ROWS == 2 ? 2 * warp + h : warp)];
        head[h] = WARP_ROWS == 2 ? 0 : 8 * h;
        long long out_split = (long long)row[h] * n_all_splits + n_all_splits - n_splits + split;
        out[h] = (out_split * n_kv_heads + kv_head) * GROUPS + head[h];
        // A tile without a row computes the leader's row and writes nothing.
        const bf16* own_q = q + (row[h] < 0 ? leader : row[h]) * q_stride;
        query.load(h, own_q + (kv_head * GROUPS + head[h]) * HEAD_DIM, GROUPS - head[h],
                   softmax_scale);
    }
    const int* shared_spans = spans + (long long)leader * max_spans;
    auto span_at = [&](int s) { return s < end ? shared_spans[s] : 0; };
    auto copy = [&](int span, int stage) {
        if (span)
            copy_span(stages[stage], kv_span(keys, values, key_scales, value_scales, span,
                                             n_kv_heads, kv_head));
        end_copy_group();  // One group per stage, also for an absent span.
    };
    for (int i = 0; i < STAGES - 1; i++) copy(span_at(first + i), i);
    int current = 0, last = STAGES - 1;
    // Spans of the next copy and of the current stage, loaded before they are needed.
    int next = span_at(first + STAGES - 1), own = span_at(first);
    for (int s = first; s < end; s++) {
        wait_for_copies<STAGES - 2>();
        __syncthreads();  // All copies of this stage have arrived; all threads left the last one.
        copy(next, last);
        next = span_at(s + STAGES);
        const Stage& stage = stages[current];
        KvSpan span{stage.keys, stage.values, stage.key_scales, stage.value_scales, own & 31};
        own = span_at(s + 1);
        attend_span<Scattered>(state, query, span);
        last = current;
        current = current + 1 < STAGES ? current + 1 : 0;
    }
    gather_sums(state);

#pragma unroll
    for (int h = 0; h < 2; h++) {
        float scale[2];
#pragma unroll
        for (int e = 0; e < 2; e++)
            scale[e] = state.value_power /
                       __shfl_sync(WHOLE_WARP, state.sum[h], lane % 4 * 8 + 4 * e);
        if (row[h] < 0) continue;
        int n_heads = GROUPS - head[h];
        if (first < end) store_values(state, h, scale, n_heads, partial + out[h] * HEAD_DIM);
        if (lane % 4 == 0 && lane / 4 < n_heads)
            lse[out[h] + lane / 4] =
                first < end ? log_sum(state.peak[h], state.sum[h]) : negative_infinity();
    }
}
