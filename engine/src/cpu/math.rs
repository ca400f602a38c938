//! Row operations between the products: norms, gated activation, rotation, exponential. It knows
//! nothing of layers.

use super::element::Element;
use crate::ffi::simd::vectorized;

/// e^x in f32, in a form that the compiler vectorises: 2^n times a polynomial on
/// [-ln 2 / 2, ln 2 / 2] with the minimax coefficients of Cephes' `expf`. The relative error is
/// below 2e-7. Below -87 the result is 0; above 88 it stays finite.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let is_tiny = x < -87.0;
    let x = x.clamp(-87.0, 88.0);
    // adding and subtracting 1.5 · 2^23 rounds to the nearest integer
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.987_569_1e-4_f32;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    // the lowest bits of `shifted` are n; a conversion from float to integer would not vectorise
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let power = f32::from_bits(exponent << 23);
    if is_tiny { 0.0 } else { y * power }
}

/// Mean of the squares of a row, in f32.
#[inline(always)]
fn mean_square<E: Element>(x: &[E]) -> f32 {
    let mut sums = [0f32; 16];
    let chunks = x.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|x| x.to_f32() * x.to_f32()).sum();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x.to_f32() * x.to_f32();
        }
    }
    (sums.iter().sum::<f32>() + rest) / x.len() as f32
}

/// RMSNorm of one row: x / sqrt(mean(x²) + eps) · weight, with the mean in f32.
#[inline(always)]
fn norm_row<E: Element>(x: &[f32], weight: &[E], eps: f32, out: &mut [E]) {
    let scale = 1.0 / (mean_square(x) + eps).sqrt();
    for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
        *out = E::from_f32(E::from_f32(x * scale).to_f32() * weight.to_f32());
    }
}

/// RMSNorm of each head of D values in place, with `weight` `[D]`.
#[inline(always)]
fn norm_heads<E: Element>(heads: &mut [E], weight: &[E], eps: f32) {
    for head in heads.chunks_exact_mut(weight.len()) {
        let scale = 1.0 / (mean_square(head) + eps).sqrt();
        for (x, &weight) in head.iter_mut().zip(weight) {
            *x = E::from_f32(E::from_f32(x.to_f32() * scale).to_f32() * weight.to_f32());
        }
    }
}

vectorized! {
    /// RMSNorm of each row of `x` [N, H], with `weight` `[H]`.
    pub(super) fn norm<E: Element>(x: &[f32], weight: &[E], eps: f32, out: &mut [E]) {
        let width = weight.len();
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            norm_row(x, weight, eps, out);
        }
    }
}

vectorized! {
    /// Adds `more` to `x`, both [N, H], and writes the RMSNorm of the sum to `out`.
    pub(super) fn rmsnorm_residual<E: Element>(
        x: &mut [f32],
        more: &[E],
        weight: &[E],
        eps: f32,
        out: &mut [E],
    ) {
        let width = weight.len();
        let rows = x.chunks_exact_mut(width).zip(more.chunks_exact(width));
        for ((x, more), out) in rows.zip(out.chunks_exact_mut(width)) {
            for (x, more) in x.iter_mut().zip(more) {
                *x += more.to_f32();
            }
            norm_row(x, weight, eps, out);
        }
    }
}

vectorized! {
    /// silu(gate) · up for rows [gate | up] of twice `width`.
    pub(super) fn silu_mul<E: Element>(gate_up: &[E], width: usize, out: &mut [E]) {
        for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
            let (gates, ups) = row.split_at(width);
            for ((out, gate), up) in out.iter_mut().zip(gates).zip(ups) {
                let gate = gate.to_f32();
                let silu = E::from_f32(gate / (1.0 + exp(-gate))).to_f32();
                *out = E::from_f32(silu * up.to_f32());
            }
        }
    }
}

/// Norms of each head's queries and keys before their rotation.
#[derive(Clone, Copy)]
pub(super) struct HeadNormWeights<'a, E> {
    /// Weight of the queries' norm `[D]`.
    pub(super) q: &'a [E],
    /// Weight of the keys' norm `[D]`.
    pub(super) k: &'a [E],
    /// Number of values of a row that are queries.
    pub(super) q_width: usize,
    /// Added to the mean square.
    pub(super) eps: f32,
}

vectorized! {
    /// Normalises the heads of every row of `width`, where there are `norms`, and rotates them: the
    /// first `n_rotated` values, in the half-split layout of heads; `cos` and `sin` have D/2 =
    /// `half` values per row.
    pub(super) fn rotate<E: Element>(
        rows: &mut [E],
        width: usize,
        n_rotated: usize,
        norms: Option<HeadNormWeights<'_, E>>,
        half: usize,
        cos: &[f32],
        sin: &[f32],
    ) {
        let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
        for (row, (cos, sin)) in rows.chunks_exact_mut(width).zip(angles) {
            if let Some(norms) = norms {
                let (queries, keys) = row[..n_rotated].split_at_mut(norms.q_width);
                norm_heads(queries, norms.q, norms.eps);
                norm_heads(keys, norms.k, norms.eps);
            }
            for head in row[..n_rotated].chunks_exact_mut(2 * half) {
                let (first, second) = head.split_at_mut(half);
                let pairs = first.iter_mut().zip(second);
                for ((a, b), (&cos, &sin)) in pairs.zip(cos.iter().zip(sin)) {
                    let (x, y) = (a.to_f32(), b.to_f32());
                    *a = E::from_f32(x * cos - y * sin);
                    *b = E::from_f32(y * cos + x * sin);
                }
            }
        }
    }
}

vectorized! {
    /// The highest value; NaN is ignored.
    pub(crate) fn highest(values: &[f32]) -> f32 {
        let mut tops = [f32::NEG_INFINITY; 16];
        let chunks = values.chunks_exact(16);
        let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for chunk in chunks {
            for (top, &value) in tops.iter_mut().zip(chunk) {
                *top = if value > *top { value } else { *top };
            }
        }
        tops.into_iter().fold(rest, f32::max)
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use tch::{Device, Kind, Tensor};

    use super::{Element, HeadNormWeights, rotate};
    use crate::ffi::tensors::{slice, slice_mut};
    use crate::model::HeadNorms;

    #[test]
    fn exp_is_that_of_the_standard_library() {
        for at in -900..880 {
            let x = at as f32 / 10.0;
            let (seen, wanted) = (super::exp(x), if x < -87.0 { 0.0 } else { x.exp() });
            assert!((seen - wanted).abs() <= 3e-7 * wanted, "{x}: {seen} {wanted}");
        }
        assert_eq!(super::exp(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn rotate_normalises_and_rotates_heads_as_libtorch_does() {
        check_rotate::<f32>(1e-6);
        // three roundings to eight bits
        check_rotate::<bf16>(0.02);
    }

    /// Rows of three query heads, two keys and two values of 20 dimensions.
    fn check_rotate<E: Element>(bound: f64) {
        const N: i64 = 5;
        const D: i64 = 20;
        tch::manual_seed(3);
        let drawn = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let mut rows = drawn(&[N, 7 * D]).to_kind(E::KIND);
        let weight = || (drawn(&[D]) * 0.3 + 1.0).to_kind(E::KIND);
        let norms = HeadNorms { q: weight(), k: weight(), eps: 0.05 };
        let angles = drawn(&[N, 1, D / 2]);
        let (cos, sin) = (angles.cos(), angles.sin());
        let heads = rows.view([N, 7, D]).to_kind(Kind::Float);
        let turned = norms.apply(&heads.narrow(1, 0, 5), 3);
        let halves = turned.chunk(2, 2);
        let wanted = Tensor::cat(
            &[&halves[0] * &cos - &halves[1] * &sin, &halves[1] * &cos + &halves[0] * &sin],
            2,
        );
        let wanted = Tensor::cat(&[wanted, heads.narrow(1, 5, 2)], 1).view([N, 7 * D]);
        let weights = HeadNormWeights {
            q: slice::<E>(&norms.q),
            k: slice::<E>(&norms.k),
            q_width: 3 * D as usize,
            eps: 0.05,
        };
        let (width, n_rotated) = (7 * D as usize, 5 * D as usize);
        let (cos, sin) = (slice::<f32>(&cos), slice::<f32>(&sin));
        let half = D as usize / 2;
        rotate(slice_mut::<E>(&mut rows), width, n_rotated, Some(weights), half, cos, sin);
        let off = (rows.to_kind(Kind::Float) - &wanted).abs() / (wanted.abs() + 1.0);
        assert!(off.max().double_value(&[]) < bound, "{off}");
    }
}
