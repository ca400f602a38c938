// Attention of many rows over what their contexts begin with: keys and values are read once for ROWS
// rows, a warp each, and used from shared memory. The results are splits of those rows, which
// attention.cu merges with the others (the cascade of Hydragen and FlashInfer, as one more split).
//
// Macros and arenas as in softmax.cuh.

constexpr int ROWS = 8;
constexpr int THREADS = ROWS * 32;
// A span's keys, then its values, in pieces of eight dimensions.
constexpr int PIECES = 2 * 16 * LANES;
constexpr int PIECES_A_THREAD = (PIECES + THREADS - 1) / THREADS;

/// This thread's pieces of one span; zero for slots that are not in it, which may hold NaN.
DEVICE void fetch(Packed* pieces, const KV* keys, const KV* values, int span, int n_kv_heads,
                  int kv_head) {
    long long slot = ((long long)(span >> 5) * n_kv_heads + kv_head) * 16;
#pragma unroll
    for (int j = 0; j < PIECES_A_THREAD; j++) {
        int piece = threadIdx.x + j * THREADS, token = piece / LANES % 16;
        pieces[j] = {};
        if (piece >= PIECES || token >= (span & 31)) continue;
        const KV* from = piece < 16 * LANES ? keys : values;
        pieces[j] = *(const Packed*)(from + (slot + token) * HEAD_DIM + piece % LANES * 8);
    }
}

/// q, spans, arenas and outputs as for `attend`. rows [B, ROWS] i32: the rows of a bundle, filled up
/// with -1; n_spans [B] i32: so many spans all of them begin with (0: no bundle), which the first
/// row's list gives. Split s < n_splits takes the s-th part of them, ceil(n / n_splits) spans each.
/// -> splits n_all_splits - n_splits + s of partial and lse.
/// grid (B, Hkv, n_splits), block 256, no dynamic shared memory.
extern "C" __global__ void __launch_bounds__(THREADS)
attend_shared(const bf16* __restrict__ q, long long q_stride, const KV* __restrict__ keys,
              const KV* __restrict__ values, const float* __restrict__ key_scales,
              const float* __restrict__ value_scales, const int* __restrict__ spans,
              const int* __restrict__ rows, const int* __restrict__ n_spans, int max_spans,
              int n_kv_heads, int n_splits, int n_all_splits, float softmax_scale,
              float* __restrict__ partial, float* __restrict__ lse) {
    __shared__ Packed tile[PIECES];
    __shared__ float scales[2][16];
    int bundle = blockIdx.x, kv_head = blockIdx.y, split = blockIdx.z;
    int n = n_spans[bundle];
    if (n == 0) return;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, set = lane / LANES;
    int dim = lane % LANES * 8, row = rows[bundle * ROWS + warp];
    int per = (n + n_splits - 1) / n_splits;
    int first = split * per;
    int end = first + per < n ? first + per : n;
    long long out_split = (long long)row * n_all_splits + n_all_splits - n_splits + split;
    long long out = (out_split * n_kv_heads + kv_head) * GROUPS;
    if (first >= end) {
        if (row >= 0 && lane < GROUPS) lse[out + lane] = negative_infinity();
        return;
    }
    const int* own_spans = spans + (long long)rows[bundle * ROWS] * max_spans;

    for (int pass = 0; pass < PASSES; pass++) {
        Running state;
        float query[HEADS][8];
        // A warp without a row computes the first one's, and writes nothing.
        int asking = row >= 0 ? row : rows[bundle * ROWS];
        begin(state, query, q + asking * q_stride, kv_head, pass, dim, softmax_scale);
        Packed next[PIECES_A_THREAD];
        fetch(next, keys, values, own_spans[first], n_kv_heads, kv_head);
        for (int s = first; s < end; s++) {
            int span = own_spans[s], n_tokens = span & 31;
            __syncthreads();  // The tile before may still be read.
#pragma unroll
            for (int j = 0; j < PIECES_A_THREAD; j++) {
                int piece = threadIdx.x + j * THREADS;
                if (piece < PIECES) tile[piece] = next[j];
            }
#if KV_FP8
            if (threadIdx.x < 32 && lane % 16 < n_tokens) {
                long long slot = ((long long)(span >> 5) * n_kv_heads + kv_head) * 16;
                scales[lane / 16][lane % 16] = (lane < 16 ? key_scales : value_scales)[slot + lane % 16];
            }
#endif
            __syncthreads();
            // On its way while this one is used.
            if (s + 1 < end) fetch(next, keys, values, own_spans[s + 1], n_kv_heads, kv_head);
            for (int offset = set; offset - set < n_tokens; offset += SETS * TOKENS) {
                Packed key[TOKENS], value[TOKENS];
#pragma unroll
                for (int t = 0; t < TOKENS; t++) {
                    int piece = (offset + t * SETS) * LANES + dim / 8;
                    key[t] = tile[piece];
                    value[t] = tile[16 * LANES + piece];
                }
                int own = offset + dim / 8 / LANES_A_TOKEN * SETS;
                float key_scale = 1.0f, value_scale = 1.0f;
#if KV_FP8
                if (own < n_tokens) {
                    key_scale = scales[0][own];
                    value_scale = scales[1][own];
                }
#endif
                take(state, query, key, value, key_scale, value_scale, own < n_tokens);
            }
        }

        gather_sums(state);
        merge_sets(state);
        if (row < 0 || set != 0) continue;
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            int head = pass * HEADS + h;
            if (head >= GROUPS) continue;
#pragma unroll
            for (int i = 0; i < 8; i++) state.values[h][i] /= state.sum[h];
            store8(partial + (out + head) * HEAD_DIM + dim, state.values[h]);
            if (dim == 0) lse[out + head] = log_sum(state.peak[h], state.sum[h]);
        }
    }
}

JOUST_KERNEL(attend_shared)
