// Skinny GEMM: products of few tokens with an e4m3 matrix, bound by the memory that delivers the
// matrix. It does not know the layer that the matrix belongs to.
//
// -DN_TILES=T (1, 2, 4 or 8: up to 8 * T tokens), -DSKINNY_GEMM=name (the kernel's name),
// -DCHUNKS_AHEAD=n (chunks of weights in flight per warp and fragment). A token's result has the
// same bits for every T and whatever other tokens are in the batch.
//
// The weights are the left factor: output channels fill the 16 rows of a fragment, and the tokens
// only its 8 columns. The order of k in a sum is free. Fragments are therefore filled in the order
// of 16-byte loads. Of 64 bytes of a row, lane l loads bytes l % 4 * 16 .. + 15: four words, of
// which 0 and 1 belong to one product over 32 values of k, and 2 and 3 to the next. Where the first
// product has k = l % 4 * 4 + byte and k = 16 + l % 4 * 4 + byte, the data are of
// k = l % 4 * 16 + byte and k = l % 4 * 16 + 4 + byte, for weights and tokens alike. The second
// product has the data 8 bytes later.
//
// The warps of a thread block have the same channels and take turns along k. Only one warp of the
// thread block uses a given part of the tokens, so that it is loaded straight to registers; shared
// memory would be one more copy. The other thread blocks of a multiprocessor need the same part at
// about the same time and may find it in L1, which the weights bypass.
//
// The weights pass through shared memory as a queue, private to each lane: a lane can wait for the
// oldest of several asynchronous copies. For loads to registers that are in flight across passes of
// a loop, the compiler waits for all of them at once.

// With many tokens two fragments of channels share the tokens that a warp loads and converts.
constexpr int ROW_TILES = N_TILES < 4 ? 1 : 2;
constexpr int ROWS = 16 * ROW_TILES;
// Equal for every N_TILES, because it decides the order of the sums.
constexpr int WARPS = 6;
constexpr int MIN_BLOCKS_PER_SM = N_TILES < 4 ? 5 : 2;
// A warp's turn is two chunks of 64 bytes of each row: a whole line of L2.
constexpr int CHUNK = 64;
constexpr int TURN = 2 * CHUNK;
constexpr int ROUND = WARPS * TURN;
// Chunks whose weights are in flight: 4 KiB per warp, 24 KiB per thread block. At 3.35 TB/s and
// 0.8 us of latency, 20 KiB per multiprocessor keep the memory busy.
constexpr int AHEAD = CHUNKS_AHEAD / ROW_TILES;

/// Offset of chunk `i` of a warp from its chunk 0, in bytes.
DEVICE constexpr int chunk_offset(int i) { return i / 2 * ROUND + i % 2 * CHUNK; }

/// A warp's weights of one chunk: per lane 16 bytes of each of its two rows of a fragment.
struct Weights {
    uint4 rows[ROW_TILES][2][32];
};

/// Starts the copy of a chunk's weights. The lane's 16 bytes of the upper row of tile r begin at
/// rows[r] + offset. Writes zeros unless `wanted`.
DEVICE void copy_weights(Weights& to, const u8* const (&rows)[ROW_TILES], int width, int offset,
                         bool wanted) {
#pragma unroll
    for (int r = 0; r < ROW_TILES; r++)
#pragma unroll
        for (int i = 0; i < 2; i++)
            copy16_async(&to.rows[r][i][threadIdx.x % 32], rows[r] + 8LL * i * width + offset,
                         wanted);
    end_copy_group();
}

/// The 16 bytes at `at` of the token that begins at x + row. Beyond the width it returns other
/// bytes of the token: multiplied by weights of zero they add nothing, unless the token holds NaN
/// and its result is NaN anyway.
DEVICE uint4 load_token(const u8* x, unsigned row, int at, int width) {
    return load16(x + (row + (at < width ? at : 0)));
}

/// weight [n_out, width] e4m3 with weight_scale [n_out] f32, x [n, width] e4m3 with x_scale [n]
/// f32, bias [n_out] bf16 or null -> out [n, n_out] bf16 = x * weight^T * x_scale * weight_scale +
/// bias. n is 1 .. 8 * N_TILES; width and n_out are multiples of 16.
/// grid (n_out / 16) for 1 or 2 tiles, (n_out / 32, rounded up) for 4 or 8; block 192, no dynamic
/// shared memory.
extern "C" __global__ void __launch_bounds__(WARPS * 32, MIN_BLOCKS_PER_SM)
SKINNY_GEMM(const u8* __restrict__ weight, const float* __restrict__ weight_scale,
            const u8* __restrict__ x, const float* __restrict__ x_scale,
            const bf16* __restrict__ bias, int n, int width, int n_out, bf16* __restrict__ out) {
    __shared__ Weights queue[WARPS][AHEAD];
    __shared__ float scale[ROWS], shift[ROWS];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, first_row = blockIdx.x * ROWS;
    int at = warp * TURN + lane % 4 * 16;  // this lane's offset in a row

    const u8* rows[ROW_TILES];
#pragma unroll
    for (int r = 0; r < ROW_TILES; r++) {
        // A tile beyond the last channel repeats the last tile and is not written.
        int row = first_row + 16 * r < n_out ? first_row + 16 * r : n_out - 16;
        rows[r] = weight + (long long)(row + lane / 4) * width + at;
    }
    unsigned tokens[N_TILES];
#pragma unroll
    for (int t = 0; t < N_TILES; t++) {
        // A column beyond the last token repeats that token and is not written.
        int token = t * 8 + lane / 4 < n ? t * 8 + lane / 4 : n - 1;
        tokens[t] = (unsigned)token * width;
    }

#pragma unroll
    for (int i = 0; i < AHEAD; i++)
        copy_weights(queue[warp][i], rows, width, chunk_offset(i), at + chunk_offset(i) < width);
    uint4 part[N_TILES];
#pragma unroll
    for (int t = 0; t < N_TILES; t++) part[t] = load_token(x, tokens[t], at, width);
    // Loaded now, so that the end of the kernel does not wait for the memory.
    int channel = first_row + threadIdx.x;
    if (threadIdx.x < ROWS && channel < n_out) {
        scale[threadIdx.x] = weight_scale[channel];
        shift[threadIdx.x] = bias ? f32_from_bf16(bias[channel]) : 0.0f;
    }

    float sums[ROW_TILES][N_TILES][4] = {};
    for (int k = warp * TURN; k < width; k += chunk_offset(AHEAD)) {
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (k + chunk_offset(i) >= width) break;
            wait_for_copies<AHEAD - 1>();
            uint4 weights[ROW_TILES][2];
#pragma unroll
            for (int r = 0; r < ROW_TILES; r++)
#pragma unroll
                for (int j = 0; j < 2; j++) weights[r][j] = queue[warp][i].rows[r][j][lane];
#pragma unroll
            for (int half = 0; half < 2; half++) {
#pragma unroll
                for (int t = 0; t < N_TILES; t++) {
                    unsigned b[2] = {half ? part[t].z : part[t].x, half ? part[t].w : part[t].y};
#pragma unroll
                    for (int r = 0; r < ROW_TILES; r++) {
                        uint4 upper = weights[r][0], lower = weights[r][1];
                        unsigned a[4] = {half ? upper.z : upper.x, half ? lower.z : lower.x,
                                         half ? upper.w : upper.y, half ? lower.w : lower.y};
                        mma_e4m3(sums[r][t], a, b);
                    }
                    if (half) part[t] = load_token(x, tokens[t], at + chunk_offset(i + 1), width);
                }
            }
            copy_weights(queue[warp][i], rows, width, chunk_offset(i + AHEAD),
                         at + chunk_offset(i + AHEAD) < width);
        }
        at += chunk_offset(AHEAD);
#pragma unroll
        for (int r = 0; r < ROW_TILES; r++) rows[r] += chunk_offset(AHEAD);
    }

    // A warp's sums reuse the memory of its queue, after all lanes have left the queue and the last
    // copies (zeros that no lane waited for) have arrived.
    static_assert(sizeof(float4[N_TILES][32]) <= sizeof(queue[0]), "the sums fit");
    wait_for_copies<0>();
    __syncwarp();
#pragma unroll
    for (int r = 0; r < ROW_TILES; r++) {
        if (r > 0) __syncthreads();  // The previous tile may still be read.
        float4* own = (float4*)queue[warp] + lane;
#pragma unroll
        for (int t = 0; t < N_TILES; t++) {
            const float* sum = sums[r][t];
            own[t * 32] = float4{sum[0], sum[1], sum[2], sum[3]};
        }
        __syncthreads();
        if (first_row + 16 * r >= n_out) continue;
        for (int t = warp; t < N_TILES; t += WARPS) {
            float sum[4] = {};
#pragma unroll
            for (int w = 0; w < WARPS; w++) {
                float4 more = ((const float4*)queue[w])[t * 32 + lane];
                sum[0] += more.x, sum[1] += more.y, sum[2] += more.z, sum[3] += more.w;
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int token = t * 8 + lane % 4 * 2 + i % 2, row = 16 * r + lane / 4 + i / 2 * 8;
                if (token >= n) continue;
                float y = sum[i] * x_scale[token] * scale[row] + shift[row];
                out[(long long)token * n_out + first_row + row] = bf16_from_f32(y);
            }
        }
    }
}
