// Attention of one query token over tokens of a paged cache, by one warp on the tensor cores: code
// that attention.cu and cascade.cu share. It knows nothing of sequences.
//
// -DHEAD_DIM=D (a power of two, 16..256), -DGROUPS=G (query heads per kv head, 1..16),
// -DKV_FP8=0|1. Arenas: [n_blocks, Hkv, 16, D]; with KV_FP8 e4m3 with one f32 scale per token and
// head in [n_blocks, Hkv, 16].
//
// A warp computes the 16 tokens of a cache block at a time, for up to 16 query heads in tiles of 8.
// With so few heads per byte the tensor cores are mostly idle, but the other units would be slower
// than the memory.
//
// Fragments: lane l is in row g = l / 4 and has part q = l % 4 of the row. Scores are queries
// [16 heads, D] times keys [D, 8 tokens], computed twice for 16 tokens: of each tile the lane gets
// head g and tokens 2q, 2q + 1, 2q + 8 and 2q + 9. In this layout the weights are the right factor
// of the product values [D, 16 tokens] times weights [16 tokens, 8 heads], of which the lane gets
// heads 2q and 2q + 1.
//
// The order of dimensions in a sum, and of rows in an output, is free. Fragments are therefore
// filled in the order of wide loads: of a key the lane has the chunks q, q + 4, .., of a value the
// chunks g, g + 8, ...

DEVICE constexpr int least(int a, int b) { return a < b ? a : b; }

constexpr int BLOCK_TOKENS = 16;
// Number of tiles of query heads per kv head.
constexpr int HEAD_TILES = (GROUPS + 7) / 8;
// Number of products per score, 16 dimensions each, and of 16-dimension parts per output.
constexpr int STEPS = HEAD_DIM / 16;
// Dimensions of a token that a lane holds, and dimensions per chunk, which is one load.
constexpr int KEY_DIMS = HEAD_DIM / 4, KEY_CHUNK = least(KEY_DIMS, 16 / sizeof(KV));
constexpr int VALUE_DIMS = HEAD_DIM / 8, VALUE_CHUNK = least(VALUE_DIMS, 16 / sizeof(KV));

// Start of a running maximum. It is not -inf, because -inf - -inf is NaN.
constexpr float VERY_LOW = -1e30f;

/// BYTES bytes, padded with zeros to a whole word.
template <int BYTES>
struct Chunk {
    unsigned words[(BYTES + 3) / 4];
};

template <int BYTES>
DEVICE Chunk<BYTES> load_chunk(const void* from) {
    Chunk<BYTES> y;
    if constexpr (BYTES == 16) {
        uint4 all = *(const uint4*)from;
        y.words[0] = all.x, y.words[1] = all.y, y.words[2] = all.z, y.words[3] = all.w;
    } else if constexpr (BYTES == 8) {
        uint2 all = *(const uint2*)from;
        y.words[0] = all.x, y.words[1] = all.y;
    } else if constexpr (BYTES == 4) {
        y.words[0] = *(const unsigned*)from;
    } else {
        y.words[0] = *(const unsigned short*)from;
    }
    return y;
}

/// Keys and values of one span for one kv head. A span is block << 5 | n_tokens: the first n_tokens
/// (1..16) of a cache block.
struct KvSpan {
    const KV *keys, *values;
    const float *key_scales, *value_scales;
    int n_tokens;
};

/// Addresses of a span's keys and values for one kv head in the arenas.
DEVICE KvSpan kv_span(const KV* keys, const KV* values, const float* key_scales,
                      const float* value_scales, int span, int n_kv_heads, int kv_head) {
    long long token = ((long long)(span >> 5) * n_kv_heads + kv_head) * BLOCK_TOKENS;
    return KvSpan{keys + token * HEAD_DIM, values + token * HEAD_DIM, key_scales + token,
                  value_scales + token, span & 31};
}

/// Offset of a chunk in a block's keys or values: tokens in order.
struct InOrder {
    static MEMBER int place(int token, int dim) { return token * HEAD_DIM + dim; }
};

/// A lane's part of a span's keys: tokens g and g + 8.
struct Keys {
    Chunk<KEY_CHUNK * sizeof(KV)> chunks[2][KEY_DIMS / KEY_CHUNK];
};

/// A lane's part of a span's values: tokens 2q, 2q + 1, 2q + 8 and 2q + 9.
struct Values {
    Chunk<VALUE_CHUNK * sizeof(KV)> chunks[4][VALUE_DIMS / VALUE_CHUNK];
};

/// Scales of the keys and values of the lane's four tokens.
struct Scales {
    float key[4], value[4];
};

/// The i-th of the four tokens whose scores the lane holds.
DEVICE int own_token(int i) { return threadIdx.x % 4 * 2 + i % 2 + i / 2 * 8; }

// Where a span has fewer than 16 tokens, its last token is loaded again: unused slots may hold NaN,
// and a weight of zero times NaN is NaN.

template <class Order>
DEVICE void load_keys(Keys& keys, const KvSpan& span) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int token = least(threadIdx.x % 32 / 4 + 8 * i, span.n_tokens - 1);
#pragma unroll
        for (int c = 0; c < KEY_DIMS / KEY_CHUNK; c++) {
            int dim = (c * 4 + threadIdx.x % 4) * KEY_CHUNK;
            keys.chunks[i][c] =
                load_chunk<KEY_CHUNK * sizeof(KV)>(span.keys + Order::place(token, dim));
        }
    }
}

template <class Order>
DEVICE void load_values(Values& values, const KvSpan& span) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int token = least(own_token(i), span.n_tokens - 1);
#pragma unroll
        for (int c = 0; c < VALUE_DIMS / VALUE_CHUNK; c++) {
            int dim = (c * 8 + threadIdx.x % 32 / 4) * VALUE_CHUNK;
            values.chunks[i][c] =
                load_chunk<VALUE_CHUNK * sizeof(KV)>(span.values + Order::place(token, dim));
        }
    }
}

DEVICE void load_scales(Scales& scales, const KvSpan& span) {
#if KV_FP8
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
        float2 key = *(const float2*)(span.key_scales + own_token(i));
        float2 value = *(const float2*)(span.value_scales + own_token(i));
        scales.key[i] = key.x, scales.key[i + 1] = key.y;
        scales.value[i] = value.x, scales.value[i + 1] = value.y;
    }
#endif
}

/// The largest power of two <= x, for x >= 0; 0 for subnormal x.
DEVICE float power_below(float x) {
    return __uint_as_float(__float_as_uint(x) & 0x7F800000u);
}

/// Exact 1 / power for powers of two up to 2^126; 2^127 for 0.
DEVICE float inverse_of(float power) {
    return __uint_as_float(0x7F000000u - __float_as_uint(power));
}

/// Left factor of the scores: for each tile and step the lane's four dimensions of head g, in bf16,
/// or in f16 for e4m3 keys.
template <int TILES>
struct Query {
    unsigned words[TILES][STEPS][2];
    float scale[TILES];  // factor that turns scores into exponents of two

    /// Fills a tile with q [n_heads, D]; the tile's other heads are zero.
    MEMBER void load(int tile, const bf16* q, int n_heads, float softmax_scale) {
        int head = threadIdx.x % 32 / 4;
        scale[tile] = softmax_scale * 1.44269504f;  // log2(e)
#pragma unroll
        for (int c = 0; c < KEY_DIMS / KEY_CHUNK; c++) {
            int dim = (c * 4 + threadIdx.x % 4) * KEY_CHUNK;
#pragma unroll
            for (int i = 0; i < KEY_CHUNK; i += 4) {
                uint2 four = {};
                if (head < n_heads) four = *(const uint2*)(q + head * HEAD_DIM + dim + i);
                unsigned* to = words[tile][(c * KEY_CHUNK + i) / 4];
                to[0] = four.x, to[1] = four.y;
            }
        }
#if KV_FP8
        to_f16(tile);
#endif
    }

    /// Converts a tile to f16, divided by a power of two that brings its maximum into 1..2.
    MEMBER void to_f16(int tile) {
        float largest = 0.0f;
#pragma unroll
        for (int s = 0; s < STEPS; s++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                largest = fmaxf(largest, fmaxf(fabsf(f32_from_bf16(words[tile][s][i] & 0xFFFF)),
                                               fabsf(f32_from_bf16(words[tile][s][i] >> 16))));
        largest = fmaxf(largest, __shfl_xor_sync(WHOLE_WARP, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(WHOLE_WARP, largest, 2));
        float power = power_below(largest), inverse = inverse_of(power);
        scale[tile] *= power;
#pragma unroll
        for (int s = 0; s < STEPS; s++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                words[tile][s][i] =
                    f16x2_from_f32(f32_from_bf16(words[tile][s][i] & 0xFFFF) * inverse,
                                   f32_from_bf16(words[tile][s][i] >> 16) * inverse);
    }
};

/// State of the running softmax, per tile:
/// - peak and sum of head g: maximum score (as an exponent of two), and sum of weights over this
///   lane's tokens;
/// - values of heads 2q and 2q + 1: the lane's dimensions of the weighted sum of values. These are
///   the chunks g, g + 8, .. in order; dimension j of head 2q + e is in
///   values[j / 2][j % 2 * 2 + e].
/// With KV_FP8 the values are divided by value_power, so that weights fit into f16: 2^-14 times the
/// power of two below the largest value scale so far.
template <int TILES>
struct RunningSoftmax {
    float peak[TILES], sum[TILES], values[TILES][STEPS][4];
    float value_power = KV_FP8 ? 0.0f : 1.0f;

    MEMBER RunningSoftmax() {
#pragma unroll
        for (int h = 0; h < TILES; h++) {
            peak[h] = VERY_LOW;
            sum[h] = 0.0f;
#pragma unroll
            for (int s = 0; s < STEPS; s++)
#pragma unroll
                for (int i = 0; i < 4; i++) values[h][s][i] = 0.0f;
        }
    }
};

/// Scores of head g of each tile for the lane's four tokens.
template <int TILES>
DEVICE void compute_scores(float (&scores)[TILES][4], const Query<TILES>& query, const Keys& keys) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float sums[4] = {};
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            unsigned a[4] = {query.words[0][s][0], 0, query.words[0][s][1], 0}, b[2];
            if constexpr (TILES == 2) a[1] = query.words[1][s][0], a[3] = query.words[1][s][1];
            int at = s * 4 % KEY_CHUNK * sizeof(KV) / 4;
            const unsigned* words = keys.chunks[i][s * 4 / KEY_CHUNK].words + at;
#if KV_FP8
            f16x4_from_e4m3x4(words[0], b[0], b[1]);
            mma_f16(sums, a, b);
#else
            b[0] = words[0], b[1] = words[1];
            mma_bf16(sums, a, b);
#endif
        }
#pragma unroll
        for (int h = 0; h < TILES; h++)
            scores[h][2 * i] = sums[2 * h], scores[h][2 * i + 1] = sums[2 * h + 1];
    }
}

/// Adds the scores of the lane's four tokens to the running softmax and computes their weights, in
/// the layout of the values' right factor. Tokens from n_tokens on get weight 0.
template <int TILES>
DEVICE void softmax_weights(RunningSoftmax<TILES>& state, unsigned (&weights)[TILES][2],
                            float (&scores)[TILES][4], const Query<TILES>& query,
                            const Scales& scales, int n_tokens) {
    float peak[TILES], value_power = state.value_power;
    bool grew = false;
#pragma unroll
    for (int h = 0; h < TILES; h++) {
        peak[h] = state.peak[h];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float factor = KV_FP8 ? query.scale[h] * scales.key[i] : query.scale[h];
            scores[h][i] = own_token(i) < n_tokens ? scores[h][i] * factor : negative_infinity();
            peak[h] = fmaxf(peak[h], scores[h][i]);
        }
        peak[h] = fmaxf(peak[h], __shfl_xor_sync(WHOLE_WARP, peak[h], 1));
        peak[h] = fmaxf(peak[h], __shfl_xor_sync(WHOLE_WARP, peak[h], 2));
        grew |= peak[h] > state.peak[h];
    }
#if KV_FP8
    float largest = 0.0f;
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (own_token(i) < n_tokens) largest = fmaxf(largest, scales.value[i]);
    largest = fmaxf(largest, __shfl_xor_sync(WHOLE_WARP, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(WHOLE_WARP, largest, 2));
    // Weights then reach 2^15, within the 2^16 of f16. They use the upper end of the range because
    // small weights of many tokens may matter as much as a large weight of a token with small
    // values (an attention sink).
    value_power = fmaxf(value_power, power_below(largest) * 6.103515625e-5f);  // 2^-14
    grew |= value_power > state.value_power;
#endif
    // Rare after the first tokens. Where no maximum grew, all factors would be 1.
    if (__ballot_sync(WHOLE_WARP, grew)) {
        float shrink_values = state.value_power * inverse_of(value_power);
        state.value_power = value_power;
#pragma unroll
        for (int h = 0; h < TILES; h++) {
            float shrink = exp2f(state.peak[h] - peak[h]);
            state.peak[h] = peak[h];
            state.sum[h] *= shrink;
            float own[2];
#pragma unroll
            for (int e = 0; e < 2; e++)
                own[e] = __shfl_sync(WHOLE_WARP, shrink, threadIdx.x % 4 * 8 + 4 * e) *
                         shrink_values;
#pragma unroll
            for (int s = 0; s < STEPS; s++)
#pragma unroll
                for (int i = 0; i < 4; i++) state.values[h][s][i] *= own[i % 2];
        }
    }
#pragma unroll
    for (int h = 0; h < TILES; h++) {
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
            float pair[2];
#pragma unroll
            for (int e = 0; e < 2; e++) {
                pair[e] = exp2f(scores[h][i + e] - state.peak[h]);
                state.sum[h] += pair[e];
#if KV_FP8
                pair[e] *= own_token(i + e) < n_tokens
                               ? scales.value[i + e] * inverse_of(state.value_power)
                               : 0.0f;
#endif
            }
            weights[h][i / 2] =
                KV_FP8 ? f16x2_from_f32(pair[0], pair[1]) : bf16x2_from_f32(pair[0], pair[1]);
        }
    }
}

/// Adds the weighted values of 16 tokens to the running sums.
template <int TILES>
DEVICE void add_values(RunningSoftmax<TILES>& state, const Values& values,
                       const unsigned (&weights)[TILES][2]) {
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
        // Two dimensions of each of the lane's four tokens.
        unsigned two[4], a[4];
        int bytes = 2 * s % VALUE_CHUNK * sizeof(KV);
#pragma unroll
        for (int i = 0; i < 4; i++) two[i] = values.chunks[i][2 * s / VALUE_CHUNK].words[bytes / 4];
#if KV_FP8
        unsigned select = bytes % 4 ? 0x7362 : 0x5140;
#pragma unroll
        for (int i = 0; i < 4; i += 2)
            f16x4_from_e4m3x4(__byte_perm(two[i], two[i + 1], select), a[i], a[i + 1]);
#pragma unroll
        for (int h = 0; h < TILES; h++) mma_f16(state.values[h][s], a, weights[h]);
#else
#pragma unroll
        for (int i = 0; i < 4; i++)
            a[i] = __byte_perm(two[i / 2 * 2], two[i / 2 * 2 + 1], i % 2 ? 0x7632 : 0x5410);
#pragma unroll
        for (int h = 0; h < TILES; h++) mma_bf16(state.values[h][s], a, weights[h]);
#endif
    }
}

/// Adds a span's tokens to the running softmax. All loads are started before the first is used.
template <class Order, int TILES>
DEVICE void attend_span(RunningSoftmax<TILES>& state, const Query<TILES>& query,
                        const KvSpan& span) {
    Keys keys;
    Values values;
    Scales scales;
    load_keys<Order>(keys, span);
    load_scales(scales, span);
    load_values<Order>(values, span);
    float scores[TILES][4];
    unsigned weights[TILES][2];
    compute_scores(scores, query, keys);
    softmax_weights(state, weights, scores, query, scales, span.n_tokens);
    add_values(state, values, weights);
}

/// Adds the sums of the lanes that hold the same head; all of these lanes get the result.
template <int TILES>
DEVICE void gather_sums(RunningSoftmax<TILES>& state) {
#pragma unroll
    for (int h = 0; h < TILES; h++) {
        state.sum[h] += __shfl_xor_sync(WHOLE_WARP, state.sum[h], 1);
        state.sum[h] += __shfl_xor_sync(WHOLE_WARP, state.sum[h], 2);
    }
}

/// Stores the weighted sums of values of tile h, times scale[e] for head 2q + e, to `to`
/// [heads, D]. Heads from n_heads on are not stored.
template <int TILES>
DEVICE void store_values(const RunningSoftmax<TILES>& state, int h, const float (&scale)[2],
                         int n_heads, float* to) {
#pragma unroll
    for (int e = 0; e < 2; e++) {
        int head = threadIdx.x % 4 * 2 + e;
        if (head >= n_heads) continue;
#pragma unroll
        for (int j = 0; j < VALUE_DIMS; j += 2) {
            int chunk = j / VALUE_CHUNK * 8 + threadIdx.x % 32 / 4;
            const float* own = state.values[h][j / 2];
            *(float2*)(to + head * HEAD_DIM + chunk * VALUE_CHUNK + j % VALUE_CHUNK) =
                float2{own[e] * scale[e], own[2 + e] * scale[e]};
        }
    }
}

/// Natural logarithm of sum * 2^peak.
DEVICE float log_sum(float peak, float sum) { return peak * 0.69314718f + logf(sum); }
