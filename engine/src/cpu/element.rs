//! The two number formats of the CPU path, f32 and bf16: storage and products of keys and values.

use half::bf16;

use crate::ffi::malloc::ZeroBytes;
use crate::ffi::simd::{self, LANES, vectorized};
use crate::ffi::tensors::Plain;

/// A number format of weights, activations, keys and values. Sums are f32 in both.
///
/// Keys and values are stored in units of one number (f32) or two (bf16): keys as
/// [D / PER_UNIT, 16 tokens], so that one vector holds the same dimensions of 16 tokens; values as
/// [16 tokens / PER_UNIT, D].
pub(super) trait Element: Plain + Default {
    /// Unit of storage and multiplication.
    type Unit: ZeroBytes + Send + Sync + 'static;
    /// Number of values per unit.
    const PER_UNIT: usize;

    fn to_f32(self) -> f32;
    fn from_f32(value: f32) -> Self;
    /// Values of one head as units; the number of values is even.
    fn units(row: &[Self]) -> impl Iterator<Item = Self::Unit>;
    /// Writes a value to index `place` of a unit. Index 0 clears the rest of the unit.
    fn put(unit: &mut Self::Unit, place: usize, value: Self);
    /// `scores[i][b][t] = Σ_d queries[i][d] · keys[b][d][t]` for up to [`simd::RUN`] blocks:
    /// `queries` [_, n_units], rows of `scores` `stride` apart.
    fn scores(
        queries: &[Self::Unit],
        n_units: usize,
        keys: &[&[Self::Unit]],
        scores: &mut [f32],
        stride: usize,
    );
    /// `sums[i][d] += Σ_b Σ_t weights[i][b][t] · values[b][t][d]`: rows of `weights` `stride`
    /// apart, `sums` [_, width].
    fn weigh(
        weights: &[Self],
        stride: usize,
        values: &[&[Self::Unit]],
        sums: &mut [f32],
        width: usize,
    );
}

impl Element for f32 {
    type Unit = f32;
    const PER_UNIT: usize = 1;

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    fn units(row: &[Self]) -> impl Iterator<Item = Self::Unit> {
        row.iter().copied()
    }

    fn put(unit: &mut Self::Unit, _place: usize, value: Self) {
        *unit = value;
    }

    fn scores(queries: &[f32], width: usize, keys: &[&[f32]], scores: &mut [f32], stride: usize) {
        scores_f32(queries, width, keys, scores, stride);
    }

    fn weigh(weights: &[f32], stride: usize, values: &[&[f32]], sums: &mut [f32], width: usize) {
        weigh_f32(weights, stride, values, sums, width);
    }
}

vectorized! {
    fn scores_f32(
        queries: &[f32],
        width: usize,
        keys: &[&[f32]],
        scores: &mut [f32],
        stride: usize,
    ) {
        for (query, scores) in queries.chunks_exact(width).zip(scores.chunks_mut(stride)) {
            for (keys, scores) in keys.iter().zip(scores.chunks_exact_mut(LANES)) {
                let mut sums = [0f32; LANES];
                for (&q, keys) in query.iter().zip(keys.chunks_exact(LANES)) {
                    for (sum, &key) in sums.iter_mut().zip(keys) {
                        *sum += q * key;
                    }
                }
                scores.copy_from_slice(&sums);
            }
        }
    }
}

vectorized! {
    fn weigh_f32(
        weights: &[f32],
        stride: usize,
        values: &[&[f32]],
        sums: &mut [f32],
        width: usize,
    ) {
        for (weights, sums) in weights.chunks(stride).zip(sums.chunks_exact_mut(width)) {
            // a vector of sums stays in its register for all tokens
            for (at, sums) in sums.chunks_exact_mut(LANES).enumerate() {
                let mut kept = [0f32; LANES];
                kept.copy_from_slice(sums);
                for (weights, values) in weights.chunks_exact(LANES).zip(values) {
                    for (&weight, values) in weights.iter().zip(values.chunks_exact(width)) {
                        let values = &values[at * LANES..(at + 1) * LANES];
                        for (sum, &value) in kept.iter_mut().zip(values) {
                            *sum += weight * value;
                        }
                    }
                }
                sums.copy_from_slice(&kept);
            }
        }
    }
}

impl Element for bf16 {
    type Unit = u32;
    const PER_UNIT: usize = 2;

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    /// Rounds to the nearest value, ties to even; without branches, so that loops vectorise.
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1))) >> 16;
        // a NaN must not round to an infinity
        let kept = if value.is_nan() { (bits >> 16) | 0x40 } else { rounded };
        bf16::from_bits(kept as u16)
    }

    fn units(row: &[Self]) -> impl Iterator<Item = Self::Unit> {
        row.chunks_exact(2).map(|pair| pack(pair[0], pair[1]))
    }

    fn put(unit: &mut Self::Unit, place: usize, value: Self) {
        let bits = u32::from(value.to_bits());
        *unit = if place == 0 { bits } else { (*unit & 0xffff) | (bits << 16) };
    }

    fn scores(queries: &[u32], n_pairs: usize, keys: &[&[u32]], scores: &mut [f32], stride: usize) {
        simd::products(queries, n_pairs, keys, scores, stride);
    }

    fn weigh(weights: &[bf16], stride: usize, values: &[&[u32]], sums: &mut [f32], width: usize) {
        simd::weigh(weights, stride, values, sums, width);
    }
}

#[inline(always)]
fn pack(first: bf16, second: bf16) -> u32 {
    u32::from(first.to_bits()) | (u32::from(second.to_bits()) << 16)
}
