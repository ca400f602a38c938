//! Losses, gradients, corrections and divergences of TRL, verl and OpenRLHF in f64, recorded in
//! tests/golden/grpo.json.

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::*;
use crate::golden::golden;

/// Program, recorded name, the loss as data.
fn losses() -> Vec<(&'static str, &'static str, Value)> {
    let clip = |high: f64| json!({"kind": "clip", "high": high});
    let kl = |by_ratio: bool| json!({"weight": 0.04, "by_ratio": by_ratio});
    let corrected =
        |preset: &str, correction: Value| json!({"preset": preset, "correction": correction});
    let drift = |max: f64| json!({"weights": "none", "max_drift": max});
    // TRL holds the temperature 1.05 in f32
    let sapo = json!({
        "preset": "sapo", "surrogate": {"kind": "sapo", "negative": f64::from(1.05f32)},
    });
    let ppo = |aggregate: &str| json!({"preset": "ppo", "aggregate": aggregate});
    let gspo = json!({"preset": "gspo"});
    let narrow =
        json!({"preset": "gspo", "surrogate": {"kind": "clip", "low": 3e-4, "high": 4e-4}});
    let trust = json!({"weights": "sequence", "mask": [0.0, 3.0]});
    let filtered = json!({"truncate": 5.0, "keep_sequences": [0.9, 1.2]});
    vec![
        ("trl", "grpo", json!({"preset": "grpo"})),
        ("trl", "bnpo", json!({"preset": "bnpo"})),
        ("trl", "dapo", json!({})),
        ("trl", "dr_grpo", json!({"preset": "dr_grpo"})),
        ("trl", "sapo", sapo.clone()),
        ("trl", "luspo", json!({"preset": "luspo"})),
        ("trl", "vespo", json!({"preset": "vespo"})),
        ("trl", "cispo_eps_high5", json!({"preset": "cispo"})),
        (
            "trl",
            "cispo_eps_high1.28",
            json!({"preset": "cispo", "surrogate": {"kind": "cispo", "max": 1.28}}),
        ),
        ("trl", "dapo_clip_higher_0.28", json!({"surrogate": clip(0.28)})),
        ("trl", "grpo_gspo_sequence_eps0.2", gspo.clone()),
        (
            "trl",
            "grpo_delta1.5",
            json!({"preset": "grpo", "surrogate": {"kind": "clip", "delta": 1.5}}),
        ),
        ("trl", "grpo_beta0.04_biasKL", json!({"preset": "grpo", "kl": kl(true)})),
        ("trl", "grpo_beta0.04_nobias", json!({"preset": "grpo", "kl": kl(false)})),
        ("trl", "grpo_onpolicy_oldNone", json!({"preset": "grpo"})),
        ("trl", "dapo_opsm_0.05", corrected("dapo", drift(0.05))),
        ("trl", "dapo_opsm_-0.1", corrected("dapo", drift(-0.1))),
        ("trl", "NEGADV/grpo_gspo_sequence_eps0.2", gspo.clone()),
        ("trl", "NEGADV/grpo_gspo_sequence_3e-4_4e-4", narrow.clone()),
        ("trl", "NEGADV/dapo", json!({"preset": "dapo"})),
        ("trl", "NEGADV/sapo", sapo),
        (
            "trl",
            "NEGADV/grpo_delta1.5",
            json!({"preset": "grpo", "surrogate": {"kind": "clip", "delta": 1.5}}),
        ),
        ("trl", "dapo_vllmIS_token_truncate_3", corrected("dapo", json!({"truncate": 3.0}))),
        ("trl", "dapo_vllmIS_sequence_mask_3", corrected("dapo", trust)),
        ("verl", "vanilla/token-mean", ppo("token_mean")),
        ("verl", "vanilla/token-sum", ppo("token_sum")),
        ("verl", "vanilla/seq-mean-token-sum", ppo("sequence_sum")),
        ("verl", "vanilla/seq-mean-token-mean", ppo("sequence_mean")),
        ("verl", "vanilla/seq-mean-token-sum-norm", ppo("constant_length")),
        (
            "verl",
            "vanilla/clip_higher0.28",
            json!({"preset": "ppo", "surrogate": {"kind": "clip", "high": 0.28, "dual": 3.0}}),
        ),
        ("verl", "vanilla/token-TIS2.0", corrected("ppo", json!({"truncate": 2.0}))),
        ("verl", "gspo/seq-mean-token-mean(eps3e-4,4e-4)", narrow),
        (
            "verl",
            "gspo/seq-mean-token-mean(eps0.2)",
            json!({"preset": "gspo", "ratio": "sequence_token"}),
        ),
        ("verl", "sapo", json!({"preset": "sapo"})),
        (
            "verl",
            "cispo(low.2,high.28)",
            json!({
                "preset": "cispo", "aggregate": "token_mean",
                "surrogate": {"kind": "cispo", "min": 0.8, "max": 1.28},
            }),
        ),
        ("verl", "geo_mean(0.4)", json!({"preset": "gmpo"})),
        ("verl", "gpg", json!({"preset": "reinforce"})),
        ("verl", "dro(beta=0.1)", json!({"preset": "dro"})),
        ("verl", "dppo_tv", json!({"preset": "dppo"})),
        ("openrlhf", "ppo/token-mean", json!({"preset": "bnpo"})),
        ("openrlhf", "ppo/seq-mean-token-mean", json!({"preset": "grpo"})),
        ("openrlhf", "ppo/dual_clip3", json!({"preset": "ppo"})),
        ("openrlhf", "gspo", gspo),
        ("openrlhf", "ppo/token-mask[0.5,5]", corrected("bnpo", json!({"mask": [0.5, 5.0]}))),
        ("openrlhf", "ppo/token-clip[0.5,2]", corrected("bnpo", json!({"truncate": 2.0}))),
        ("openrlhf", "ppo/seq-mask[0.9,1.2]", corrected("bnpo", filtered)),
    ]
}

/// Recorded cases that no data expresses, and why.
const NOT_EXPRESSED: [(&str, &str); 2] = [
    ("grpo_gspo_sequence", "the case before it by another name"),
    ("dapo_top_entropy_0.2", "needs the entropies of the whole update"),
];

fn matrix(value: &Value) -> Tensor {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, rows[0].len() as i64])
}

/// The recorded inputs, or some of their rows.
struct Inputs {
    logprobs: Tensor,
    old: Tensor,
    reference: Tensor,
    behaviour: Tensor,
    mask: Tensor,
    advantages: Tensor,
}

impl Inputs {
    fn read(inputs: &Value, rows: std::ops::Range<i64>) -> Self {
        let part = |key: &str| matrix(&inputs[key]).narrow(0, rows.start, rows.end - rows.start);
        let advantages: Vec<f64> = serde_json::from_value(inputs["adv"].clone()).unwrap();
        let advantages = &advantages[rows.start as usize..rows.end as usize];
        Self {
            logprobs: part("logp").copy().set_requires_grad(true),
            old: part("old"),
            reference: part("ref"),
            behaviour: part("rollout"),
            mask: part("mask"),
            advantages: Tensor::from_slice(advantages).unsqueeze(1),
        }
    }

    fn loss(&self, loss: &PolicyLoss, is_on_policy: bool) -> MicroBatchLoss {
        let has_reference = loss.kl.weight > 0.0;
        let terms = PolicyTerms {
            logprobs: &self.logprobs,
            old: (!is_on_policy).then_some(&self.old),
            behaviour: Some(&self.behaviour),
            reference: has_reference.then_some(&self.reference),
            mask: &self.mask,
            kept: None,
            entropies: None,
            advantages: &self.advantages,
        };
        loss.micro_batch(&terms, &WHOLE)
    }
}

const WHOLE: Normalizer = Normalizer {
    n_rows: 4,
    n_tokens: 14,
    n_kept: 14,
    n_tokens_per_update: 14.0,
    max_completion_length: 5,
};

fn parse(config: &Value) -> PolicyLoss {
    serde_json::from_value::<LossConfig>(config.clone()).unwrap().loss(SamplerNumbers::Same)
}

#[test]
fn losses_and_gradients_equal_those_of_trl_verl_and_openrlhf() {
    let golden = golden("grpo.json");
    let mut problems = Vec::new();
    for (program, name, config) in losses() {
        let wanted = &golden[format!("{program}_loss")][name];
        assert!(wanted.is_object(), "{program} {name} is not recorded");
        let mut inputs = Inputs::read(&golden["inputs"], 0..4);
        if name.starts_with("NEGADV/") {
            inputs.advantages = -inputs.advantages;
        }
        let seen = inputs.loss(&parse(&config), name.ends_with("oldNone"));
        seen.loss.backward();
        // verl's token mean of a completion has 1e-8 in its denominator
        let tolerance = if program == "verl" { 2e-9 } else { 1e-9 };
        let mut check = |what: &str, seen: f64, wanted: f64| {
            if (seen - wanted).abs() >= tolerance {
                problems.push(format!("{program} {name}: {what} {seen}, wanted {wanted}"));
            }
        };
        check("loss", seen.loss.double_value(&[]), wanted["loss"].as_f64().unwrap());
        let gap = inputs.logprobs.grad() - matrix(&wanted["grad_logp"]);
        check("gradient off by", gap.abs().max().double_value(&[]), 0.0);
        let metrics = &wanted["metrics"];
        if program == "trl" && parse(&config).ratio == Ratio::Token {
            let clipped = [
                ("clip_ratio/low_mean", seen.n_clipped_low),
                ("clip_ratio/high_mean", seen.n_clipped_high),
                ("kl", seen.kl_sum.unwrap_or(0.0)),
            ];
            for (key, sum) in clipped {
                if let Some(wanted) = metrics[key].as_f64() {
                    check(key, sum / 14.0, wanted);
                }
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn every_recorded_loss_is_expressed_as_data() {
    let golden = golden("grpo.json");
    let losses = losses();
    for program in ["trl", "verl", "openrlhf"] {
        for name in golden[format!("{program}_loss")].as_object().unwrap().keys() {
            let is_known = losses.iter().any(|loss| loss.0 == program && loss.1 == name)
                || NOT_EXPRESSED.iter().any(|(known, _)| known == name);
            assert!(is_known, "{program} {name}");
        }
    }
}

#[test]
fn losses_of_micro_batches_add_up_to_the_loss_of_the_update() {
    let golden = golden("grpo.json");
    for (program, name, config) in losses() {
        let loss = parse(&config);
        let of = |rows: std::ops::Range<i64>| {
            Inputs::read(&golden["inputs"], rows).loss(&loss, false).loss.double_value(&[])
        };
        let (whole, parts) = (of(0..4), of(0..1) + of(1..4));
        assert!((whole - parts).abs() < 1e-12, "{program} {name}: {whole} {parts}");
    }
}

#[test]
fn corrections_have_the_weights_of_trl_and_verl() {
    let golden = golden("grpo.json");
    let inputs = Inputs::read(&golden["inputs"], 0..4);
    let cases = [
        (json!({"truncate": 3.0}), &golden["trl_is_ratio"]["token_truncate"]),
        (json!({"weights": "sequence"}), &golden["trl_is_ratio"]["sequence"]),
        (
            json!({"weights": "sequence", "mask": [0.0, 3.0]}),
            &golden["trl_is_ratio"]["sequence_mask"],
        ),
        (json!({"truncate": 2.0}), &golden["verl_tis_weights"]),
    ];
    for (config, wanted) in cases {
        let correction: Correction = serde_json::from_value(config.clone()).unwrap();
        let weights = correction.token_weights(&correction::SamplerTerms {
            logprobs: &inputs.logprobs,
            old: &inputs.old,
            behaviour: &inputs.behaviour,
            advantages: &inputs.advantages,
            mask: &inputs.mask,
        });
        // verl has 0 where there is no token, TRL 1
        let gap = (weights - matrix(wanted)) * &inputs.mask;
        assert!(gap.abs().max().double_value(&[]) < 1e-12, "{config}");
    }
}

#[test]
fn divergences_have_the_values_and_gradients_of_verl() {
    let golden = golden("grpo.json");
    let values = &golden["verl_kl(logp=[-1,-.5,-2],ref=[-.8,-.9,-5])"];
    let gradients = &golden["verl_kl_grad"];
    let reference = Tensor::from_slice(&[-0.8, -0.9, -5.0]);
    for name in ["k1", "abs", "k2", "k3", "k1+", "k3+"] {
        let plain = name.trim_end_matches('+');
        let term: KlTerm =
            serde_json::from_value(json!({"estimator": plain, "straight_through": name != plain}))
                .unwrap();
        let logprobs = Tensor::from_slice(&[-1.0, -0.5, -2.0]).set_requires_grad(true);
        let kl = term.per_token(&logprobs, &reference);
        kl.sum(Kind::Double).backward();
        for (seen, wanted) in [(kl, &values[plain]), (logprobs.grad(), &gradients[name])] {
            let Ok(wanted) = serde_json::from_value::<Vec<f64>>(wanted.clone()) else { continue };
            let gap = seen - Tensor::from_slice(&wanted);
            assert!(gap.abs().max().double_value(&[]) < 1e-12, "{name}");
        }
    }
}

#[test]
fn correction_is_by_default_where_the_sampler_computes_other_numbers() {
    let of = |text: &str, sampler| {
        let config: LossConfig = serde_json::from_str(text).unwrap();
        config.loss(sampler).correction
    };
    assert_eq!(of("{}", SamplerNumbers::Same), None);
    let by_default = of("{}", SamplerNumbers::Other).unwrap();
    assert_eq!(by_default.weights, CorrectionWeights::Sequence);
    assert_eq!(by_default.mask, Some([0.0, 3.0]));
    let off = r#"{"correction": {"weights": "none"}}"#;
    let own = r#"{"correction": {"weights": "token", "truncate": 2.0}}"#;
    for sampler in [SamplerNumbers::Same, SamplerNumbers::Other] {
        assert_eq!(of(off, sampler), None);
        assert_eq!(of(own, sampler).unwrap().truncate, Some(2.0));
    }
}

#[test]
fn correction_whose_bounds_make_no_sense_is_refused() {
    let of = |text: &str| serde_json::from_str::<Correction>(text).unwrap().contradictions();
    assert!(of(r#"{"mask": [0.0, 3.0], "keep_sequences": [0.5, 0.5]}"#).is_empty());
    assert_eq!(of(r#"{"mask": [3.0, 0.5]}"#), ["mask is [3, 0.5], wanted the smaller bound first"]);
    let reversed = of(r#"{"weights": "none", "keep_sequences": [2.0, 1.0]}"#);
    assert_eq!(reversed, ["keep_sequences is [2, 1], wanted the smaller bound first"]);
    let without_weights = of(r#"{"weights": "none", "mask": [0.5, 5.0]}"#);
    assert!(without_weights[0].starts_with("mask needs weights"), "{without_weights:?}");
}

/// Rows of different lengths as a matrix, padded with 0.
fn padded(rows: &Value) -> Tensor {
    let rows: Vec<Vec<f64>> = serde_json::from_value(rows.clone()).unwrap();
    let width = rows.iter().map(Vec::len).max().unwrap();
    let all: Vec<f64> = rows
        .iter()
        .flat_map(|row| (0..width).map(|at| row.get(at).copied().unwrap_or(0.0)))
        .collect();
    Tensor::from_slice(&all).view([rows.len() as i64, width as i64])
}

#[test]
fn losses_of_rloo_and_reinforce_plus_plus_equal_those_of_trl_and_verl() {
    let golden = golden("advantages.json");
    let lengths: Vec<usize> = serde_json::from_value(golden["lengths"].clone()).unwrap();
    let ones: Vec<Vec<f64>> = lengths.iter().map(|&n| vec![1.0; n]).collect();
    let mask = padded(&json!(ones));
    let n_tokens: usize = lengths.iter().sum();
    let whole = Normalizer {
        n_rows: lengths.len(),
        n_tokens,
        n_kept: n_tokens,
        n_tokens_per_update: n_tokens as f64,
        max_completion_length: 8,
    };
    for (name, preset) in [("trl_rloo", "rloo"), ("verl_reinforce_plus_plus", "reinforce++")] {
        for case in golden["losses"][name].as_array().unwrap() {
            let logprobs = padded(&case["new"]).set_requires_grad(true);
            let old = padded(&case["old"]);
            let advantages: Vec<f64> = serde_json::from_value(case["advantages"].clone()).unwrap();
            let terms = PolicyTerms {
                logprobs: &logprobs,
                old: Some(&old),
                behaviour: None,
                reference: None,
                mask: &mask,
                kept: None,
                entropies: None,
                advantages: &Tensor::from_slice(&advantages).unsqueeze(1),
            };
            let seen = parse(&json!({"preset": preset})).micro_batch(&terms, &whole);
            seen.loss.backward();
            let wanted = case["loss"].as_f64().unwrap();
            let gap = (seen.loss.double_value(&[]) - wanted).abs();
            assert!(gap < 1e-9, "{preset}: {gap} from {wanted}");
            let gap = logprobs.grad() - padded(&case["gradient"]);
            let gap = gap.abs().max().double_value(&[]);
            assert!(gap < 1e-9, "{preset}: gradient off by {gap}");
        }
    }
}
