// Norms of heads, rotary position embedding of queries and keys, and the append of keys and values
// to the cache.
// It knows the layout of the cache arenas, but not the sequence that a slot belongs to.
//
// -DHEAD_DIM=D (a multiple of 4), -DKV_FP8=0|1.
// Arenas: [n_blocks, Hkv, 16, D]; slot = block * 16 + offset. With KV_FP8 they hold e4m3, and the
// scale arenas [n_blocks, Hkv, 16] hold one f32 per token and head.

// Each lane handles neighbouring elements i and i + 1 of the first half of a head, and the same
// elements of the second half.
constexpr int HALF = HEAD_DIM / 2;
constexpr int PAIRS = (HALF + 63) / 64;

DEVICE void load2(const bf16* x, float* y) {
    ushort2 both = *(const ushort2*)x;
    y[0] = f32_from_bf16(both.x);
    y[1] = f32_from_bf16(both.y);
}

DEVICE void store2(bf16* x, const float* y, float) {
    *(ushort2*)x = ushort2{bf16_from_f32(y[0]), bf16_from_f32(y[1])};
}

DEVICE void store2(u8* x, const float* y, float inverse) {
    *(uchar2*)x = e4m3x2_from_f32(y[0] * inverse, y[1] * inverse);
}

template <class T>
DEVICE void store_head(T* head, const float (*y)[4], int lane, float inverse) {
#pragma unroll
    for (int p = 0; p < PAIRS; p++) {
        int i = lane * 2 + p * 64;
        if (i >= HALF) continue;
        store2(head + i, y[p], inverse);
        store2(head + HALF + i, y[p] + 2, inverse);
    }
}

/// qkv [N, (Hq + 2 Hkv) * D] bf16, positions [N], inv_freq [D / 2], slots [N], q_norm and k_norm
/// [D] bf16 or null: normalises and rotates the queries in place and appends normalised and rotated
/// keys and unchanged values to the arenas. Of a head x, with w its norm's weight (null: no norm):
/// x <- x / sqrt(mean(x^2) + eps) * w. With x1 and x2 the halves of a head:
/// y1 = x1 cos - x2 sin, y2 = x2 cos + x1 sin. A token with slots[t] < 0 is padding: nothing is
/// written.
/// One warp per token and head: grid (N, ceil((Hq + 2 Hkv) / W)), block 32 * W, no dynamic shared
/// memory.
extern "C" __global__ void __launch_bounds__(1024)
rope_append(bf16* qkv, const int* positions, const float* inv_freq, const int* slots,
            const bf16* q_norm, const bf16* k_norm, float eps, int n_heads, int n_kv_heads,
            KV* keys, KV* values, float* key_scales, float* value_scales) {
    int token = blockIdx.x, lane = threadIdx.x % 32;
    int head = blockIdx.y * (blockDim.x / 32) + threadIdx.x / 32;
    int slot = slots[token];
    if (slot < 0 || head >= n_heads + 2 * n_kv_heads) return;
    bf16* x = qkv + ((long long)token * (n_heads + 2 * n_kv_heads) + head) * HEAD_DIM;
    bool is_value = head >= n_heads + n_kv_heads;
    const bf16* norm = is_value ? nullptr : head < n_heads ? q_norm : k_norm;

    float y[PAIRS][4], squares = 0.0f, amax = 0.0f;
#pragma unroll
    for (int p = 0; p < PAIRS; p++) {
        int i = lane * 2 + p * 64;
        if (i >= HALF) continue;
        load2(x + i, y[p]);
        load2(x + HALF + i, y[p] + 2);
#pragma unroll
        for (int j = 0; j < 4; j++) squares += y[p][j] * y[p][j];
    }
    // All lanes have the same head, so that all or none take part in the sum.
    float inverse_rms = norm ? rsqrtf(warp_sum(squares) / HEAD_DIM + eps) : 1.0f;
#pragma unroll
    for (int p = 0; p < PAIRS; p++) {
        int i = lane * 2 + p * 64;
        if (i >= HALF) continue;
        if (norm) {
            float weight[4];
            load2(norm + i, weight);
            load2(norm + HALF + i, weight + 2);
#pragma unroll
            for (int j = 0; j < 4; j++) y[p][j] = y[p][j] * inverse_rms * weight[j];
        }
#pragma unroll
        for (int j = 0; j < 2; j++) {
            float x1 = y[p][j], x2 = y[p][j + 2], sine, cosine;
            if (!is_value) {
                sincosf((float)positions[token] * inv_freq[i + j], &sine, &cosine);
                y[p][j] = x1 * cosine - x2 * sine;
                y[p][j + 2] = x2 * cosine + x1 * sine;
            }
            amax = fmaxf(amax, fmaxf(fabsf(y[p][j]), fabsf(y[p][j + 2])));
        }
    }
    if (head < n_heads) return store_head(x, y, lane, 1.0f);

    int kv_head = (head - n_heads) % n_kv_heads;
    long long place = ((long long)(slot / 16) * n_kv_heads + kv_head) * 16 + slot % 16;
    float inverse = 1.0f;
#if KV_FP8
    float scale = e4m3_scale(warp_max(amax));
    inverse = 1.0f / scale;
    if (lane == 0) (is_value ? value_scales : key_scales)[place] = scale;
#endif
    store_head((is_value ? values : keys) + place * HEAD_DIM, y, lane, inverse);
}
