// Quantisation of bf16 rows to e4m3 with one scale per row. It does not know what the rows mean.

/// x [N, width] bf16 with row stride x_stride -> q [N, width] e4m3, scale [N] f32, with x about
/// equal to q * scale.
/// grid (N), block a multiple of 32 up to 1024, no dynamic shared memory.
extern "C" __global__ void __launch_bounds__(1024)
quantize_rows(const bf16* x, long long x_stride, int width, u8* q, float* scale) {
    const bf16* row = x + blockIdx.x * x_stride;
    u8* out = q + (long long)blockIdx.x * width;
    float y[8], amax = 0.0f;
    for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
        load8(row + i, y);
        amax = max_abs8(amax, y);
    }
    float row_scale = e4m3_scale(block_max(amax));
    float inverse = 1.0f / row_scale;
    for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
        load8(row + i, y);
        store8_e4m3(out + i, y, inverse);
    }
    if (threadIdx.x == 0) scale[blockIdx.x] = row_scale;
}
