//! AdamW and the schedules against torch and transformers, recorded in tests/golden/adamw.json.

use joust_engine::model::{Bucket, BucketPiece};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::{AdamW, OptimConfig, Parameters, Schedule, ScheduleConfig};
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

const NAMES: [&str; 2] = ["matrix", "vector"];

/// Flat tensors of the golden's parameters, with three unused values at the end.
fn parameters(golden: &Value) -> (Bucket, Parameters) {
    let mut pieces: Vec<BucketPiece> = Vec::new();
    for name in NAMES {
        let start = pieces.last().map_or(0, |piece| piece.start + piece.n_values);
        let tensor = tensor(&golden["initial"][name]);
        let (shape, n_values) = (tensor.size(), tensor.numel());
        pieces.push(BucketPiece { name: name.to_owned(), shape, start, n_values });
    }
    let n_values = pieces.last().map_or(0, |piece| piece.start + piece.n_values) + 3;
    let layout = Bucket { pieces, n_values };
    let values = layout.zeros(Kind::Double, Device::Cpu).unwrap();
    let gradients = values.zeros_like();
    set(&layout, &values, &golden["initial"]);
    let pieces = layout.pieces.iter().filter_map(|it| it.within(&(0..n_values))).collect();
    (layout, Parameters { pieces, values, gradients })
}

/// Writes the golden's tensors into a flat tensor.
fn set(layout: &Bucket, flat: &Tensor, named: &Value) {
    for (mut view, name) in layout.views(flat).zip(NAMES) {
        view.copy_(&tensor(&named[name]));
    }
}

fn shared(parameters: &Parameters) -> Parameters {
    Parameters {
        pieces: parameters.pieces.clone(),
        values: parameters.values.shallow_clone(),
        gradients: parameters.gradients.shallow_clone(),
    }
}

#[test]
fn updates_equal_torch() {
    let golden = golden("adamw.json");
    let (layout, parameters) = parameters(&golden);
    let Parameters { values, gradients, .. } = shared(&parameters);
    let mut optimizer = AdamW::new(vec![parameters], &config(&golden));
    for (idx, step) in golden["steps"].as_array().unwrap().iter().enumerate() {
        set(&layout, &gradients, &step["grads"]);
        let norm = optimizer.grad_square().sqrt();
        optimizer.update(step["lr"].as_f64().unwrap(), norm);
        assert!((norm - step["grad_norm"].as_f64().unwrap()).abs() < 1e-12, "step {idx}");
        for (seen, name) in layout.views(&values).zip(NAMES) {
            let gap = (seen - tensor(&step["after"][name])).abs().max();
            assert!(gap.double_value(&[]) < 1e-12, "step {idx} {name}: {gap:?}");
        }
    }
}

#[test]
fn restored_optimizer_continues_as_if_uninterrupted() {
    let golden = golden("adamw.json");
    let run = |split: Option<usize>| {
        let (layout, parameters) = parameters(&golden);
        let mut optimizer = AdamW::new(vec![shared(&parameters)], &config(&golden));
        for (idx, step) in golden["steps"].as_array().unwrap().iter().enumerate() {
            if split == Some(idx) {
                let mut restored = AdamW::new(vec![shared(&parameters)], &config(&golden));
                for (before, after) in optimizer.means().zip(restored.means()) {
                    for ((_, before), (_, mut after)) in before.into_iter().zip(after) {
                        after.copy_(&before);
                    }
                }
                restored.set_n_updates(optimizer.n_updates());
                optimizer = restored;
            }
            set(&layout, &parameters.gradients, &step["grads"]);
            optimizer.update(0.01, optimizer.grad_square().sqrt());
        }
        parameters.values.copy()
    };
    assert_eq!(run(None), run(Some(3)));
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
