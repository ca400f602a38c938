// The running softmax of one query token over tokens of a paged cache, by one warp: what the two
// attention files share.
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

/// Loads the queries of one pass over a kv head's heads and begins their softmax.
DEVICE void begin(Running& state, float (*query)[8], const bf16* q, int kv_head, int pass, int dim,
                  float softmax_scale) {
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        // Where the passes do not divide the heads, the last head is computed twice.
        int head = pass * HEADS + h < GROUPS ? pass * HEADS + h : GROUPS - 1;
        load8(q + (kv_head * GROUPS + head) * HEAD_DIM + dim, query[h]);
        state.peak[h] = VERY_LOW;
        state.sum[h] = 0.0f;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            query[h][i] *= softmax_scale * 1.44269504f;  // log2(e): scores are powers of two
            state.values[h][i] = 0.0f;
        }
    }
}

/// The natural logarithm of a sum of powers of two.
DEVICE float log_sum(float peak, float sum) { return peak * 0.69314718f + logf(sum); }
