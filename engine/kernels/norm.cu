// RMSNorm fused with the residual addition before it. It knows nothing of layers.

/// Adds `more` to the row x, writes the normalised row to `y` (shared memory) and returns the
/// largest |y| of the calling thread's values. A thread reads only the values that it wrote itself,
/// so that no barrier is needed.
DEVICE float normalize_row(float* x, const bf16* more, const bf16* weight, float eps, int width,
                           float* y) {
    float part[8], other[8], squares = 0.0f, amax = 0.0f;
    for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
        load8(x + i, part);
        if (more) {
            load8(more + i, other);
#pragma unroll
            for (int j = 0; j < 8; j++) part[j] += other[j];
            store8(x + i, part);
        }
#pragma unroll
        for (int j = 0; j < 8; j++) squares += part[j] * part[j];
        store8(y + i, part);
    }
    float inverse_rms = rsqrtf(block_sum(squares) / width + eps);
    for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
        load8(y + i, part);
        load8(weight + i, other);
#pragma unroll
        for (int j = 0; j < 8; j++) part[j] = part[j] * inverse_rms * other[j];
        store8(y + i, part);
        amax = max_abs8(amax, part);
    }
    return amax;
}

/// x [N, width] f32 += more [N, width] bf16 (null: x is unchanged);
/// y = x / sqrt(mean(x^2) + eps) * weight [width] -> q [N, width] e4m3, scale [N] f32.
/// Thread blocks from n_rows = N on prefetch next_bytes each of `next`.
/// grid (N or more), block a multiple of 32 up to 1024, dynamic shared memory width * 4 bytes (at
/// most 48 KiB).
extern "C" __global__ void __launch_bounds__(1024)
rmsnorm_residual_quantize(float* x, const bf16* more, const bf16* weight, float eps, int width,
                          u8* q, float* scale, int n_rows, const u8* next, int next_bytes) {
    if (prefetches_next(n_rows, next, next_bytes)) return;
    JOUST_DYNAMIC_SHARED(float, y);
    long long row = (long long)blockIdx.x * width;
    float amax = normalize_row(x + row, more ? more + row : more, weight, eps, width, y);
    quantize_shared_row(y, amax, width, q + row, scale + blockIdx.x);
}

/// As `rmsnorm_residual_quantize`, with y rounded to bf16 -> out [N, width].
/// Thread blocks from n_rows = N on prefetch next_bytes each of `next`.
/// grid (N or more), block a multiple of 32 up to 1024, dynamic shared memory width * 4 bytes (at
/// most 48 KiB).
extern "C" __global__ void __launch_bounds__(1024)
rmsnorm_residual(float* x, const bf16* more, const bf16* weight, float eps, int width, bf16* out,
                 int n_rows, const u8* next, int next_bytes) {
    if (prefetches_next(n_rows, next, next_bytes)) return;
    JOUST_DYNAMIC_SHARED(float, y);
    long long row = (long long)blockIdx.x * width;
    normalize_row(x + row, more ? more + row : more, weight, eps, width, y);
    for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
        float part[8];
        load8(y + i, part);
        store8(out + row + i, part);
    }
}
