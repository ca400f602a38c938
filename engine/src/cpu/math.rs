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

/// RMSNorm of one row: x / sqrt(mean(x²) + eps) · weight, with the mean in f32.
#[inline(always)]
fn norm_row<E: Element>(x: &[f32], weight: &[E], eps: f32, out: &mut [E]) {
    let mut sums = [0f32; 16];
    let chunks = x.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().map(|x| x * x).sum();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x * x;
        }
    }
    let mean = (sums.iter().sum::<f32>() + rest) / x.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
        *out = E::from_f32(E::from_f32(x * scale).to_f32() * weight.to_f32());
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

vectorized! {
    /// Rotates the first `n_rotated` values of every row of `width`, in the half-split layout of
    /// heads; `cos` and `sin` have D/2 = `half` values per row.
    pub(super) fn rotate<E: Element>(
        rows: &mut [E],
        width: usize,
        n_rotated: usize,
        half: usize,
        cos: &[f32],
        sin: &[f32],
    ) {
        let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
        for (row, (cos, sin)) in rows.chunks_exact_mut(width).zip(angles) {
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
    #[test]
    fn exp_is_that_of_the_standard_library() {
        for at in -900..880 {
            let x = at as f32 / 10.0;
            let (seen, wanted) = (super::exp(x), if x < -87.0 { 0.0 } else { x.exp() });
            assert!((seen - wanted).abs() <= 3e-7 * wanted, "{x}: {seen} {wanted}");
        }
        assert_eq!(super::exp(f32::NEG_INFINITY), 0.0);
    }
}
