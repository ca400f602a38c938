//! The vector instructions against plain arithmetic.

use half::bf16;

use super::*;

fn pair(a: f32, b: f32) -> u32 {
    u32::from(bf16::from_f32(a).to_bits()) | (u32::from(bf16::from_f32(b).to_bits()) << 16)
}

fn value(at: usize) -> f32 {
    bf16::from_f32(((at * 37 % 101) as f32 - 50.0) / 25.0).to_f32()
}

#[test]
fn scores_and_weighted_sums_are_those_of_plain_arithmetic() {
    for (n_queries, head_dim) in [(1, 16), (3, 64), (5, 48), (9, 128)] {
        let q = |i: usize, d: usize| value(i * head_dim + d);
        let k = |t: usize, d: usize| value(1_000 + t * head_dim + d);
        let queries: Vec<u32> = (0..n_queries * head_dim / 2)
            .map(|at| (at / (head_dim / 2), at % (head_dim / 2) * 2))
            .map(|(i, d)| pair(q(i, d), q(i, d + 1)))
            .collect();
        let keys: Vec<u32> = (0..head_dim / 2 * LANES)
            .map(|at| (at / LANES * 2, at % LANES))
            .map(|(d, t)| pair(k(t, d), k(t, d + 1)))
            .collect();
        let mut scores = vec![[0.0; LANES]; n_queries];
        scores_bf16(&queries, &keys, &mut scores);
        for (i, scores) in scores.iter().enumerate() {
            for (t, score) in scores.iter().enumerate() {
                let wanted: f32 = (0..head_dim).map(|d| q(i, d) * k(t, d)).sum();
                assert!((score - wanted).abs() < 1e-3, "{score} {wanted}");
            }
        }
        let weights: Vec<[u32; LANES / 2]> = (0..n_queries)
            .map(|i| std::array::from_fn(|j| pair(q(i, 2 * j % 16), q(i, (2 * j + 1) % 16))))
            .collect();
        // 10 of 16 tokens
        let values: Vec<u32> = (0..5 * head_dim)
            .map(|at| (at / head_dim * 2, at % head_dim))
            .map(|(t, d)| pair(k(t, d), k(t + 1, d)))
            .collect();
        let mut sums = vec![1.0; n_queries * head_dim];
        weigh_bf16(&weights, &values, &mut sums);
        for (i, sums) in sums.chunks(head_dim).enumerate() {
            for (d, sum) in sums.iter().enumerate() {
                let wanted: f32 = 1.0 + (0..10).map(|t| q(i, t % 16) * k(t, d)).sum::<f32>();
                assert!((sum - wanted).abs() < 1e-3, "{sum} {wanted}");
            }
        }
    }
}

#[test]
fn few_rows_times_weights_are_those_of_plain_arithmetic() {
    if !has_bf16() {
        return;
    }
    let (n_pairs, n_blocks) = (24, 7);
    let pairs = |from: usize, n: usize| -> Vec<u32> {
        (from..from + n).map(|at| pair(value(2 * at), value(2 * at + 1))).collect()
    };
    let weights = pairs(5_000, n_blocks * n_pairs * LANES);
    for n_rows in 1..=19 {
        let x = pairs(100 * n_rows, n_rows * n_pairs);
        let mut n_put = 0;
        linear_bf16(&x, n_pairs, &weights, |row, block, values| {
            n_put += 1;
            for (lane, seen) in values.iter().enumerate() {
                let products = (0..n_pairs).map(|at| {
                    let x = x[row * n_pairs + at];
                    let w = weights[(block * n_pairs + at) * LANES + lane];
                    low(x) * low(w) + high(x) * high(w)
                });
                let wanted: f32 = products.sum();
                assert!((seen - wanted).abs() < 1e-3, "{seen} {wanted}");
            }
        });
        assert_eq!(n_put, n_rows * n_blocks);
    }
}
