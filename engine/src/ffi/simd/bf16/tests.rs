//! Vector instructions against plain arithmetic.

use half::bf16;

use super::*;

fn pair(a: f32, b: f32) -> u32 {
    u32::from(bf16::from_f32(a).to_bits()) | (u32::from(bf16::from_f32(b).to_bits()) << 16)
}

fn value(at: usize) -> f32 {
    bf16::from_f32(((at * 37 % 101) as f32 - 50.0) / 25.0).to_f32()
}

fn pairs(from: usize, n: usize) -> Vec<u32> {
    (from..from + n).map(|at| pair(value(2 * at), value(2 * at + 1))).collect()
}

fn product(x: &[u32], block: &[u32], lane: usize) -> f32 {
    let column = block.chunks(LANES).map(|row| row[lane]);
    x.iter().zip(column).map(|(&x, w)| low(x) * low(w) + high(x) * high(w)).sum()
}

#[test]
fn products_are_those_of_plain_arithmetic() {
    for (n_rows, n_pairs, n_blocks) in [(1, 8, 1), (3, 32, 2), (5, 24, 3), (9, 64, 4)] {
        let x = pairs(0, n_rows * n_pairs);
        let keys = pairs(5_000, n_blocks * n_pairs * LANES);
        let blocks: Vec<&[u32]> = keys.chunks(n_pairs * LANES).collect();
        let stride = n_blocks * LANES + 3;
        let mut out = vec![0.0; n_rows * stride];
        products(&x, n_pairs, &blocks, &mut out, stride);
        for (x, sums) in x.chunks(n_pairs).zip(out.chunks(stride)) {
            for (block, sums) in blocks.iter().zip(sums.chunks_exact(LANES)) {
                for (lane, seen) in sums.iter().enumerate() {
                    let wanted = product(x, block, lane);
                    assert!((seen - wanted).abs() < 1e-3, "{seen} {wanted}");
                }
            }
        }
    }
}

#[test]
fn weigh_is_that_of_plain_arithmetic() {
    // tokens of each block
    for (n_rows, width, blocks) in [
        (1, 16, vec![16]),
        (3, 64, vec![16, 10]),
        (5, 48, vec![2, 16, 16, 4]),
        (9, 128, vec![8; 4]),
    ] {
        let value_of = |b: usize, t: usize, d: usize| value(1_000 + (b * LANES + t) * width + d);
        let stride = RUN * LANES;
        let weight = |m: usize, b: usize, t: usize| value(m * stride + b * LANES + t);
        let weights: Vec<bf16> = (0..n_rows * stride).map(|at| bf16::from_f32(value(at))).collect();
        let values: Vec<Vec<u32>> = blocks
            .iter()
            .enumerate()
            .map(|(b, n_tokens)| {
                let places = (0..n_tokens / 2).flat_map(|j| (0..width).map(move |d| (2 * j, d)));
                places.map(|(t, d)| pair(value_of(b, t, d), value_of(b, t + 1, d))).collect()
            })
            .collect();
        let values: Vec<&[u32]> = values.iter().map(Vec::as_slice).collect();
        let mut sums = vec![1.0; n_rows * width];
        weigh(&weights, stride, &values, &mut sums, width);
        for (m, sums) in sums.chunks(width).enumerate() {
            for (d, sum) in sums.iter().enumerate() {
                let parts = blocks.iter().enumerate().flat_map(|(b, &n_tokens)| {
                    (0..n_tokens).map(move |t| weight(m, b, t) * value_of(b, t, d))
                });
                let wanted = 1.0 + parts.sum::<f32>();
                assert!((sum - wanted).abs() < 2e-3, "{sum} {wanted}");
            }
        }
    }
}

#[test]
fn linear_is_that_of_plain_arithmetic_for_few_rows() {
    if !has_bf16() {
        return;
    }
    let (n_pairs, n_runs) = (24, 3);
    let weights = pairs(5_000, n_runs * run_units(n_pairs));
    for n_rows in 1..=19 {
        let x = pairs(100 * n_rows, n_rows * n_pairs);
        let mut n_put = 0;
        linear(&x, n_pairs, &weights, |row, run, sums| {
            n_put += sums.len();
            let x = &x[row * n_pairs..(row + 1) * n_pairs];
            let weights = &weights[run * run_units(n_pairs)..][..run_units(n_pairs)];
            for (output, seen) in sums.iter().enumerate() {
                let column = weights.chunks(RUN * LANES).map(|row| row[output]);
                let products = x.iter().zip(column);
                let wanted: f32 = products.map(|(&x, w)| low(x) * low(w) + high(x) * high(w)).sum();
                assert!((seen - wanted).abs() < 1e-3, "{seen} {wanted}");
            }
        });
        assert_eq!(n_put, n_rows * n_runs * RUN * LANES);
    }
}
