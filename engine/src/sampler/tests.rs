//! The sampler against distributions computed by hand.

use tch::Tensor;

use super::*;

fn row(temperature: f64, top_p: f64, top_k: usize, uniform: f64) -> RowSampling {
    RowSampling { row: 0, temperature, top_p, top_k, uniform }
}

fn logits(probabilities: &[f32]) -> Tensor {
    Tensor::from_slice(probabilities).log().unsqueeze(0)
}

/// Share of each token in the draws at 1,000 evenly spaced uniform numbers.
fn shares(probabilities: &[f32], temperature: f64, top_p: f64, top_k: usize) -> Vec<f64> {
    let mut shares = vec![0.0; probabilities.len()];
    for draw in 0..1000 {
        let rows = [row(temperature, top_p, top_k, (draw as f64 + 0.5) / 1000.0)];
        shares[sample(&logits(probabilities), &rows).unwrap()[0].token as usize] += 1e-3;
    }
    shares
}

fn check(probabilities: &[f32], temperature: f64, top_p: f64, top_k: usize, wanted: &[f64]) {
    for (seen, wanted) in shares(probabilities, temperature, top_p, top_k).iter().zip(wanted) {
        assert!((seen - wanted).abs() < 2e-3, "{seen} {wanted}");
    }
}

#[test]
fn sample_follows_temperature_top_k_and_top_p() {
    let p = [0.5, 0.2, 0.3];
    check(&p, 1.0, 1.0, 0, &[0.5, 0.2, 0.3]);
    check(&p, 0.5, 1.0, 0, &[0.25 / 0.38, 0.04 / 0.38, 0.09 / 0.38]);
    check(&p, 1.0, 1.0, 2, &[0.625, 0.0, 0.375]);
    check(&p, 1.0, 0.7, 0, &[0.625, 0.0, 0.375]);
    check(&p, 1.0, 0.5, 0, &[1.0, 0.0, 0.0]);
    check(&p, 0.0, 1.0, 0, &[1.0, 0.0, 0.0]);
    // top-p applies to the tokens that top-k keeps: 0.5/0.8 < 0.63
    check(&p, 1.0, 0.63, 2, &[0.625, 0.0, 0.375]);
}

#[test]
fn kept_candidates_reach_past_the_first_sorted_block() {
    let n = 2000;
    let flat = vec![1.0 / n as f32; n];
    let kept = kept_candidates(&flat, &row(1.0, 0.9, 0, 0.0));
    assert!((1795..=1805).contains(&kept.len()), "{}", kept.len());
}

#[test]
fn sample_gives_logprobs_of_the_untempered_softmax_and_of_what_it_drew_from() {
    let p = [0.5f32, 0.2, 0.3];
    // token 0 is drawn: (temperature, top-p, top-k), its probability among the kept tokens
    let cases = [
        ((1.0, 1.0, 0), 0.5f32),
        ((0.5, 1.0, 0), 0.25 / 0.38),
        ((1.0, 1.0, 2), 0.625),
        ((1.0, 0.7, 0), 0.625),
        ((0.5, 0.9, 2), 0.25 / 0.34),
        ((1.0, 0.5, 0), 1.0),
        ((0.0, 1.0, 0), 1.0),
    ];
    for ((temperature, top_p, top_k), wanted) in cases {
        let drawn = sample(&logits(&p), &[row(temperature, top_p, top_k, 0.1)]).unwrap()[0];
        assert_eq!(drawn.token, 0);
        assert!((drawn.logprob - 0.5f32.ln()).abs() < 1e-6);
        let behaviour = drawn.behaviour_logprob;
        assert!((behaviour - wanted.ln()).abs() < 1e-6, "{behaviour} {}", wanted.ln());
    }
    // without temperature and filter both are the same number, bit by bit
    let drawn = sample(&logits(&p), &[row(1.0, 1.0, 0, 0.9)]).unwrap()[0];
    assert_eq!(drawn.logprob, drawn.behaviour_logprob);
}
