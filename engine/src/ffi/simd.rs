//! Vector instructions, chosen when the program runs.

use std::sync::OnceLock;

/// Tokens of a block of keys: one vector register of f32.
pub(crate) const LANES: usize = 16;

/// Whether the processor multiplies bf16 vectors.
pub(crate) fn has_bf16() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        return is_x86_feature_detected!("avx512bf16") && has_avx512();
        #[cfg(not(target_arch = "x86_64"))]
        false
    })
}

/// Whether the processor has a matrix unit for bf16.
pub(crate) fn has_amx_bf16() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|info| info.contains("amx_bf16"))
    })
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && has_avx2()
}

/// Defines a function that is compiled several times, for the widest vectors that processors have,
/// and chosen among when it is called. The compiler vectorises the plain loops of its body and of
/// what that inlines.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$generic:ident: $bound:path>)?
        ($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $out)? {
            #[inline(always)]
            fn plain $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,avx2")]
                fn avx512 $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $out)? {
                    plain$(::<$generic>)?($($arg),*)
                }

                #[target_feature(enable = "avx2,fma")]
                fn avx2 $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $out)? {
                    plain$(::<$generic>)?($($arg),*)
                }

                if $crate::ffi::simd::has_avx512() {
                    // SAFETY: the features were found at run time.
                    return unsafe { avx512$(::<$generic>)?($($arg),*) };
                }
                if $crate::ffi::simd::has_avx2() {
                    // SAFETY: the features were found at run time.
                    return unsafe { avx2$(::<$generic>)?($($arg),*) };
                }
            }
            plain$(::<$generic>)?($($arg),*)
        }
    };
}
pub(crate) use vectorized;

/// Products of bf16 queries with a block of keys: `scores[i][t] = Σ_d q[i][d]·k[d][t]`.
///
/// `queries` holds rows of D/2 pairs of bf16, `keys` D/2 rows of [`LANES`] pairs: token t's values
/// of dimensions 2j and 2j+1 are pair t of row j.
pub(crate) fn scores_bf16(queries: &[u32], keys: &[u32], scores: &mut [[f32; LANES]]) {
    let n_pairs = keys.len() / LANES;
    assert!(keys.len() == n_pairs * LANES && queries.len() == scores.len() * n_pairs);
    #[cfg(target_arch = "x86_64")]
    if has_bf16() {
        let mut at = 0;
        while at < scores.len() {
            let n = (scores.len() - at).min(4);
            let queries = &queries[at * n_pairs..(at + n) * n_pairs];
            let scores = &mut scores[at..at + n];
            // SAFETY: the features were found at run time; the lengths were checked above.
            unsafe {
                match n {
                    4 => x86::scores::<4>(queries, keys, scores),
                    3 => x86::scores::<3>(queries, keys, scores),
                    2 => x86::scores::<2>(queries, keys, scores),
                    _ => x86::scores::<1>(queries, keys, scores),
                }
            }
            at += n;
        }
        return;
    }
    for (query, scores) in queries.chunks_exact(n_pairs.max(1)).zip(scores) {
        *scores = [0.0; LANES];
        for (&pair, keys) in query.iter().zip(keys.chunks_exact(LANES)) {
            for (score, &key) in scores.iter_mut().zip(keys) {
                *score += low(pair) * low(key) + high(pair) * high(key);
            }
        }
    }
}

/// Adds weighted bf16 values: `sums[i][d] += Σ_t w[i][t]·v[t][d]`.
///
/// `weights` holds for each sum a row of LANES/2 pairs of bf16, `values` rows of D pairs: row j has
/// tokens 2j and 2j+1; rows that are missing at the end count as 0.
pub(crate) fn weigh_bf16(weights: &[[u32; LANES / 2]], values: &[u32], sums: &mut [f32]) {
    let head_dim = sums.len() / weights.len().max(1);
    assert!(head_dim.is_multiple_of(LANES) && sums.len() == weights.len() * head_dim);
    assert!(values.len().is_multiple_of(head_dim) && values.len() <= head_dim * LANES / 2);
    #[cfg(target_arch = "x86_64")]
    if has_bf16() {
        for (weights, sums) in weights.iter().zip(sums.chunks_exact_mut(head_dim)) {
            // SAFETY: the features were found at run time; the lengths were checked above.
            unsafe { x86::weigh(weights, values, sums) };
        }
        return;
    }
    for (weights, sums) in weights.iter().zip(sums.chunks_exact_mut(head_dim)) {
        for (&pair, values) in weights.iter().zip(values.chunks_exact(head_dim)) {
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += low(pair) * low(value) + high(pair) * high(value);
            }
        }
    }
}

/// Rows of x and blocks of outputs that are computed together: enough sums on their way to hide the
/// time that each addition takes, few enough for the registers.
const TILE: (usize, usize) = (4, 4);

/// Most rows of x for which [`linear_bf16`] is the faster way: beyond, the processor's matrix unit
/// is worth its set-up, or a layout for large products.
pub(crate) fn few() -> usize {
    match (has_bf16(), has_amx_bf16()) {
        (false, _) => 0,
        (true, true) => 8,
        (true, false) => 64,
    }
}

/// x·Wᵀ for few rows of x, where reading the weights is what takes time: they are read once, in the
/// order in which they lie.
///
/// `x` holds rows of K/2 pairs of bf16; `weights` holds blocks of [`LANES`] outputs, each K/2 rows
/// of LANES pairs, as the keys of [`scores_bf16`]. `put(m, b, values)` takes output block b of row
/// m. The processor must have bf16 products: see [`has_bf16`].
pub(crate) fn linear_bf16(
    x: &[u32],
    n_pairs: usize,
    weights: &[u32],
    mut put: impl FnMut(usize, usize, &[f32; LANES]),
) {
    let n_blocks = weights.len() / (n_pairs * LANES);
    assert!(weights.len() == n_blocks * n_pairs * LANES && has_bf16());
    assert!(x.len().is_multiple_of(n_pairs));
    for first in (0..n_blocks).step_by(TILE.1) {
        let n = TILE.1.min(n_blocks - first);
        let weights = &weights[first * n_pairs * LANES..(first + n) * n_pairs * LANES];
        for (group, x) in x.chunks(TILE.0 * n_pairs).enumerate() {
            let mut sums = [[[0f32; LANES]; TILE.1]; TILE.0];
            tile(x, n_pairs, weights, n, &mut sums);
            for (row, sums) in sums.iter().take(x.len() / n_pairs).enumerate() {
                for (block, sums) in sums.iter().take(n).enumerate() {
                    put(group * TILE.0 + row, first + block, sums);
                }
            }
        }
    }
}

/// One tile of [`linear_bf16`].
fn tile(
    x: &[u32],
    n_pairs: usize,
    weights: &[u32],
    n_blocks: usize,
    sums: &mut [[[f32; LANES]; TILE.1]; TILE.0],
) {
    #[cfg(target_arch = "x86_64")]
    {
        let n_rows = x.len() / n_pairs;
        assert!(x.len() == n_rows * n_pairs && weights.len() == n_blocks * n_pairs * LANES);
        macro_rules! sizes {
            ($(($m:literal, $n:literal)),*) => {
                // SAFETY: the caller has seen the features; the lengths were checked above.
                match (n_rows, n_blocks) {
                    $(($m, $n) => return unsafe {
                        x86::linear::<$m, $n>(x, n_pairs, weights, sums)
                    },)*
                    _ => {}
                }
            };
        }
        sizes!((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4));
        sizes!((3, 1), (3, 2), (3, 3), (3, 4), (4, 1), (4, 2), (4, 3), (4, 4));
    }
    unreachable!("every size of a tile is listed. This is a bug.")
}

fn low(pair: u32) -> f32 {
    f32::from_bits(pair << 16)
}

fn high(pair: u32) -> f32 {
    f32::from_bits(pair & 0xffff_0000)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::LANES;

    #[target_feature(enable = "avx512f")]
    fn load(values: &[u32]) -> __m512bh {
        assert!(values.len() >= LANES);
        // SAFETY: 16 values of 4 bytes are there; the load needs no alignment. The two vector
        // types differ in name only.
        unsafe {
            std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(values.as_ptr().cast()))
        }
    }

    #[target_feature(enable = "avx512f")]
    fn spread(pair: u32) -> __m512bh {
        // SAFETY: the two vector types differ in name only.
        unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair as i32)) }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn scores<const N: usize>(
        queries: &[u32],
        keys: &[u32],
        scores: &mut [[f32; LANES]],
    ) {
        let n_pairs = keys.len() / LANES;
        let mut sums = [_mm512_setzero_ps(); N];
        for (at, keys) in keys.chunks_exact(LANES).enumerate() {
            let keys = load(keys);
            for (query, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_dpbf16_ps(*sum, spread(queries[query * n_pairs + at]), keys);
            }
        }
        for (scores, sum) in scores.iter_mut().zip(sums) {
            // SAFETY: 16 f32 are written to an array of 16; the store needs no alignment.
            unsafe { _mm512_storeu_ps(scores.as_mut_ptr(), sum) };
        }
    }

    /// M rows of x with N blocks of outputs.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn linear<const M: usize, const N: usize>(
        x: &[u32],
        n_pairs: usize,
        weights: &[u32],
        out: &mut [[[f32; LANES]; super::TILE.1]; super::TILE.0],
    ) {
        let blocks: [&[u32]; N] =
            std::array::from_fn(|at| &weights[at * n_pairs * LANES..][..n_pairs * LANES]);
        let rows: [&[u32]; M] = std::array::from_fn(|at| &x[at * n_pairs..][..n_pairs]);
        let mut sums = [[_mm512_setzero_ps(); N]; M];
        for pair in 0..n_pairs {
            let spread = rows.map(|row| spread(row[pair]));
            for (at, block) in blocks.iter().enumerate() {
                let weights = load(&block[pair * LANES..(pair + 1) * LANES]);
                for (sums, &x) in sums.iter_mut().zip(&spread) {
                    sums[at] = _mm512_dpbf16_ps(sums[at], x, weights);
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sum) in out.iter_mut().zip(sums) {
                // SAFETY: 16 f32 are written to an array of 16; the store needs no alignment.
                unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn weigh(weights: &[u32; LANES / 2], values: &[u32], sums: &mut [f32]) {
        let (head_dim, n_columns) = (sums.len(), sums.len() / LANES);
        let mut first = 0;
        while first < n_columns {
            match n_columns - first {
                4.. => weigh_columns::<4>(weights, values, sums, head_dim, first),
                _ => weigh_columns::<1>(weights, values, sums, head_dim, first),
            }
            first += if n_columns - first >= 4 { 4 } else { 1 };
        }
    }

    /// Columns `first·16..(first + N)·16` of [`weigh`].
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn weigh_columns<const N: usize>(
        weights: &[u32; LANES / 2],
        values: &[u32],
        sums: &mut [f32],
        head_dim: usize,
        first: usize,
    ) {
        let sums = &mut sums[first * LANES..(first + N) * LANES];
        let mut kept = [_mm512_setzero_ps(); N];
        for (kept, sums) in kept.iter_mut().zip(sums.chunks_exact(LANES)) {
            // SAFETY: the chunk has 16 f32; the load needs no alignment.
            *kept = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
        }
        for (&weight, values) in weights.iter().zip(values.chunks_exact(head_dim)) {
            let weight = spread(weight);
            let values = &values[first * LANES..(first + N) * LANES];
            for (kept, values) in kept.iter_mut().zip(values.chunks_exact(LANES)) {
                *kept = _mm512_dpbf16_ps(*kept, weight, load(values));
            }
        }
        for (kept, sums) in kept.iter().zip(sums.chunks_exact_mut(LANES)) {
            // SAFETY: the chunk has 16 f32; the store needs no alignment.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *kept) };
        }
    }
}

#[cfg(test)]
mod tests;
