// Runs the kernels of this folder on the CPU, which tests their logic on machines without a GPU.
//
//   g++ -std=c++17 -O2 -shared -fPIC -DJOUST_EMULATE
//       -include emulator.h -include prelude.cuh -x c++ norm.cu -o norm.so
//
// The threads of a block are fibers that take turns; thread blocks run one after the other. The
// emulator knows nothing of the kernels, of speed, or of the memory model: a fiber runs until its
// next barrier, so that a missing barrier shows only in one of the two orders of threads
// (`emulate_backwards`). Shared memory is filled with 0xFF (NaN as a float) before each block.
#pragma once
#undef _FORTIFY_SOURCE  // Its checked longjmp refuses jumps between the fibers' stacks.
#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ static inline
#define __launch_bounds__(...)
// One section for all shared variables, so that the launcher can overwrite them.
#define __shared__ static __attribute__((section("joust_shared")))

// Vector types may alias the arrays that they are loaded from, as in CUDA.
#define VECTOR(name, bytes, ...) \
    struct __attribute__((may_alias, aligned(bytes))) name { __VA_ARGS__; }
VECTOR(uchar2, 2, unsigned char x, y);
VECTOR(ushort2, 4, unsigned short x, y);
VECTOR(uint2, 8, unsigned x, y);
VECTOR(uint4, 16, unsigned x, y, z, w);
VECTOR(float2, 8, float x, y);
VECTOR(float4, 16, float x, y, z, w);
#undef VECTOR

struct Index { unsigned x, y, z; };
static Index threadIdx, blockIdx, blockDim, gridDim;

/// 1 runs threads and thread blocks from the last to the first.
extern "C" int emulate_backwards;
int emulate_backwards = 0;

// Bounds of the section of shared variables; null in a file without static shared memory.
extern "C" char __start_joust_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_joust_shared[] __attribute__((weak, visibility("hidden")));

namespace emulator {
constexpr unsigned WARP = 32, MAX_THREADS = 1024;
constexpr size_t STACK_BYTES = 256 << 10, MAX_SHARED_BYTES = 227 << 10, GUARD_BYTES = 256;

enum class FiberState { Ready, AtWarp, AtBlock, Done };

struct Fiber {
    FiberState state;
    int operation;      // warp operation in which the fiber waits
    unsigned turn;      // exchange buffer of its next warp operation: 0 or 1
    bool started = false;
    ucontext_t start;
    jmp_buf place;
};

static Fiber fibers[MAX_THREADS];
static uint64_t exchange[2][MAX_THREADS];
static unsigned current, n_threads;
static jmp_buf scheduler;
static std::mutex one_launch_at_a_time;  // All kernels of the file share the fibers.
static void (*body)(void*);
static void* body_context;
alignas(16) static unsigned char dynamic_shared[MAX_SHARED_BYTES + GUARD_BYTES];

[[noreturn]] static void fail(const char* message) {
    fprintf(stderr, "emulator: block (%u, %u, %u), thread %u: %s\n",
            blockIdx.x, blockIdx.y, blockIdx.z, current, message);
    abort();
}

// Not inlined, so that no local variable of the caller is live at the second return of setjmp.
__attribute__((noinline)) static void jump(jmp_buf& from, jmp_buf& to) {
    if (!_setjmp(from)) _longjmp(to, 1);
}

static void wait(FiberState state, int operation) {
    Fiber& fiber = fibers[current];
    fiber.state = state;
    fiber.operation = operation;
    jump(fiber.place, scheduler);
}

// A fiber lives as long as the program: after a thread block it waits for the next one.
static void fiber_main() {
    for (;;) {
        body(body_context);
        wait(FiberState::Done, 0);
    }
}

__attribute__((noinline)) static void resume(unsigned thread) {
    Fiber& fiber = fibers[thread];
    current = thread;
    threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y,
                 thread / blockDim.x / blockDim.y};
    if (fiber.started) return jump(scheduler, fiber.place);
    fiber.started = true;
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = malloc(STACK_BYTES);
    fiber.start.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber.start, fiber_main, 0);
    if (!_setjmp(scheduler)) setcontext(&fiber.start);
}

/// Makes threads [begin, end) ready if all of them wait at the same barrier. Returns whether they
/// do.
static bool release(unsigned begin, unsigned end, FiberState state) {
    int operation = fibers[begin].operation;
    for (unsigned i = begin; i < end; i++)
        if (fibers[i].state != state || fibers[i].operation != operation) return false;
    for (unsigned i = begin; i < end; i++) fibers[i].state = FiberState::Ready;
    return true;
}

static bool run_warp(unsigned begin) {
    bool progress = false;
    do {
        for (unsigned i = 0; i < WARP; i++) {
            unsigned thread = begin + (emulate_backwards ? WARP - 1 - i : i);
            if (fibers[thread].state != FiberState::Ready) continue;
            resume(thread);
            progress = true;
        }
    } while (release(begin, begin + WARP, FiberState::AtWarp));
    return progress;
}

static void run_block(size_t shared_bytes) {
    memset(dynamic_shared, 0xFF, shared_bytes + GUARD_BYTES);
    if (__start_joust_shared)
        memset(__start_joust_shared, 0xFF, __stop_joust_shared - __start_joust_shared);
    for (unsigned i = 0; i < n_threads; i++) {
        fibers[i].state = FiberState::Ready;
        fibers[i].turn = 0;
    }
    for (;;) {
        bool progress = false;
        for (unsigned i = 0; i < n_threads; i += WARP)
            progress |= run_warp(emulate_backwards ? n_threads - WARP - i : i);
        if (release(0, n_threads, FiberState::AtBlock)) continue;
        unsigned n_done = 0;
        for (unsigned i = 0; i < n_threads; i++) n_done += fibers[i].state == FiberState::Done;
        if (n_done == n_threads) break;
        if (!progress) fail("deadlock: threads wait at different barriers, or some have returned");
    }
    for (size_t i = 0; i < GUARD_BYTES; i++)
        if (dynamic_shared[shared_bytes + i] != 0xFF) fail("wrote past the dynamic shared memory");
}

template <class... P, size_t... I>
static void launch(void (*kernel)(P...), Index grid, Index block, size_t shared_bytes, void** args,
                   std::index_sequence<I...>) {
    std::lock_guard<std::mutex> guard(one_launch_at_a_time);
    gridDim = grid;
    blockDim = block;
    n_threads = block.x * block.y * block.z;
    if (n_threads == 0 || n_threads > MAX_THREADS || n_threads % WARP)
        fail("the threads of a block must be a multiple of 32, and at most 1024");
    if (shared_bytes > MAX_SHARED_BYTES) fail("more dynamic shared memory than the device has");
    auto call = [&] { kernel(*(std::remove_reference_t<P>*)args[I]...); };
    body_context = &call;
    body = [](void* context) { (*(decltype(call)*)context)(); };
    unsigned long n_blocks = (unsigned long)grid.x * grid.y * grid.z;
    for (unsigned long i = 0; i < n_blocks; i++) {
        unsigned long b = emulate_backwards ? n_blocks - 1 - i : i;
        blockIdx = {unsigned(b % grid.x), unsigned(b / grid.x % grid.y),
                    unsigned(b / grid.x / grid.y)};
        run_block(shared_bytes);
    }
}

template <class... P>
static void launch(void (*kernel)(P...), Index grid, Index block, size_t bytes, void** args) {
    launch(kernel, grid, block, bytes, args, std::index_sequence_for<P...>());
}

// A parameter's type; pointers lose the const of their target.
template <class T> struct Plain { using type = T; };
template <class T> struct Plain<const T*> { using type = T*; };
template <class... T> struct Types {};

/// Whether a kernel's parameters have these types.
template <class... Declared, class... P>
constexpr bool takes(void (*)(P...)) {
    return std::is_same<Types<Declared...>, Types<typename Plain<P>::type...>>::value;
}

/// The value that lane `source` of the calling thread's warp passed to the same operation.
template <class T>
static T shuffle(unsigned mask, T value, unsigned source, int operation) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 32 or 64 bits");
    if (mask != 0xFFFFFFFFu) fail("only whole warps are emulated");
    // Two buffers in turn: no lane overwrites a buffer before all lanes have read it.
    uint64_t* buffer = exchange[fibers[current].turn];
    fibers[current].turn ^= 1;
    memcpy(&buffer[current], &value, sizeof(T));
    wait(FiberState::AtWarp, operation);
    memcpy(&value, &buffer[current / WARP * WARP + source], sizeof(T));
    return value;
}

static unsigned lane() { return current % WARP; }
}  // namespace emulator

static inline void __syncthreads() { emulator::wait(emulator::FiberState::AtBlock, 0); }
static inline void __syncwarp() { emulator::wait(emulator::FiberState::AtWarp, 1); }

template <class T>
static T __shfl_sync(unsigned mask, T value, int source) {
    return emulator::shuffle(mask, value, source % 32, 2);
}
template <class T>
static T __shfl_xor_sync(unsigned mask, T value, int bits) {
    return emulator::shuffle(mask, value, emulator::lane() ^ bits, 3);
}
template <class T>
static T __shfl_up_sync(unsigned mask, T value, int by) {
    int source = int(emulator::lane()) - by;
    return emulator::shuffle(mask, value, source < 0 ? emulator::lane() : source, 4);
}
template <class T>
static T __shfl_down_sync(unsigned mask, T value, int by) {
    int source = int(emulator::lane()) + by;
    return emulator::shuffle(mask, value, source > 31 ? emulator::lane() : source, 5);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate) {
    unsigned bits = predicate ? 1u << emulator::lane() : 0;
    for (int by = 16; by > 0; by /= 2)
        bits |= emulator::shuffle(mask, bits, emulator::lane() ^ by, 6);
    return bits;
}

template <class T>
static T atomicAdd(T* address, T value) {
    T old = *address;
    *address = old + value;
    return old;
}

static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline unsigned __byte_perm(unsigned low, unsigned high, unsigned select) {
    uint64_t bytes = low | (uint64_t)high << 32;
    unsigned y = 0;
    for (int i = 0; i < 4; i++) y |= unsigned(bytes >> 8 * (select >> 4 * i & 7) & 0xFF) << 8 * i;
    return y;
}
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __float_as_uint(float x) { unsigned u; memcpy(&u, &x, 4); return u; }
static inline float __uint_as_float(unsigned u) { float x; memcpy(&x, &u, 4); return x; }

#define JOUST_DYNAMIC_SHARED(type, name) type* const name = (type*)emulator::dynamic_shared
// Makes a kernel callable. The arguments after its name are the types of its parameters as
// gpu/kernels.rs declares them; a kernel with other types does not compile.
#define JOUST_KERNEL(name, ...)                                                                 \
    static_assert(emulator::takes<__VA_ARGS__>(name), #name ": gpu/kernels.rs declares others");\
    extern "C" void emulate_##name(unsigned gx, unsigned gy, unsigned gz, unsigned bx,          \
                                   unsigned by, unsigned bz, unsigned long shared_bytes,        \
                                   void** args) {                                               \
        emulator::launch(name, {gx, gy, gz}, {bx, by, bz}, shared_bytes, args);                 \
    }
