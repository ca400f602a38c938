//! AdamW and the schedules against torch and transformers, recorded in tests/golden/adamw.json.

use serde_json::Value;
use tch::{Kind, Tensor};

use super::{AdamW, OptimConfig, Schedule, ScheduleConfig};
use crate::golden::golden;

fn tensor(value: &Value) -> Tensor {
    let rows = value.as_array().unwrap();
    let numbers = |row: &Value| -> Vec<f64> { serde_json::from_value(row.clone()).unwrap() };
    match rows[0].is_array() {
        true => {
            let width = numbers(&rows[0]).len() as i64;
            let flat: Vec<f64> = rows.iter().flat_map(numbers).collect();
            Tensor::from_slice(&flat).view([rows.len() as i64, width])
        }
        false => Tensor::from_slice(&numbers(value)),
    }
}

fn config(golden: &Value) -> OptimConfig {
    OptimConfig {
        lr: 1.0,
        beta1: golden["betas"][0].as_f64().unwrap(),
        beta2: golden["betas"][1].as_f64().unwrap(),
        eps: golden["eps"].as_f64().unwrap(),
        weight_decay: golden["weight_decay"].as_f64().unwrap(),
        max_grad_norm: golden["max_grad_norm"].as_f64().unwrap(),
        schedule: ScheduleConfig::default(),
    }
}

fn parameters(golden: &Value) -> Vec<(String, Tensor)> {
    let named = ["matrix", "vector"].into_iter();
    named
        .map(|name| (name.to_owned(), tensor(&golden["initial"][name]).set_requires_grad(true)))
        .collect()
}

/// Sets a gradient by a loss that has it: Σ p·g.
fn set_grad(parameter: &Tensor, grad: &Tensor) {
    (parameter * grad).sum(Kind::Double).backward();
}

#[test]
fn updates_equal_torch() {
    let golden = golden("adamw.json");
    let parameters = parameters(&golden);
    let shallow = parameters.iter().map(|(name, p)| (name.clone(), p.shallow_clone())).collect();
    let mut optimizer = AdamW::new(shallow, &config(&golden));
    for (idx, step) in golden["steps"].as_array().unwrap().iter().enumerate() {
        for (name, parameter) in &parameters {
            set_grad(parameter, &tensor(&step["grads"][name]));
        }
        let norm = optimizer.grad_norm();
        optimizer.update(step["lr"].as_f64().unwrap(), norm);
        assert!((norm - step["grad_norm"].as_f64().unwrap()).abs() < 1e-12, "step {idx}");
        for (name, parameter) in &parameters {
            let gap = (parameter.detach() - tensor(&step["after"][name])).abs().max();
            assert!(gap.double_value(&[]) < 1e-12, "step {idx} {name}: {gap:?}");
        }
    }
}

#[test]
fn restored_optimizer_continues_as_if_uninterrupted() {
    let golden = golden("adamw.json");
    let run = |split: Option<usize>| {
        let parameters = parameters(&golden);
        let shallow = || parameters.iter().map(|(n, p)| (n.clone(), p.shallow_clone())).collect();
        let mut optimizer = AdamW::new(shallow(), &config(&golden));
        for (idx, step) in golden["steps"].as_array().unwrap().iter().enumerate() {
            if split == Some(idx) {
                let copied = |(name, tensor): (String, Tensor)| (name, tensor.copy());
                let state: Vec<_> = optimizer.state().into_iter().map(copied).collect();
                let n_updates = optimizer.n_updates();
                optimizer = AdamW::new(shallow(), &config(&golden));
                let find = |name: &str| {
                    let found = state.iter().find(|(known, _)| known == name);
                    found.map(|(_, tensor)| tensor.shallow_clone())
                };
                optimizer.restore(n_updates, find).unwrap();
            }
            for (name, parameter) in &parameters {
                set_grad(parameter, &tensor(&step["grads"][name]));
            }
            optimizer.update(0.01, optimizer.grad_norm());
        }
        parameters[0].1.detach().copy()
    };
    assert_eq!(run(None), run(Some(3)));
    let mut fresh = AdamW::new(parameters(&golden), &config(&golden));
    let message = fresh.restore(1, |_| None).unwrap_err();
    assert_eq!(message, "tensor exp_avg.matrix is missing");
}

#[test]
fn schedules_equal_transformers() {
    let golden = &golden("adamw.json")["schedules"];
    for (kind, name) in [
        (Schedule::Cosine, "cosine"),
        (Schedule::Linear, "linear"),
        (Schedule::Constant, "constant"),
    ] {
        let config = ScheduleConfig { kind, warmup_updates: 5, min_ratio: 0.0 };
        for (update, wanted) in golden[name].as_array().unwrap().iter().enumerate() {
            let seen = config.factor(update as u64, 20);
            assert!((seen - wanted.as_f64().unwrap()).abs() < 1e-12, "{name} {update}: {seen}");
        }
    }
}
