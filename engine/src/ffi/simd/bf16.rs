//! Products of bf16 vectors with sums in f32.
//!
//! A pair is two bf16 numbers in 32 bits, the operand of the processor's instructions. A block is
//! [K/2 pairs, [`LANES`]]: lane l of row j holds numbers 2j and 2j+1 of column l.

use half::bf16;

use super::features::{LANES, has_amx_bf16, has_bf16};

/// Number of blocks that are multiplied together.
pub(crate) const RUN: usize = 4;

/// Number of rows that are multiplied together. With [`RUN`] blocks they give enough independent
/// sums to hide the latency of additions, and few enough for the registers.
const ROWS: usize = 4;

/// Products of rows with up to [`RUN`] blocks: `out[m][b][l] = Σ_k x[m][k]·blocks[b][k][l]`.
///
/// `x` holds rows of `n_pairs` pairs, each block `n_pairs` rows of [`LANES`] pairs. The rows of
/// `out` are `stride` apart; their values after the blocks are not changed.
pub(crate) fn products(
    x: &[u32],
    n_pairs: usize,
    blocks: &[&[u32]],
    out: &mut [f32],
    stride: usize,
) {
    let n_rows = x.len() / n_pairs;
    assert!(x.len() == n_rows * n_pairs && blocks.len() <= RUN);
    assert!(blocks.iter().all(|block| block.len() == n_pairs * LANES));
    assert!(n_rows == 0 || out.len() >= (n_rows - 1) * stride + blocks.len() * LANES);
    #[cfg(target_arch = "x86_64")]
    if has_bf16() {
        for (x, out) in x.chunks(ROWS * n_pairs).zip(out.chunks_mut(ROWS * stride)) {
            macro_rules! sizes {
                ($(($m:literal, $n:literal)),*) => {
                    match (x.len() / n_pairs, blocks.len()) {
                        // SAFETY: the features were found at run time, the lengths checked above.
                        $(($m, $n) => unsafe {
                            let blocks = std::array::from_fn(|at| blocks[at].as_ptr());
                            x86::products::<$m, $n, LANES>(x, n_pairs, blocks, out, stride);
                        },)*
                        _ => {}
                    }
                };
            }
            sizes!((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3), (2, 4));
            sizes!((3, 1), (3, 2), (3, 3), (3, 4), (4, 1), (4, 2), (4, 3), (4, 4));
        }
        return;
    }
    for (x, out) in x.chunks_exact(n_pairs).zip(out.chunks_mut(stride)) {
        for (block, sums) in blocks.iter().zip(out.chunks_exact_mut(LANES)) {
            sums.fill(0.0);
            for (&x, pairs) in x.iter().zip(block.chunks_exact(LANES)) {
                for (sum, &pair) in sums.iter_mut().zip(pairs) {
                    *sum += low(x) * low(pair) + high(x) * high(pair);
                }
            }
        }
    }
}

/// Adds weighted values: `sums[m][d] += Σ_b Σ_t weights[m][b][t]·values[b][t][d]`.
///
/// The rows of `weights` are `stride` apart and have [`LANES`] values per block. Each of up to
/// [`RUN`] `values` holds up to LANES/2 rows of D pairs: row j has numbers d of tokens 2j and 2j+1;
/// missing rows at the end count as 0. `sums` holds rows of D = `width`, a multiple of LANES.
pub(crate) fn weigh(
    weights: &[bf16],
    stride: usize,
    values: &[&[u32]],
    sums: &mut [f32],
    width: usize,
) {
    let n_rows = sums.len() / width;
    assert!(width.is_multiple_of(LANES) && sums.len() == n_rows * width);
    assert!(n_rows == 0 || weights.len() >= (n_rows - 1) * stride + values.len() * LANES);
    assert!(values.len() <= RUN);
    for values in values {
        assert!(values.len().is_multiple_of(width) && values.len() <= width * LANES / 2);
    }
    #[cfg(target_arch = "x86_64")]
    if has_bf16() {
        for (weights, sums) in weights.chunks(ROWS * stride).zip(sums.chunks_mut(ROWS * width)) {
            // SAFETY: the features were found at run time, the lengths checked above.
            unsafe {
                match sums.len() / width {
                    4 => x86::weigh::<4>(weights, stride, values, sums, width),
                    3 => x86::weigh::<3>(weights, stride, values, sums, width),
                    2 => x86::weigh::<2>(weights, stride, values, sums, width),
                    _ => x86::weigh::<1>(weights, stride, values, sums, width),
                }
            }
        }
        return;
    }
    for (weights, sums) in weights.chunks(stride).zip(sums.chunks_exact_mut(width)) {
        for (weights, values) in weights.chunks_exact(LANES).zip(values) {
            for (pair, values) in weights.chunks_exact(2).zip(values.chunks_exact(width)) {
                let (first, second) = (pair[0].to_f32(), pair[1].to_f32());
                for (sum, &value) in sums.iter_mut().zip(values) {
                    *sum += first * low(value) + second * high(value);
                }
            }
        }
    }
}

/// Largest number of rows of x for which [`linear`] beats oneDNN's GEMM, which needs a set-up of
/// the matrix unit or a layout for large products.
pub(crate) fn max_gemv_rows() -> usize {
    match (has_bf16(), has_amx_bf16()) {
        (false, _) => 0,
        (true, true) => 8,
        (true, false) => 64,
    }
}

/// Number of pairs per run of a weight: RUN·LANES outputs of K/2 = `n_pairs` pairs each.
pub(crate) fn run_units(n_pairs: usize) -> usize {
    n_pairs * RUN * LANES
}

/// x·Wᵀ for few rows of x, where reading the weights takes most of the time: they are read once, in
/// memory order.
///
/// `x` holds rows of K/2 pairs; `weights` holds runs of RUN·LANES outputs, each K/2 rows of
/// RUN·LANES pairs. `put(m, r, sums)` receives run r of row m. The processor must have bf16
/// products: see [`has_bf16`].
pub(crate) fn linear(
    x: &[u32],
    n_pairs: usize,
    weights: &[u32],
    mut put: impl FnMut(usize, usize, &[f32]),
) {
    assert!(has_bf16() && n_pairs > 0 && x.len().is_multiple_of(n_pairs));
    const OUTPUTS: usize = RUN * LANES;
    let mut sums = [0f32; ROWS * OUTPUTS];
    for (run, weights) in weights.chunks_exact(run_units(n_pairs)).enumerate() {
        for (group, x) in x.chunks(ROWS * n_pairs).enumerate() {
            let n_rows = x.len() / n_pairs;
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the features were found at run time, the lengths are those of the chunks.
            unsafe {
                let blocks = std::array::from_fn(|at| weights[at * LANES..].as_ptr());
                let out = &mut sums[..n_rows * OUTPUTS];
                match n_rows {
                    4 => x86::products::<4, RUN, OUTPUTS>(x, n_pairs, blocks, out, OUTPUTS),
                    3 => x86::products::<3, RUN, OUTPUTS>(x, n_pairs, blocks, out, OUTPUTS),
                    2 => x86::products::<2, RUN, OUTPUTS>(x, n_pairs, blocks, out, OUTPUTS),
                    _ => x86::products::<1, RUN, OUTPUTS>(x, n_pairs, blocks, out, OUTPUTS),
                }
            }
            for (row, sums) in sums.chunks_exact(OUTPUTS).take(n_rows).enumerate() {
                put(group * ROWS + row, run, sums);
            }
        }
    }
}

fn low(pair: u32) -> f32 {
    f32::from_bits(pair << 16)
}

fn high(pair: u32) -> f32 {
    f32::from_bits(pair & 0xffff_0000)
}

/// Products with AVX512-BF16. They read by pointer, because bounds checks would take longer than
/// the products.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use half::bf16;

    use super::super::features::LANES;

    /// Loads 16 pairs from any address.
    ///
    /// # Safety
    /// The 16 pairs are readable.
    #[inline(always)]
    unsafe fn load(pairs: *const u32) -> __m512bh {
        // SAFETY: the load needs no alignment. The two vector types differ in name only.
        unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(pairs.cast())) }
    }

    /// One pair, copied to all 16 lanes.
    ///
    /// # Safety
    /// The pair is readable.
    #[inline(always)]
    unsafe fn spread(pair: *const u32) -> __m512bh {
        // SAFETY: the read needs no alignment. The two vector types differ in name only.
        unsafe {
            std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(
                pair.cast::<i32>().read_unaligned(),
            ))
        }
    }

    /// Products of M rows with N blocks, whose rows of LANES pairs are STEP pairs apart.
    ///
    /// # Safety
    /// The processor has the features; `x` holds M rows of `n_pairs` pairs, each of `blocks` holds
    /// `n_pairs` rows of LANES pairs, `out` holds M rows of N·LANES values, `stride` apart.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn products<const M: usize, const N: usize, const STEP: usize>(
        x: &[u32],
        n_pairs: usize,
        blocks: [*const u32; N],
        out: &mut [f32],
        stride: usize,
    ) {
        let rows: [*const u32; M] = std::array::from_fn(|at| x[at * n_pairs..].as_ptr());
        let mut sums = [[_mm512_setzero_ps(); N]; M];
        for pair in 0..n_pairs {
            // SAFETY: `pair` is below `n_pairs`, the number of pairs per row and of rows per block.
            let (x, columns) = unsafe {
                (
                    rows.map(|row| spread(row.add(pair))),
                    blocks.map(|block| load(block.add(pair * STEP))),
                )
            };
            for (sums, &x) in sums.iter_mut().zip(&x) {
                for (sum, &column) in sums.iter_mut().zip(&columns) {
                    *sum = _mm512_dpbf16_ps(*sum, x, column);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            let out = &mut out[row * stride..][..N * LANES];
            for (at, sum) in sums.into_iter().enumerate() {
                // SAFETY: each row has N vectors; the store needs no alignment.
                unsafe { _mm512_storeu_ps(out.as_mut_ptr().add(at * LANES), sum) };
            }
        }
    }

    /// Adds weighted values to M rows of sums.
    ///
    /// # Safety
    /// The processor has the features; `sums` holds M rows of `width`, each of `values` holds up to
    /// LANES/2 rows of `width`; `weights` holds M rows of LANES for each of `values`, `stride`
    /// apart.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn weigh<const M: usize>(
        weights: &[bf16],
        stride: usize,
        values: &[&[u32]],
        sums: &mut [f32],
        width: usize,
    ) {
        let mut column = 0;
        while column < width {
            // SAFETY: as for this function.
            unsafe {
                if width - column >= 4 * LANES {
                    weigh_columns::<M, 4>(weights, stride, values, sums, width, column);
                    column += 4 * LANES;
                } else {
                    weigh_columns::<M, 1>(weights, stride, values, sums, width, column);
                    column += LANES;
                }
            }
        }
    }

    /// As [`weigh`], for N vectors of columns from `first` on.
    ///
    /// # Safety
    /// As for [`weigh`].
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn weigh_columns<const M: usize, const N: usize>(
        weights: &[bf16],
        stride: usize,
        values: &[&[u32]],
        sums: &mut [f32],
        width: usize,
        first: usize,
    ) {
        let places: [*mut f32; M] =
            std::array::from_fn(|at| sums[at * width + first..][..N * LANES].as_mut_ptr());
        let mut kept = [[_mm512_setzero_ps(); N]; M];
        for (kept, place) in kept.iter_mut().zip(places) {
            for (at, kept) in kept.iter_mut().enumerate() {
                // SAFETY: each row has N vectors; the load needs no alignment.
                *kept = unsafe { _mm512_loadu_ps(place.add(at * LANES)) };
            }
        }
        for (block, values) in values.iter().enumerate() {
            let weights: [*const u32; M] =
                std::array::from_fn(|at| weights[at * stride + block * LANES..].as_ptr().cast());
            let n_rows = values.len() / width;
            let values = values.as_ptr();
            for row in 0..n_rows {
                // SAFETY: a block has LANES/2 pairs of weights and `n_rows` rows of `width` values.
                let (weights, columns) = unsafe {
                    let values = values.add(row * width + first);
                    (
                        weights.map(|weights| spread(weights.add(row))),
                        std::array::from_fn::<_, N, _>(|at| load(values.add(at * LANES))),
                    )
                };
                for (kept, &weight) in kept.iter_mut().zip(&weights) {
                    for (kept, &column) in kept.iter_mut().zip(&columns) {
                        *kept = _mm512_dpbf16_ps(*kept, weight, column);
                    }
                }
            }
        }
        for (kept, place) in kept.iter().zip(places) {
            for (at, kept) in kept.iter().enumerate() {
                // SAFETY: each row has N vectors; the store needs no alignment.
                unsafe { _mm512_storeu_ps(place.add(at * LANES), *kept) };
            }
        }
    }
}

#[cfg(test)]
mod tests;
