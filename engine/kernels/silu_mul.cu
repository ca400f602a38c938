// Gated activation of the feed-forward block: silu(gate) * up. It knows nothing of the products
// around it.

DEVICE void gated8(const bf16* gate_up, int width, int i, float* y) {
    float up[8];
    load8(gate_up + i, y);
    load8(gate_up + width + i, up);
#pragma unroll
    for (int j = 0; j < 8; j++) y[j] = y[j] / (1.0f + expf(-y[j])) * up[j];
}

/// gate_up [N, 2 * width] bf16 (gate first) -> q [N, width] e4m3, scale [N] f32.
/// The row is computed twice instead of kept: the second read is from L2.
/// Thread blocks from n_rows = N on prefetch next_bytes each of `next`.
/// grid (N or more), block a multiple of 32 up to 1024, no dynamic shared memory.
extern "C" __global__ void __launch_bounds__(1024)
silu_mul_quantize(const bf16* gate_up, int width, u8* q, float* scale, int n_rows, const u8* next,
                  int next_bytes) {
    if (prefetches_next(n_rows, next, next_bytes)) return;
    const bf16* row = gate_up + (long long)blockIdx.x * 2 * width;
    u8* out = q + (long long)blockIdx.x * width;
    float y[8], amax = 0.0f;
    for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
        gated8(row, width, i, y);
        amax = max_abs8(amax, y);
    }
    float row_scale = e4m3_scale(block_max(amax));
    float inverse = 1.0f / row_scale;
    for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
        gated8(row, width, i, y);
        store8_e4m3(out + i, y, inverse);
    }
    if (threadIdx.x == 0) scale[blockIdx.x] = row_scale;
}

/// gate_up [N, 2 * width] bf16 (gate first) -> out [N, width] bf16.
/// Thread blocks from n_rows = N on prefetch next_bytes each of `next`.
/// grid (N or more), block a multiple of 32 up to 1024, no dynamic shared memory.
extern "C" __global__ void __launch_bounds__(1024)
silu_mul(const bf16* gate_up, int width, bf16* out, int n_rows, const u8* next, int next_bytes) {
    if (prefetches_next(n_rows, next, next_bytes)) return;
    const bf16* row = gate_up + (long long)blockIdx.x * 2 * width;
    for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
        float y[8];
        gated8(row, width, i, y);
        store8(out + (long long)blockIdx.x * width + i, y);
    }
}
