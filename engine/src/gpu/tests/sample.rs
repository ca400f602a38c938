//! The sampling kernel: the tokens that it draws, and the set that it draws from.

use tch::{Kind, Tensor};

use super::{CPU, HEADS, RandomTensors, bf16};
use crate::gpu::arena::KvKind;
use crate::gpu::emulator;
use crate::gpu::ops::Ops;
use crate::gpu::reference::ReferenceOps;

#[test]
fn sample_draws_what_the_reference_draws_from_the_filtered_set() {
    for (backwards, seed) in [(false, 31), (true, 32)] {
        let kernels = emulator::kernels(HEADS, KvKind::Bf16, backwards);
        check(&kernels, &ReferenceOps { heads: HEADS }, &RandomTensors::new(seed));
    }
}

fn check(kernels: &dyn Ops, reference: &dyn Ops, draw: &RandomTensors) {
    let n = 24;
    let logits = bf16(&(draw.randn(&[n, 304]) * 4.0));
    let of = |values: &[f64]| -> Vec<f64> {
        (0..n as usize).map(|r| values[r % values.len()]).collect()
    };
    let draws = |top_p: &[f64], top_k: &[f64]| {
        let uniform = draw.uniform(&[1, n]);
        let given = [of(&[0.0, 1.0, 0.6, 2.0]), of(top_p), of(top_k)].concat();
        Tensor::cat(&[Tensor::from_slice(&given).view([3, n]), uniform], 0)
    };
    let drawn = |ops: &dyn Ops, draws: &Tensor| {
        let drawn = Tensor::full([3, n], f64::NAN, (Kind::Double, CPU));
        ops.sample(&logits, draws, &drawn).unwrap();
        [0, 1, 2].map(|which| Vec::<f64>::try_from(drawn.get(which)).unwrap())
    };
    // unfiltered, or filtered to one token: both draw in token order
    for (top_p, top_k) in [([1.0, 1.0], [0.0, 0.0]), ([1.0, 1e-6], [1.0, 0.0])] {
        let draws = draws(&top_p, &top_k);
        let ([tokens, given @ ..], wanted) = (drawn(kernels, &draws), drawn(reference, &draws));
        assert_eq!(tokens, wanted[0]);
        for (a, b) in given.iter().flatten().zip(wanted[1..].iter().flatten()) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
    // filtered: the kernel draws in token order from the same set, which is checked against a sort
    let draws = draws(&[0.9, 0.5, 1.0], &[0.0, 20.0, 5.0, 3.0]);
    let [tokens, _, behaviour] = drawn(kernels, &draws);
    let number = |which: i64, row: usize| draws.double_value(&[which, row as i64]);
    for (row, &token) in tokens.iter().enumerate().filter(|(row, _)| row % 4 != 0) {
        let weights = (logits.get(row as i64).to_kind(Kind::Double) / number(0, row))
            .softmax(-1, Kind::Double);
        let weights = Vec::<f64>::try_from(weights).unwrap();
        let mut order: Vec<usize> = (0..304).collect();
        order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
        let top_k = number(2, row) as usize;
        order.truncate(if top_k == 0 { 304 } else { top_k });
        let total: f64 = order.iter().map(|&at| weights[at]).sum();
        let mut sum = 0.0;
        let n_kept = order.iter().position(|&at| {
            sum += weights[at];
            sum >= number(1, row) * total
        });
        let mut kept = order[..=n_kept.unwrap_or(order.len() - 1)].to_vec();
        kept.sort_unstable();
        let total: f64 = kept.iter().map(|&at| weights[at]).sum();
        let mut sum = 0.0;
        let wanted = kept.iter().find(|&&at| {
            sum += weights[at];
            sum > number(3, row) * total
        });
        assert_eq!(token as usize, *wanted.unwrap(), "row {row}");
        let wanted = (weights[token as usize] / total).ln();
        assert!((behaviour[row] - wanted).abs() < 1e-5, "row {row}: {} {wanted}", behaviour[row]);
    }
    let broken = logits.get(1).copy();
    let _ = broken.narrow(0, 5, 1).fill_(f64::NAN);
    logits.get(1).copy_(&broken);
    let broken = drawn(kernels, &draws);
    assert!(!broken[1][1].is_finite() && !broken[2][1].is_finite());
}
