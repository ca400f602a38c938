// Gather of the keys and values of a list of tokens from the cache into contiguous bf16 memory, for
// the attention of whole prompts.
//
// -DHEAD_DIM=D (a multiple of 8), -DKV_FP8=0|1. Arenas as in rope.cu.

DEVICE void copy8(const KV* from, const float* scale, bf16* to) {
#if KV_FP8
    float y[8];
    unpack8(*(const uint2*)from, y);
#pragma unroll
    for (int j = 0; j < 8; j++) y[j] *= *scale;
    store8(to, y);
#else
    *(uint4*)to = *(const uint4*)from;
#endif
}

/// slots [T] -> out_keys, out_values [T, Hkv, D] bf16.
/// grid (T), block a multiple of 32 up to 1024, no dynamic shared memory.
extern "C" __global__ void __launch_bounds__(1024)
gather_kv(const KV* keys, const KV* values, const float* key_scales, const float* value_scales,
          const int* slots, int n_kv_heads, bf16* out_keys, bf16* out_values) {
    int slot = slots[blockIdx.x], width = n_kv_heads * HEAD_DIM;
    long long out = (long long)blockIdx.x * width;
    for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
        long long place = (long long)(slot / 16 * n_kv_heads + i / HEAD_DIM) * 16 + slot % 16;
        long long from = place * HEAD_DIM + i % HEAD_DIM;
        copy8(keys + from, key_scales + place, out_keys + out + i);
        copy8(values + from, value_scales + place, out_values + out + i);
    }
}
