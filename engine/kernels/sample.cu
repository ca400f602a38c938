// Draws one token per row from logits, with temperature, top-k and top-p, and computes its
// log-probabilities. It does not know the source of the random numbers.
//
// Weights are integers: exp((x - peak) / temperature) in units of 2^-44. Their sums (below 2^62 for
// 2^18 tokens) are exact, so that the order of summation cannot change a draw. A token less than
// 2^-44 (6e-14) times as probable as the most probable token has weight 0 and is never drawn.
// Nothing is sorted: a bf16 has 65536 values, and two histograms of 256 bins find a threshold among
// them, first by the upper and then by the lower byte of an order-preserving key.

constexpr int WARPS = 32;
constexpr int STEP = 256;  // tokens that a warp reads per step
constexpr float UNITS = 17592186044416.0f;  // 2^44

/// One row of logits, and the parameters of its weights.
struct Row {
    const bf16* logits;
    int vocab_size;
    float peak, inverse_temperature;
};

/// Filter of tokens: all with a key above `key`, and the first `n_ties` with `key` in token order.
struct Cut {
    unsigned key, n_ties;
};

/// Sum of the kept weights of a row. Lane l also holds the part of warp l: the sum of the parts
/// before it, its own part, and the number of tokens before it whose key is the cut's.
struct Mass {
    u64 total, before, own;
    unsigned ties_before;
};

/// Key of a logit, in the same order as logits; -0 equals +0. Only NaN has key 0 or 0xFFFF.
DEVICE unsigned key_from_bf16(unsigned bits) {
    if (bits == 0x8000) bits = 0;
    return bits & 0x8000 ? ~bits & 0xFFFF : bits | 0x8000;
}

DEVICE float f32_from_key(unsigned key) {
    return f32_from_bf16(key & 0x8000 ? key ^ 0x8000 : ~key & 0xFFFF);
}

DEVICE u64 weight(const Row& row, float x) {
    float w = expf((x - row.peak) * row.inverse_temperature);
    return w > 0.0f ? (u64)(w * UNITS) : 0;  // NaN becomes 0.
}

/// Calls f(token, bits of the logit) for the calling thread's tokens. A warp has a contiguous
/// stretch of tokens, which its lanes read in turn, eight at a time.
template <class F>
DEVICE void for_each_token(const Row& row, F f) {
    int stretch = (row.vocab_size + WARPS * STEP - 1) / (WARPS * STEP) * STEP;
    int begin = threadIdx.x / 32 * stretch;
    int end = begin + stretch < row.vocab_size ? begin + stretch : row.vocab_size;
    for (int i = begin + threadIdx.x % 32 * 8; i < end; i += STEP) {
        uint4 packed = *(const uint4*)(row.logits + i);
        unsigned words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
        for (int j = 0; j < 8; j++) f(i + j, words[j / 2] >> 16 * (j % 2) & 0xFFFF);
    }
}

template <class T>
DEVICE T warp_total(T x) {
#pragma unroll
    for (int by = 16; by > 0; by /= 2) x += __shfl_xor_sync(WHOLE_WARP, x, by);
    return x;
}

/// Sum of x over the lanes before the calling one.
template <class T>
DEVICE T warp_sum_before(T x) {
    T sum = x;
#pragma unroll
    for (int by = 1; by < 32; by *= 2) {
        T other = __shfl_up_sync(WHOLE_WARP, sum, by);
        if ((int)threadIdx.x % 32 >= by) sum += other;
    }
    return sum - x;
}

/// Number of kept tokens among n tokens with the cut's key that follow `before` such tokens.
DEVICE unsigned kept_ties(const Cut& cut, unsigned before, unsigned n) {
    unsigned left = before < cut.n_ties ? cut.n_ties - before : 0;
    return n < left ? n : left;
}

/// Sums the weights of the tokens that `cut` keeps. All threads of the block call it.
DEVICE Mass measure_mass(const Row& row, const Cut& cut) {
    __shared__ u64 above_of_warp[WARPS];
    __shared__ unsigned ties_of_warp[WARPS];
    u64 above = 0;
    unsigned ties = 0;
    for_each_token(row, [&](int, unsigned bits) {
        unsigned key = key_from_bf16(bits);
        if (key > cut.key) above += weight(row, f32_from_bf16(bits));
        ties += key == cut.key;
    });
    above = warp_total(above);
    ties = warp_total(ties);
    int lane = threadIdx.x % 32;
    if (lane == 0) {
        above_of_warp[threadIdx.x / 32] = above;
        ties_of_warp[threadIdx.x / 32] = ties;
    }
    __syncthreads();
    // Every warp computes the rest redundantly, which saves a second barrier and a broadcast.
    Mass mass;
    mass.ties_before = warp_sum_before(ties_of_warp[lane]);
    mass.own = above_of_warp[lane] + kept_ties(cut, mass.ties_before, ties_of_warp[lane]) *
                                         weight(row, f32_from_key(cut.key));
    mass.before = warp_sum_before(mass.own);
    mass.total = warp_total(mass.own);
    __syncthreads();  // Before the next call writes the arrays.
    return mass;
}

/// Finds the key at which the cumulative amount of the tokens that `cut` keeps, from the most
/// probable token down, reaches `target` (1 .. the total). The amount is the weight, or the number
/// of tokens.
/// -> key, and in `rest` the part of `target` that the tokens above the key do not cover.
/// All threads of the block call it, and all get the result.
DEVICE unsigned find_key(const Row& row, const Cut& cut, bool by_weight, u64 target, u64& rest) {
    // 64-bit sums in two halves, because atomic additions in shared memory have 32 bits.
    __shared__ unsigned low[256], high[256];
    auto add = [&](unsigned bin, u64 amount) {
        unsigned old = atomicAdd(&low[bin], (unsigned)amount);
        unsigned carry = old + (unsigned)amount < old;
        unsigned upper = (unsigned)(amount >> 32) + carry;
        if (upper > 0) atomicAdd(&high[bin], upper);
    };
    int lane = threadIdx.x % 32;
    unsigned found = 0;
    for (int level = 0; level < 2; level++) {
        if (threadIdx.x < 256) low[threadIdx.x] = high[threadIdx.x] = 0;
        __syncthreads();
        auto bin_of = [&](unsigned key) { return level == 0 ? key >> 8 : key & 0xFF; };
        auto in_range = [&](unsigned key) { return level == 0 || key >> 8 == found; };
        for_each_token(row, [&](int, unsigned bits) {
            unsigned key = key_from_bf16(bits);
            if (key <= cut.key || !in_range(key)) return;
            u64 amount = by_weight ? weight(row, f32_from_bf16(bits)) : 1;
            if (amount > 0) add(bin_of(key), amount);
        });
        if (threadIdx.x == 0 && cut.n_ties > 0 && in_range(cut.key))
            add(bin_of(cut.key),
                cut.n_ties * (by_weight ? weight(row, f32_from_key(cut.key)) : 1));
        __syncthreads();

        // Every warp scans redundantly; a lane has eight bins, the first lane the highest bins.
        u64 own = 0;
        for (int j = 0; j < 8; j++) {
            int bin = 255 - lane * 8 - j;
            own += (u64)high[bin] << 32 | low[bin];
        }
        u64 before = warp_sum_before(own);
        unsigned reached = __ballot_sync(WHOLE_WARP, target <= before + own);
        int owner = reached ? __ffs(reached) - 1 : 31;
        int bin = 255 - lane * 8;
        u64 missing = target - before;  // Meaningless in the lanes after the owner.
        for (int j = 0; j < 7; j++) {
            u64 amount = (u64)high[bin] << 32 | low[bin];
            if (missing <= amount) break;
            missing -= amount;
            bin--;
        }
        found = found << 8 | __shfl_sync(WHOLE_WARP, (unsigned)bin, owner);
        target = __shfl_sync(WHOLE_WARP, missing, owner);
        __syncthreads();  // Before the bins are cleared.
    }
    rest = target;
    return found;
}

/// The largest logit and the first token that has it; NaN where the row has a NaN. All threads of
/// the block call it.
DEVICE float find_peak(const Row& row, int& token) {
    __shared__ float peak_of_warp[WARPS];
    __shared__ int token_of_warp[WARPS];
    __shared__ unsigned has_nan[WARPS];
    float peak = negative_infinity();
    int first = row.vocab_size;  // For a row of -inf only, the result is token 0.
    bool nan = false;
    for_each_token(row, [&](int i, unsigned bits) {
        float x = f32_from_bf16(bits);
        nan |= x != x;
        if (x > peak) {
            peak = x;
            first = i;
        }
    });
    auto reduce = [&] {
#pragma unroll
        for (int by = 16; by > 0; by /= 2) {
            float other = __shfl_xor_sync(WHOLE_WARP, peak, by);
            int other_first = __shfl_xor_sync(WHOLE_WARP, first, by);
            if (other > peak || (other == peak && other_first < first)) {
                peak = other;
                first = other_first;
            }
        }
    };
    reduce();
    unsigned any = __ballot_sync(WHOLE_WARP, nan);
    int lane = threadIdx.x % 32;
    if (lane == 0) {
        peak_of_warp[threadIdx.x / 32] = peak;
        token_of_warp[threadIdx.x / 32] = first;
        has_nan[threadIdx.x / 32] = any;
    }
    __syncthreads();
    peak = peak_of_warp[lane];
    first = token_of_warp[lane];
    any = __ballot_sync(WHOLE_WARP, has_nan[lane] != 0);
    reduce();
    token = first < row.vocab_size ? first : 0;
    return any ? __uint_as_float(0x7FC00000u) : peak;
}

/// The first token, in token order, whose cumulative sum of kept weights exceeds `target`. Exactly
/// one thread of the block gets it, the others get -1.
DEVICE int find_token(const Row& row, const Cut& cut, const Mass& mass, u64 target) {
    int warp = threadIdx.x / 32;
    u64 before = __shfl_sync(WHOLE_WARP, mass.before, warp);
    u64 own = __shfl_sync(WHOLE_WARP, mass.own, warp);
    unsigned ties = __shfl_sync(WHOLE_WARP, mass.ties_before, warp);
    if (target < before || target >= before + own) return -1;  // A whole warp leaves.

    int stretch = (row.vocab_size + WARPS * STEP - 1) / (WARPS * STEP) * STEP;
    u64 tie_weight = weight(row, f32_from_key(cut.key));
    // No check for the end of the row: this warp's part contains the target.
    for (int step = warp * stretch;; step += STEP) {
        int i = step + threadIdx.x % 32 * 8;
        uint4 packed = {};  // Tokens beyond the row come after the target.
        if (i < row.vocab_size) packed = *(const uint4*)(row.logits + i);
        unsigned words[4] = {packed.x, packed.y, packed.z, packed.w};
        u64 above = 0;
        unsigned n = 0;
        for (int j = 0; j < 8; j++) {
            unsigned bits = words[j / 2] >> 16 * (j % 2) & 0xFFFF, key = key_from_bf16(bits);
            if (key > cut.key) above += weight(row, f32_from_bf16(bits));
            n += key == cut.key;
        }
        unsigned lane_ties = ties + warp_sum_before(n);
        u64 lane_own = above + kept_ties(cut, lane_ties, n) * tie_weight;
        u64 lane_before = before + warp_sum_before(lane_own);
        bool here = target >= lane_before && target < lane_before + lane_own;
        if (__ballot_sync(WHOLE_WARP, here) == 0) {
            before += warp_total(lane_own);
            ties += warp_total(n);
            continue;
        }
        if (!here) return -1;
        for (int j = 0;; j++) {
            unsigned bits = words[j / 2] >> 16 * (j % 2) & 0xFFFF, key = key_from_bf16(bits);
            if (key > cut.key) lane_before += weight(row, f32_from_bf16(bits));
            if (key == cut.key && lane_ties++ < cut.n_ties) lane_before += tie_weight;
            if (target < lane_before) return i + j;
        }
    }
}

/// logits [R, V] bf16, draws [4, R] f64: temperature, top_p (1: all), top_k (0: all), uniform in
/// [0, 1) -> drawn [3, R] f64: token, its log-probability in the softmax over the whole vocabulary
/// at temperature 1, and that in the distribution that it was drawn from: tempered, over the kept
/// tokens, 0 where the most probable token is taken. All numbers are f64, so that one copy
/// transfers them.
/// A temperature below 1e-5 takes the first token with the largest logit. Otherwise top_k keeps the
/// k most probable tokens, and top_p the fewest most probable of these whose weight reaches top_p
/// of their total; of equal logits, both keep the first tokens. The result is the first token, in
/// token order, whose cumulative sum of kept weights exceeds uniform * total. Logits are multiplied
/// by 1 / temperature, rounded to f32. A row with a NaN, or with an infinite largest logit, gets
/// log-probabilities NaN.
/// grid (R), block 1024, no dynamic shared memory.
extern "C" __global__ void __launch_bounds__(WARPS * 32)
sample(const bf16* logits, int vocab_size, int n_rows, const double* draws, double* drawn) {
    int r = blockIdx.x;
    float temperature = (float)draws[r];
    double top_p = draws[n_rows + r], uniform = draws[3LL * n_rows + r];
    int top_k = (int)draws[2LL * n_rows + r];
    Row row = {logits + (long long)r * vocab_size, vocab_size, 0.0f, 1.0f};
    int peak_token;
    row.peak = find_peak(row, peak_token);
    if (!(fabsf(row.peak) <= 3.4028235e38f)) {
        if (threadIdx.x == 0) {
            drawn[r] = peak_token;
            drawn[n_rows + r] = drawn[2LL * n_rows + r] = __uint_as_float(0x7FC00000u);
        }
        return;
    }
    Cut cut = {0, 0};  // Keeps all tokens.
    Mass mass = measure_mass(row, cut);
    double log_total = log((double)mass.total / UNITS);

    int token = threadIdx.x == 0 ? peak_token : -1;
    if (temperature >= 1e-5f) {
        if (temperature != 1.0f) {
            row.inverse_temperature = 1.0f / temperature;
            mass = measure_mass(row, cut);
        }
        u64 rest;
        if (top_k > 0 && top_k < vocab_size) {
            cut.key = find_key(row, cut, false, top_k, rest);
            cut.n_ties = (unsigned)rest;
            mass = measure_mass(row, cut);
        }
        if (top_p < 1.0) {
            double wanted = ceil(top_p * (double)mass.total);
            u64 target = wanted < 1.0 ? 1 : (u64)wanted;
            if (target > mass.total) target = mass.total;
            unsigned key = find_key(row, cut, true, target, rest);
            u64 each = weight(row, f32_from_key(key));
            cut = {key, (unsigned)((rest + each - 1) / each)};
            mass = measure_mass(row, cut);
        }
        u64 target = (u64)(uniform * (double)mass.total);
        if (target >= mass.total) target = mass.total - 1;
        token = find_token(row, cut, mass, target);
    }
    if (token >= 0) {
        float x = f32_from_bf16(row.logits[token]);
        drawn[r] = token;
        drawn[n_rows + r] = (double)(x - row.peak) - log_total;
        double scaled = (double)((x - row.peak) * row.inverse_temperature);
        drawn[2LL * n_rows + r] =
            temperature < 1e-5f ? 0.0 : scaled - log((double)mass.total / UNITS);
    }
}
