// Attention of one query token a row over a paged cache, split over the context (flash decoding),
// and the merge of the splits. Does not know sequences or prefixes: a row's context is a list of
// spans, and rows may share blocks.
//
// -DHEAD_DIM=D (a power of two, 16..256), -DGROUPS=G (query heads a kv head, 1..16), -DKV_FP8=0|1.
// Arenas: [n_blocks, Hkv, 16, D]; with KV_FP8 e4m3 with one f32 scale a token and head in
// [n_blocks, Hkv, 16].

#if KV_FP8
typedef u8 KV;
typedef uint2 Packed;
#else
typedef bf16 KV;
typedef uint4 Packed;
#endif

// A token's head is spread over LANES lanes of eight dimensions each, so that a warp holds SETS
// tokens side by side. Each set takes TOKENS of them at a time, all loaded before any is used;
// their softmax is shared out, a token to each LANES_A_TOKEN lanes of the set.
constexpr int WARPS = 4;
constexpr int LANES = HEAD_DIM / 8;
constexpr int SETS = 32 / LANES;
constexpr int TOKENS = SETS > 4 ? 16 / SETS : 4;
constexpr int LANES_A_TOKEN = LANES / TOKENS;
// More query heads than registers can hold take several passes over the context.
constexpr int PASSES = (GROUPS + 7) / 8;
constexpr int HEADS = (GROUPS + PASSES - 1) / PASSES;

// A running maximum starts here rather than at -inf, whose difference from itself is NaN.
constexpr float VERY_LOW = -1e30f;

/// The running softmax of one set of lanes. For each query head: the maximum (in powers of two),
/// the sum over the tokens that this lane was given, and this lane's eight dimensions of the
/// weighted sum of values.
struct Running {
    float peak[HEADS], sum[HEADS], values[HEADS][8];
};

/// Sums scores[t] over the lanes of a set, and returns the sum for this lane's own token. The first
/// steps exchange halves: a lane keeps half of the tokens and hands its part of the others over.
DEVICE float own_score(float (&scores)[TOKENS]) {
    int by = LANES / 2;
#pragma unroll
    for (int n = TOKENS / 2; n > 0; n /= 2, by /= 2) {
        bool upper = threadIdx.x & by;
#pragma unroll
        for (int t = 0; t < n; t++) {
            float other = __shfl_xor_sync(WHOLE_WARP, upper ? scores[t] : scores[t + n], by);
            scores[t] = (upper ? scores[t + n] : scores[t]) + other;
        }
    }
#pragma unroll
    for (int i = LANES_A_TOKEN / 2; i > 0; i /= 2)
        scores[0] += __shfl_xor_sync(WHOLE_WARP, scores[0], i);
    return scores[0];
}

/// Takes TOKENS tokens of a set into `state`. `valid` and the scales are those of this lane's own
/// token; one that is not valid has no weight.
DEVICE void take(Running& state, const float (*q)[8], const Packed* keys, const Packed* values,
                 float key_scale, float value_scale, bool valid) {
    float scores[HEADS][TOKENS], weight[HEADS], peak[HEADS];
#pragma unroll
    for (int t = 0; t < TOKENS; t++) {
        float key[8];
        unpack8(keys[t], key);
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            scores[h][t] = 0.0f;
#pragma unroll
            for (int i = 0; i < 8; i++) scores[h][t] += q[h][i] * key[i];
        }
    }
    bool grew = false;
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        float score = own_score(scores[h]) * key_scale;
        weight[h] = valid ? score : negative_infinity();
        peak[h] = fmaxf(state.peak[h], weight[h]);
#pragma unroll
        for (int by = LANES / 2; by >= LANES_A_TOKEN; by /= 2)
            peak[h] = fmaxf(peak[h], __shfl_xor_sync(WHOLE_WARP, peak[h], by));
        grew |= peak[h] > state.peak[h];
    }
    // Rare after the first tokens. Where no maximum grew the factors would all be 1.
    if (__ballot_sync(WHOLE_WARP, grew)) {
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            float shrink = exp2f(state.peak[h] - peak[h]);
            state.peak[h] = peak[h];
            state.sum[h] *= shrink;
#pragma unroll
            for (int i = 0; i < 8; i++) state.values[h][i] *= shrink;
        }
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        weight[h] = exp2f(weight[h] - state.peak[h]);
        state.sum[h] += weight[h];
        weight[h] *= value_scale;
    }
#pragma unroll
    for (int t = 0; t < TOKENS; t++) {
        float value[8];
        unpack8(values[t], value);
        int owner = threadIdx.x % 32 / LANES * LANES + t * LANES_A_TOKEN;
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            float w = __shfl_sync(WHOLE_WARP, weight[h], owner);
#pragma unroll
            for (int i = 0; i < 8; i++) state.values[h][i] += w * value[i];
        }
    }
}

/// Adds up the sums that were shared out over the lanes of a set.
DEVICE void gather_sums(Running& state) {
#pragma unroll
    for (int h = 0; h < HEADS; h++)
#pragma unroll
        for (int by = LANES / 2; by >= LANES_A_TOKEN; by /= 2)
            state.sum[h] += __shfl_xor_sync(WHOLE_WARP, state.sum[h], by);
}

/// Merges the sets of a warp, so that all of them hold the same.
DEVICE void merge_sets(Running& state) {
#pragma unroll
    for (int by = LANES; by < 32; by *= 2) {
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            float other = __shfl_xor_sync(WHOLE_WARP, state.peak[h], by);
            float peak = fmaxf(state.peak[h], other);
            float shrink = exp2f(state.peak[h] - peak);
            state.peak[h] = peak;
            state.sum[h] *= shrink;
            state.sum[h] += __shfl_xor_sync(WHOLE_WARP, state.sum[h], by);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                state.values[h][i] *= shrink;
                state.values[h][i] += __shfl_xor_sync(WHOLE_WARP, state.values[h][i], by);
            }
        }
    }
}

/// q row r at q + r * q_stride [Hq, D] bf16, query head h with kv head h / G; spans [R, max_spans]
/// i32, each block << 5 | n_tokens (1..16, the first slots of that block); n_spans [R] (0:
/// padding).
/// Split s takes spans [s * per, (s + 1) * per), per = ceil(n_spans / n_splits).
/// -> partial [R, n_splits, Hq, D] f32: the attention over the split alone; lse [R, n_splits, Hq]
/// f32: the natural logarithm of its sum of exp(score), -inf for an empty split (partial is not
/// written).
/// grid (R, Hkv, n_splits), block 128, no dynamic shared memory. Rows come fastest, so that rows
/// with the same beginning run at the same time and meet in L2.
extern "C" __global__ void __launch_bounds__(WARPS * 32)
attend(const bf16* __restrict__ q, long long q_stride, const KV* __restrict__ keys,
       const KV* __restrict__ values, const float* __restrict__ key_scales,
       const float* __restrict__ value_scales, const int* __restrict__ spans,
       const int* __restrict__ n_spans, int max_spans, int n_kv_heads, int n_splits,
       float softmax_scale, float* __restrict__ partial, float* __restrict__ lse) {
    __shared__ float warp_values[WARPS][HEADS][HEAD_DIM];
    __shared__ float warp_peak[WARPS][HEADS], warp_sum[WARPS][HEADS];
    int row = blockIdx.x, kv_head = blockIdx.y, split = blockIdx.z;
    int warp = threadIdx.x / 32, set = threadIdx.x % 32 / LANES, dim = threadIdx.x % LANES * 8;
    int per = (n_spans[row] + n_splits - 1) / n_splits;
    int begin = split * per;
    int end = begin + per < n_spans[row] ? begin + per : n_spans[row];
    const int* row_spans = spans + (long long)row * max_spans;
    // The place of this row, split and kv head in lse, and (times HEAD_DIM) in partial.
    long long out = (((long long)row * n_splits + split) * n_kv_heads + kv_head) * GROUPS;
    if (begin >= end) {
        if (threadIdx.x < GROUPS) lse[out + threadIdx.x] = negative_infinity();
        return;
    }

    for (int pass = 0; pass < PASSES; pass++) {
        Running state;
        float query[HEADS][8];
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            // Where the passes do not divide the heads, the last head is computed twice.
            int head = pass * HEADS + h < GROUPS ? pass * HEADS + h : GROUPS - 1;
            load8(q + row * q_stride + (kv_head * GROUPS + head) * HEAD_DIM + dim, query[h]);
            state.peak[h] = VERY_LOW;
            state.sum[h] = 0.0f;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                query[h][i] *= softmax_scale * 1.44269504f;  // log2(e): scores are powers of two
                state.values[h][i] = 0.0f;
            }
        }

        int next = begin + warp < end ? row_spans[begin + warp] : 0;
        for (int s = begin + warp; s < end; s += WARPS) {
            int n_tokens = next & 31;
            long long first = ((long long)(next >> 5) * n_kv_heads + kv_head) * 16;
            next = s + WARPS < end ? row_spans[s + WARPS] : 0;
            for (int offset = set; offset - set < n_tokens; offset += SETS * TOKENS) {
                // Zero, because a slot that is not in the span may hold NaN.
                Packed key[TOKENS] = {}, value[TOKENS] = {};
#pragma unroll
                for (int t = 0; t < TOKENS; t++) {
                    long long place = (first + offset + t * SETS) * HEAD_DIM + dim;
                    if (offset + t * SETS >= n_tokens) continue;
                    key[t] = *(const Packed*)(keys + place);
                    value[t] = *(const Packed*)(values + place);
                }
                int own = offset + dim / 8 / LANES_A_TOKEN * SETS;
                float key_scale = 1.0f, value_scale = 1.0f;
#if KV_FP8
                if (own < n_tokens) {
                    key_scale = key_scales[first + own];
                    value_scale = value_scales[first + own];
                }
#endif
                take(state, query, key, value, key_scale, value_scale, own < n_tokens);
            }
        }

        gather_sums(state);
        merge_sets(state);
        if (pass > 0) __syncthreads();  // The pass before may still be read.
        if (set == 0) {
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                store8(&warp_values[warp][h][dim], state.values[h]);
                if (dim == 0) {
                    warp_peak[warp][h] = state.peak[h];
                    warp_sum[warp][h] = state.sum[h];
                }
            }
        }
        __syncthreads();
        for (int i = threadIdx.x; i < HEADS * HEAD_DIM; i += WARPS * 32) {
            int h = i / HEAD_DIM, head = pass * HEADS + h;
            if (head >= GROUPS) continue;
            float peak = VERY_LOW, sum = 0.0f, y = 0.0f;
#pragma unroll
            for (int w = 0; w < WARPS; w++) peak = fmaxf(peak, warp_peak[w][h]);
#pragma unroll
            for (int w = 0; w < WARPS; w++) {
                float shrink = exp2f(warp_peak[w][h] - peak);
                sum += warp_sum[w][h] * shrink;
                y += warp_values[w][h][i % HEAD_DIM] * shrink;
            }
            partial[(out + head) * HEAD_DIM + i % HEAD_DIM] = y / sum;
            if (i % HEAD_DIM == 0) lse[out + head] = peak * 0.69314718f + logf(sum);
        }
    }
}

/// Merges the splits of a row into y (shared memory) and returns the largest |y| of this thread's
/// part: y = sum of exp(lse[s]) partial[s] / sum of exp(lse[s]); zero where all splits are empty.
DEVICE float merge_row(const float* partial, const float* lse, int n_splits, int width, float* y) {
    int n_heads = width / HEAD_DIM;
    float amax = 0.0f;
    for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
        const float* head_lse = lse + i / HEAD_DIM;
        float peak = VERY_LOW, sum = 0.0f, out[8] = {}, part[8];
        for (int s = 0; s < n_splits; s++) peak = fmaxf(peak, head_lse[s * n_heads]);
#pragma unroll 4
        for (int s = 0; s < n_splits; s++) {
            // Loaded in any case, so that the loads of several splits overlap; that of an empty
            // split was never written and may be NaN.
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
/// e4m3, scale [R] f32.
/// grid (R), block a multiple of 32 up to 1024, dynamic shared memory width * 4 bytes (at most 48
/// KiB).
extern "C" __global__ void __launch_bounds__(1024)
merge_quantize(const float* partial, const float* lse, int n_splits, int width, u8* q,
               float* scale) {
    JOUST_DYNAMIC_SHARED(float, y);
    long long first_split = (long long)blockIdx.x * n_splits;
    float amax = merge_row(partial + first_split * width, lse + first_split * (width / HEAD_DIM),
                           n_splits, width, y);
    quantize_shared_row(y, amax, width, q + (long long)blockIdx.x * width, scale + blockIdx.x);
}

/// The same, rounded to bf16 -> out [R, width].
/// grid (R), block a multiple of 32 up to 1024, dynamic shared memory width * 4 bytes (at most 48
/// KiB).
extern "C" __global__ void __launch_bounds__(1024)
merge(const float* partial, const float* lse, int n_splits, int width, bf16* out) {
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

JOUST_KERNEL(attend)
JOUST_KERNEL(merge_quantize)
JOUST_KERNEL(merge)
