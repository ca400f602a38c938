// Text that precedes every kernel file: number formats, 8-wide loads, tensor core products, and
// reductions over a thread block. It knows nothing of layers.
//
// No header is included, because the run-time compiler has no include path.
// Each thread block is a whole number of warps, each row width a multiple of 8, and each base
// pointer aligned to 16 bytes. All reductions have a fixed order: equal inputs give equal bits.

typedef unsigned char u8;
typedef unsigned short bf16;  // the bits of a bfloat16
typedef unsigned long long u64;

// Number format of keys and values, in the files that use the cache.
#ifdef KV_FP8
#if KV_FP8
typedef u8 KV;
#else
typedef bf16 KV;
#endif
#endif

#ifndef JOUST_EMULATE
#define JOUST_DYNAMIC_SHARED(type, name)    \
    extern __shared__ uint4 dynamic_shared[]; \
    type* const name = (type*)dynamic_shared
#endif

#define DEVICE __device__ __forceinline__
#ifndef JOUST_EMULATE
#define MEMBER DEVICE
#else
#define MEMBER  // DEVICE would make a member function static.
#endif
#define WHOLE_WARP 0xFFFFFFFFu

DEVICE float negative_infinity() { return __uint_as_float(0xFF800000u); }

DEVICE float f32_from_bf16(unsigned bits) { return __uint_as_float(bits << 16); }

/// Rounds to the nearest value, ties to even; NaN stays NaN.
DEVICE bf16 bf16_from_f32(float x) {
    unsigned bits = __float_as_uint(x);
    if (x != x) return (bf16)(bits >> 16 | 0x40);
    return (bf16)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// ---- e4m3: 1 sign, 4 exponent and 3 mantissa bits, no infinity, maximum 448 ----

#ifndef JOUST_EMULATE

/// Rounds two floats to the nearest values, ties to even, clamped to +-448; NaN stays NaN.
DEVICE uchar2 e4m3x2_from_f32(float first, float second) {
    unsigned short both;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(both) : "f"(second), "f"(first));
    return uchar2{(u8)(both & 0xFF), (u8)(both >> 8)};
}

DEVICE void f32_from_e4m3x2(unsigned both, float* y) {
    asm("{\n"
        ".reg .b32 halves;\n"
        ".reg .b16 first, second;\n"
        "cvt.rn.f16x2.e4m3x2 halves, %2;\n"
        "mov.b32 {first, second}, halves;\n"
        "cvt.f32.f16 %0, first;\n"
        "cvt.f32.f16 %1, second;\n"
        "}\n"
        : "=f"(y[0]), "=f"(y[1])
        : "h"((unsigned short)both));
}

#else

static u8 e4m3_from_f32(float x) {
    u8 sign = __float_as_uint(x) >> 31 << 7;
    float size = fabsf(x);
    if (x != x) return 0x7F;
    if (size > 448.0f) size = 448.0f;
    // Subnormal numbers are 2^-9 apart; eight steps reach the smallest normal number.
    if (size < 0.015625f) return sign | (u8)rintf(size * 512.0f);
    unsigned bits = __float_as_uint(size);
    bits += 0x7FFFF + (bits >> 20 & 1);
    return sign | (u8)((bits >> 20) - ((127 - 7) << 3));
}

static uchar2 e4m3x2_from_f32(float first, float second) {
    return uchar2{e4m3_from_f32(first), e4m3_from_f32(second)};
}

static void f32_from_e4m3x2(unsigned both, float* y) {
    for (int i = 0; i < 2; i++) {
        unsigned bits = both >> 8 * i & 0xFF, exponent = bits >> 3 & 15, mantissa = bits & 7;
        float size = exponent ? ldexpf(8 + mantissa, (int)exponent - 10) : ldexpf(mantissa, -9);
        if ((bits & 0x7F) == 0x7F) size = NAN;
        y[i] = bits & 0x80 ? -size : size;
    }
}

#endif

/// Scale that maps `amax`, the largest |y| of a row, to 448; the lower bound keeps 1/scale finite.
DEVICE float e4m3_scale(float amax) {
    return fmaxf(amax / 448.0f, 1.0f / (448.0f * 512.0f));
}

// ---- loads and stores of eight values ----

DEVICE void unpack8(uint4 packed, float* y) {  // bf16
    unsigned words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        y[2 * i] = __uint_as_float(words[i] << 16);
        y[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000u);
    }
}

DEVICE void unpack8(uint2 packed, float* y) {  // e4m3
    f32_from_e4m3x2(packed.x & 0xFFFF, y);
    f32_from_e4m3x2(packed.x >> 16, y + 2);
    f32_from_e4m3x2(packed.y & 0xFFFF, y + 4);
    f32_from_e4m3x2(packed.y >> 16, y + 6);
}

DEVICE void load8(const bf16* x, float* y) { unpack8(*(const uint4*)x, y); }

DEVICE void load8(const float* x, float* y) {
    float4 a = ((const float4*)x)[0], b = ((const float4*)x)[1];
    y[0] = a.x, y[1] = a.y, y[2] = a.z, y[3] = a.w;
    y[4] = b.x, y[5] = b.y, y[6] = b.z, y[7] = b.w;
}

DEVICE void store8(float* x, const float* y) {
    ((float4*)x)[0] = float4{y[0], y[1], y[2], y[3]};
    ((float4*)x)[1] = float4{y[4], y[5], y[6], y[7]};
}

DEVICE void store8(bf16* x, const float* y) {
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        words[i] = bf16_from_f32(y[2 * i]) | (unsigned)bf16_from_f32(y[2 * i + 1]) << 16;
    *(uint4*)x = uint4{words[0], words[1], words[2], words[3]};
}

/// Stores y * inverse as e4m3. `inverse` is 1/scale, so that there is one division per row.
DEVICE void store8_e4m3(u8* q, const float* y, float inverse) {
    unsigned words[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uchar2 both = e4m3x2_from_f32(y[2 * i] * inverse, y[2 * i + 1] * inverse);
        words[i / 2] |= (both.x | (unsigned)both.y << 8) << 16 * (i % 2);
    }
    *(uint2*)q = uint2{words[0], words[1]};
}

/// Maximum of `amax` and eight |y|. Ignores NaN, which is not lost: its e4m3 is NaN.
DEVICE float max_abs8(float amax, const float* y) {
#pragma unroll
    for (int i = 0; i < 8; i++) amax = fmaxf(amax, fabsf(y[i]));
    return amax;
}

// ---- products on the tensor cores, and the loads that feed them ----

#ifndef JOUST_EMULATE

/// Loads 16 bytes of memory that no kernel writes at the same time. Volatile, so that the compiler
/// does not move a load towards its use.
DEVICE uint4 load16(const u8* from) {
    uint4 y;
    asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(y.x), "=r"(y.y), "=r"(y.z), "=r"(y.w)
                 : "l"(from));
    return y;
}

/// Starts an asynchronous copy of 16 bytes to shared memory, bypassing L1 and the registers. Writes
/// zeros unless `wanted`.
DEVICE void copy16_async(uint4* to, const u8* from, bool wanted) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n"
                 :
                 : "r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(wanted ? 16 : 0)
                 : "memory");
}

/// Closes a group: the calling thread's copies since its previous group.
DEVICE void end_copy_group() { asm volatile("cp.async.commit_group;\n" : : : "memory"); }

/// Waits until all groups of the calling thread except the last PENDING have arrived. Other threads
/// need a barrier to see them.
template <int PENDING>
DEVICE void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;\n" : : "n"(PENDING) : "memory");
}

DEVICE void f16x4_from_e4m3x4(unsigned four, unsigned& first, unsigned& second) {
    asm("{\n"
        ".reg .b16 low, high;\n"
        "mov.b32 {low, high}, %2;\n"
        "cvt.rn.f16x2.e4m3x2 %0, low;\n"
        "cvt.rn.f16x2.e4m3x2 %1, high;\n"
        "}\n"
        : "=&r"(first), "=r"(second)
        : "r"(four));
}

/// Two floats rounded to bf16, ties to even; the first is in the lower half.
DEVICE unsigned bf16x2_from_f32(float first, float second) {
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
    return both;
}

DEVICE unsigned f16x2_from_f32(float first, float second) {
    unsigned both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
    return both;
}

/// d [16, 8] f32 += a [16, 16] bf16 times b [16, 8] bf16, by all lanes of a warp. Lane l holds
/// a: rows l / 4 (words 0 and 2) and l / 4 + 8 (words 1 and 3); k = l % 4 * 2 and k + 1, with k + 8
/// in words 2 and 3;
/// b: column l / 4; k = l % 4 * 2 and k + 1, with k + 8 in word 1;
/// d: as in `mma_e4m3`.
DEVICE void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

DEVICE void mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// d [16, 8] f32 += a [16, 32] e4m3 times b [32, 8] e4m3, by all lanes of a warp. Lane l holds
/// a: rows l / 4 (words 0 and 2) and l / 4 + 8 (words 1 and 3); k = l % 4 * 4 + byte, with k + 16
/// in words 2 and 3;
/// b: column l / 4; k = l % 4 * 4 + byte, with k + 16 in word 1;
/// d: rows l / 4 (d[0], d[1]) and l / 4 + 8 (d[2], d[3]); columns l % 4 * 2 (d[0], d[2]) and the
/// next column (d[1], d[3]).
/// Any order of k is right as long as a and b have the same.
DEVICE void mma_e4m3(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ / 100 == 9
    // Hopper multiplies e4m3 only with wgmma. For the instruction below, its compiler converts to
    // f16 as this code does, but sums from zero and adds the sum to d, which takes four more
    // instructions. The conversion is exact.
    unsigned first[4], second[4], first_b[2], second_b[2];
#pragma unroll
    for (int i = 0; i < 4; i++) f16x4_from_e4m3x4(a[i], first[i], second[i]);
#pragma unroll
    for (int i = 0; i < 2; i++) f16x4_from_e4m3x4(b[i], first_b[i], second_b[i]);
    mma_f16(d, first, first_b);
    mma_f16(d, second, second_b);
#else
    asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

#else

static uint4 load16(const u8* from) { return *(const uint4*)from; }

// Copies arrive as late as is allowed, so that a missing wait changes results.
struct Copy {
    uint4* to;
    const u8* from;
    bool wanted;
};
static std::vector<std::vector<Copy>> copy_groups[1024];  // By threadIdx.x; the last is open.

static void copy16_async(uint4* to, const u8* from, bool wanted) {
    std::vector<std::vector<Copy>>& groups = copy_groups[threadIdx.x];
    if (groups.empty()) groups.emplace_back();
    groups.back().push_back({to, from, wanted});
}

static void end_copy_group() { copy_groups[threadIdx.x].emplace_back(); }

template <int PENDING>
static void wait_for_copies() {
    std::vector<std::vector<Copy>>& groups = copy_groups[threadIdx.x];
    for (; groups.size() > PENDING + 1; groups.erase(groups.begin()))
        for (const Copy& copy : groups[0])
            *copy.to = copy.wanted ? load16(copy.from) : uint4{0, 0, 0, 0};
}

static float f32_from_f16(unsigned bits) {
    unsigned exponent = bits >> 10 & 31, mantissa = bits & 0x3FF;
    float size = exponent ? ldexpf(1024 + mantissa, (int)exponent - 25) : ldexpf(mantissa, -24);
    if (exponent == 31) size = mantissa ? NAN : INFINITY;
    return bits & 0x8000 ? -size : size;
}

static unsigned f16_from_f32(float x) {
    unsigned sign = __float_as_uint(x) >> 31 << 15;
    float size = fabsf(x);
    if (x != x) return 0x7FFF;
    if (size >= 65520.0f) return sign | 0x7C00;
    // Subnormal numbers are 2^-24 apart; 1024 steps reach the smallest normal number.
    if (size < 6.103515625e-5f) return sign | (unsigned)rintf(ldexpf(size, 24));
    unsigned bits = __float_as_uint(size);
    bits += 0xFFF + (bits >> 13 & 1);
    return sign | ((bits >> 13) - ((127 - 15) << 10));
}

static unsigned bf16x2_from_f32(float first, float second) {
    return bf16_from_f32(first) | (unsigned)bf16_from_f32(second) << 16;
}

static unsigned f16x2_from_f32(float first, float second) {
    return f16_from_f32(first) | f16_from_f32(second) << 16;
}

static void f16x4_from_e4m3x4(unsigned four, unsigned& first, unsigned& second) {
    float y[4];
    f32_from_e4m3x2(four & 0xFFFF, y);
    f32_from_e4m3x2(four >> 16, y + 2);
    first = f16x2_from_f32(y[0], y[1]);
    second = f16x2_from_f32(y[2], y[3]);
}

/// Emulates the tensor cores for numbers of 64 / N bits; `unpack` turns 64 bits into N floats.
template <int N, class Unpack>
static void emulate_mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                        Unpack unpack) {
    int lane = threadIdx.x % 32, row = lane / 4, column = lane % 4 * 2;
    u64 upper = a[0] | (u64)a[2] << 32, lower = a[1] | (u64)a[3] << 32;
    u64 own = b[0] | (u64)b[1] << 32;
    for (int i = 0; i < 4; i++) {  // Four lanes hold N values of k each of a row or column.
        u64 from[4] = {__shfl_sync(WHOLE_WARP, upper, row * 4 + i),
                       __shfl_sync(WHOLE_WARP, lower, row * 4 + i),
                       __shfl_sync(WHOLE_WARP, own, column * 4 + i),
                       __shfl_sync(WHOLE_WARP, own, column * 4 + 4 + i)};
        float y[4][N];
        for (int j = 0; j < 4; j++) unpack(from[j], y[j]);
        for (int k = 0; k < N; k++)
            for (int j = 0; j < 4; j++) d[j] += y[j / 2][k] * y[2 + j % 2][k];
    }
}

static void mma_e4m3(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    emulate_mma<8>(d, a, b, [](u64 bits, float* y) {
        for (int i = 0; i < 4; i++) f32_from_e4m3x2(bits >> 16 * i & 0xFFFF, y + 2 * i);
    });
}

static void mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    emulate_mma<4>(d, a, b, [](u64 bits, float* y) {
        for (int i = 0; i < 4; i++) y[i] = f32_from_f16(bits >> 16 * i & 0xFFFF);
    });
}

static void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    emulate_mma<4>(d, a, b, [](u64 bits, float* y) {
        for (int i = 0; i < 4; i++) y[i] = f32_from_bf16(bits >> 16 * i & 0xFFFF);
    });
}

#endif

// ---- prefetch of the next product's weights ----

/// Prefetches `n_bytes`, a positive multiple of 16, into L2. Only a hint: the GPU may ignore it,
/// and the kernel does not wait for it.
DEVICE void prefetch_to_l2(const u8* from, unsigned n_bytes) {
#ifdef JOUST_EMULATE
    (void)((const volatile u8*)from)[0];
    (void)((const volatile u8*)from)[n_bytes - 1];
#elif __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;\n"
                 :
                 : "l"(__cvta_generic_to_global(from)), "r"(n_bytes));
#endif
}

/// Returns false for the first `n_rows` thread blocks, which compute a row each. Each further block
/// prefetches its part of `next`, the weights of the product after this kernel, `n_bytes` per block
/// (a multiple of 16), and returns true. Between two products the memory is mostly idle otherwise.
DEVICE bool prefetches_next(int n_rows, const u8* next, int n_bytes) {
    constexpr int AT_ONCE = 16384;
    int part = (int)blockIdx.x - n_rows;
    if (part < 0) return false;
    next += (long long)part * n_bytes;
    for (int at = threadIdx.x * AT_ONCE; at < n_bytes; at += blockDim.x * AT_ONCE)
        prefetch_to_l2(next + at, n_bytes - at < AT_ONCE ? n_bytes - at : AT_ONCE);
    return true;
}

// ---- reductions; all threads get the result ----

DEVICE float warp_max(float x) {
#pragma unroll
    for (int by = 16; by > 0; by /= 2) x = fmaxf(x, __shfl_xor_sync(WHOLE_WARP, x, by));
    return x;
}

DEVICE float warp_sum(float x) {
#pragma unroll
    for (int by = 16; by > 0; by /= 2) x += __shfl_xor_sync(WHOLE_WARP, x, by);
    return x;
}

/// Maximum of x >= 0 over the thread block. All threads call it.
DEVICE float block_max(float x) {
    __shared__ float of_warp[32];
    x = warp_max(x);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = x;
    __syncthreads();
    x = warp_max(threadIdx.x % 32 < blockDim.x / 32 ? of_warp[threadIdx.x % 32] : 0.0f);
    __syncthreads();  // Before the next call writes of_warp.
    return x;
}

/// Sum of x over the thread block. All threads call it.
DEVICE float block_sum(float x) {
    __shared__ float of_warp[32];
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = x;
    __syncthreads();
    x = warp_sum(threadIdx.x % 32 < blockDim.x / 32 ? of_warp[threadIdx.x % 32] : 0.0f);
    __syncthreads();  // Before the next call writes of_warp.
    return x;
}

/// Quantises a row of f32 in shared memory. Each thread reads only the values that it wrote itself:
/// eight from i = 8 * threadIdx.x, then every 8 * blockDim.x. `amax`: largest |y| of these values.
DEVICE void quantize_shared_row(const float* y, float amax, int width, u8* q, float* scale) {
    float row_scale = e4m3_scale(block_max(amax));
    float inverse = 1.0f / row_scale;
    for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
        float part[8];
        load8(y + i, part);
        store8_e4m3(q + i, part, inverse);
    }
    if (threadIdx.x == 0) *scale = row_scale;
}
