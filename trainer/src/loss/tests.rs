//! Losses and gradients against TRL's in f64, recorded in tests/golden/grpo.json.

use serde_json::Value;
use tch::{Kind, Tensor};

use super::{LossConfig, LossInputs, LossType, Normalizer, policy_loss};
use crate::golden::golden;

fn matrix(value: &Value) -> Tensor {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, rows[0].len() as i64])
}

struct Case {
    name: &'static str,
    config: LossConfig,
    on_policy: bool,
    negative: bool,
}

fn case(name: &'static str, loss_type: LossType) -> Case {
    let config = LossConfig {
        loss_type,
        epsilon: 0.2,
        epsilon_high: 0.2,
        beta: 0.0,
        kl_bias_correction: true,
    };
    Case { name, config, on_policy: false, negative: false }
}

#[test]
fn losses_and_gradients_equal_trl() {
    let golden = golden("grpo.json");
    let inputs = &golden["inputs"];
    let with = |mut case: Case, change: fn(&mut Case)| {
        change(&mut case);
        case
    };
    let cases = [
        case("grpo", LossType::Grpo),
        case("dapo", LossType::Dapo),
        case("dr_grpo", LossType::DrGrpo),
        with(case("dapo_clip_higher_0.28", LossType::Dapo), |c| c.config.epsilon_high = 0.28),
        with(case("grpo_beta0.04_biasKL", LossType::Grpo), |c| c.config.beta = 0.04),
        with(case("grpo_beta0.04_nobias", LossType::Grpo), |c| {
            c.config.beta = 0.04;
            c.config.kl_bias_correction = false;
        }),
        with(case("grpo_onpolicy_oldNone", LossType::Grpo), |c| c.on_policy = true),
        with(case("NEGADV/dapo", LossType::Dapo), |c| c.negative = true),
    ];
    for case in cases {
        let wanted = &golden["trl_loss"][case.name];
        let logprobs = matrix(&inputs["logp"]).set_requires_grad(true);
        let (old, reference) = (matrix(&inputs["old"]), matrix(&inputs["ref"]));
        let mask = matrix(&inputs["mask"]);
        let sign = if case.negative { -1.0 } else { 1.0 };
        let advantages: Vec<f64> = serde_json::from_value(inputs["adv"].clone()).unwrap();
        let advantages = Tensor::from_slice(&advantages).unsqueeze(1) * sign;
        let normalizer = Normalizer { n_rows: 4, n_tokens: 14, max_completion_length: 5 };
        let loss = policy_loss(
            &LossInputs {
                logprobs: &logprobs,
                old_logprobs: (!case.on_policy).then_some(&old),
                reference_logprobs: (case.config.beta > 0.0).then_some(&reference),
                mask: &mask,
                advantages: &advantages,
            },
            &case.config,
            &normalizer,
        );
        loss.loss.backward();
        let (seen, value) = (loss.loss.double_value(&[]), wanted["loss"].as_f64().unwrap());
        assert!((seen - value).abs() < 1e-9, "{}: loss {seen}, TRL says {value}", case.name);
        let gap = (logprobs.grad() - matrix(&wanted["grad_logp"])).abs().max().double_value(&[]);
        assert!(gap < 1e-9, "{}: the gradient is off by {gap}", case.name);
        let metrics = &wanted["metrics"];
        let share = |count: f64| count / 14.0;
        let near = |seen: f64, key: &str| (seen - metrics[key].as_f64().unwrap()).abs() < 1e-9;
        assert!(near(share(loss.n_clipped_low), "clip_ratio/low_mean"), "{}", case.name);
        assert!(near(share(loss.n_clipped_high), "clip_ratio/high_mean"), "{}", case.name);
        if let Some(kl_sum) = loss.kl_sum {
            assert!(near(share(kl_sum), "kl"), "{}: kl {}", case.name, share(kl_sum));
        }
    }
}

#[test]
fn losses_of_micro_batches_add_up_to_the_loss_of_the_update() {
    let golden = golden("grpo.json");
    let inputs = &golden["inputs"];
    let normalizer = Normalizer { n_rows: 4, n_tokens: 14, max_completion_length: 5 };
    for loss_type in [LossType::Grpo, LossType::Dapo, LossType::DrGrpo] {
        let config = case("", loss_type).config;
        let loss_of = |rows: std::ops::Range<i64>| {
            let part =
                |key: &str| matrix(&inputs[key]).narrow(0, rows.start, rows.end - rows.start);
            let advantages: Vec<f64> = serde_json::from_value(inputs["adv"].clone()).unwrap();
            let advantages =
                Tensor::from_slice(&advantages[rows.start as usize..rows.end as usize]);
            let inputs = LossInputs {
                logprobs: &part("logp"),
                old_logprobs: Some(&part("old")),
                reference_logprobs: None,
                mask: &part("mask"),
                advantages: &advantages.unsqueeze(1).to_kind(Kind::Double),
            };
            policy_loss(&inputs, &config, &normalizer).loss.double_value(&[])
        };
        let (whole, parts) = (loss_of(0..4), loss_of(0..1) + loss_of(1..4));
        assert!((whole - parts).abs() < 1e-12, "{loss_type:?}: {whole} {parts}");
    }
}
