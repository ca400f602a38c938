//! Adapters that PEFT has written: their loss and gradients, recorded in `tests/golden/lora.json`
//! by `make_lora.py`; and the same numbers with adapters merged and in the engine.

use std::sync::Arc;

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::*;
use crate::engine::Engine;
use crate::folder;
use crate::golden;
use crate::request::{Request, RequestId};
use crate::settings::{EngineConfig, SamplingParams};

fn config(golden: &Value) -> LoraConfig {
    serde_json::from_value(golden["settings"].clone()).unwrap()
}

/// A tiny model with the adapters of PEFT.
fn adapted(name: &str, golden: &Value, kind: Kind) -> Decoder {
    let files = folder::open(&golden::path("models").join(name)).unwrap();
    let mut model = files.decoder(Device::Cpu, kind).unwrap();
    model.attach_adapters(&config(golden), Seed(1));
    model.set_adapters(&read(&golden::path("lora").join(name)).unwrap()).unwrap();
    model
}

fn check_models(check: impl Fn(&str, &Value, &Value)) {
    let golden = golden::read("lora.json");
    for (name, of_model) in golden["models"].as_object().unwrap() {
        check(name, of_model, &golden["rows"]);
    }
}

/// Next-token logits of a row.
fn logits(model: &Decoder, row: &Value) -> Tensor {
    let ids: Vec<i64> = golden::ids(row).into_iter().map(i64::from).collect();
    let ids = Tensor::from_slice(&ids).unsqueeze(0);
    model.logits(&model.hidden(&ids, model.kind()).unwrap().squeeze_dim(0)).unwrap()
}

#[test]
fn adapters_have_the_loss_and_gradients_of_peft() {
    check_models(|name, golden, rows| {
        let model = adapted(name, golden, Kind::Float);
        model.set_requires_grad(true);
        let rows = rows.as_array().unwrap();
        let n_targets: usize = rows.iter().map(|row| row.as_array().unwrap().len() - 1).sum();
        let losses = rows.iter().map(|row| {
            let logprobs = logits(&model, row).log_softmax(-1, Kind::Float);
            let ids: Vec<i64> = golden::ids(row).into_iter().map(i64::from).collect();
            let n = ids.len() as i64 - 1;
            let targets = Tensor::from_slice(&ids[1..]).view([-1, 1]);
            -logprobs.narrow(0, 0, n).gather(1, &targets, false).sum(Kind::Float)
        });
        let loss = losses.reduce(|a, b| a + b).unwrap() / n_targets as f64;
        let (seen, wanted) = (loss.double_value(&[]), golden["loss"].as_f64().unwrap());
        assert!((seen - wanted).abs() < 1e-5 * wanted, "{name}: loss {seen}, wanted {wanted}");
        loss.backward();
        let wanted = golden["gradient_norms"].as_object().unwrap();
        let trained = model.trained_parameters();
        assert_eq!(trained.len(), wanted.len());
        for (matrix, tensor) in trained {
            let seen = tensor.grad().norm().double_value(&[]);
            let wanted = wanted[&matrix].as_f64().unwrap();
            assert!((seen - wanted).abs() < 1e-4 * wanted, "{name} {matrix}: {seen}, {wanted}");
        }
        // what the adapters stand in for has no gradient
        for (parameter, tensor) in model.named_parameters() {
            assert!(!tensor.requires_grad() && !tensor.grad().defined(), "{name} {parameter}");
        }
    });
}

#[test]
fn merged_adapters_and_those_in_the_engine_compute_the_same() {
    check_models(|name, golden, rows| {
        for kind in [Kind::Float, Kind::BFloat16] {
            let model = adapted(name, golden, kind);
            let merged = model.duplicate(Device::Cpu, kind).unwrap();
            assert!(model.has_adapters() && !merged.has_adapters());
            let base = model.without_adapters();
            assert!(base.shares_weights_with(&model));
            let [with, once, without] =
                [&model, &merged, &base].map(|model| logits(model, &rows[0]));
            // relative to the size of all logits
            let size = with.norm().double_value(&[]);
            let off = |other: &Tensor| (&with - other).norm().double_value(&[]) / size;
            let close = if kind == Kind::Float { 1e-5 } else { 0.1 };
            assert!(off(&once) < close, "{name} {kind:?}: {}", off(&once));
            assert!(off(&without) > 0.2, "{name} {kind:?}: {}", off(&without));
        }
        // the CPU's own path
        let tokenizer =
            Arc::new(folder::open(&golden::path("models").join(name)).unwrap().tokenizer);
        let prompt = golden::ids(&rows[0]);
        let model = adapted(name, golden, Kind::Float);
        let sampled =
            [model.shared(), model.duplicate(Device::Cpu, Kind::Float).unwrap()].map(|it| {
                let mut engine =
                    Engine::new(it, Arc::clone(&tokenizer), &EngineConfig::default()).unwrap();
                let params = SamplingParams {
                    max_tokens: 24,
                    temperature: 0.0,
                    ignore_eos: true,
                    ..SamplingParams::default()
                };
                let request = Request::new(RequestId(0), prompt.clone(), params);
                engine.generate(vec![request]).unwrap().remove(0)
            });
        assert_eq!(sampled[0].token_ids, sampled[1].token_ids, "{name}");
        for (a, b) in sampled[0].logprobs.iter().zip(&sampled[1].logprobs) {
            assert!((a - b).abs() < 1e-3, "{name}: {a}, {b}");
        }
    });
}

#[test]
fn fresh_adapters_change_nothing_and_are_drawn_by_name() {
    check_models(|name, golden, rows| {
        let files = folder::open(&golden::path("models").join(name)).unwrap();
        let mut model = files.decoder(Device::Cpu, Kind::Float).unwrap();
        let before = logits(&model, &rows[1]);
        model.attach_adapters(&config(golden), Seed(4));
        assert!(logits(&model, &rows[1]).equal(&before), "{name}");
        let drawn = model.adapter_parameters();
        let again = {
            model.attach_adapters(&config(golden), Seed(4));
            model.adapter_parameters()
        };
        for ((matrix, a), (_, b)) in drawn.iter().zip(&again) {
            assert!(a.equal(b), "{name} {matrix}");
            let is_b = matrix.ends_with("lora_B.weight");
            assert_eq!(a.abs().max().double_value(&[]) == 0.0, is_b, "{name} {matrix}");
        }
    });
}

#[test]
fn save_writes_what_peft_has_written() {
    check_models(|name, golden, _| {
        let model = adapted(name, golden, Kind::Float);
        let dir = tempfile::tempdir().unwrap();
        let base = std::path::PathBuf::from(format!("tests/golden/models/{name}"));
        save(dir.path(), &model, &config(golden), &base).unwrap();
        let theirs = golden::path("lora").join(name);
        let (written, wanted) = (read(dir.path()).unwrap(), read(&theirs).unwrap());
        assert_eq!(written.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
        for (matrix, tensor) in &written {
            assert!(tensor.equal(&wanted[matrix]), "{name} {matrix}");
        }
        let [mut written, mut wanted] =
            [dir.path(), &theirs].map(|dir| json::read(&dir.join(CONFIG_FILE)).unwrap());
        let sorted = |config: &mut Value| {
            let modules = config["target_modules"].as_array_mut().unwrap();
            modules.sort_by_key(ToString::to_string);
        };
        sorted(&mut written);
        sorted(&mut wanted);
        for (key, value) in written.as_object().unwrap() {
            let is_same = match (value.as_f64(), wanted[key].as_f64()) {
                (Some(a), Some(b)) => a == b,
                _ => *value == wanted[key],
            };
            assert!(is_same, "{name} {key}: {value}, PEFT {}", wanted[key]);
        }
        assert!(is_adapter(dir.path()) && !is_adapter(&golden::path("models").join(name)));
    });
}

#[test]
fn set_adapters_refuses_other_matrices() {
    let golden = &golden::read("lora.json")["models"]["tiny-qwen2"];
    let model = adapted("tiny-qwen2", golden, Kind::Float);
    let recorded = || read(&golden::path("lora/tiny-qwen2")).unwrap();
    let first = recorded().keys().next().unwrap().clone();
    let mut less = recorded();
    less.remove(&first);
    assert!(model.set_adapters(&less).unwrap_err().to_string().contains(&first));
    let mut other = recorded();
    other.insert(first.clone(), Tensor::zeros([2, 2], (Kind::Float, Device::Cpu)));
    assert!(model.set_adapters(&other).unwrap_err().to_string().contains("[2, 2]"));
    let mut more = recorded();
    more.insert("other".to_owned(), Tensor::zeros([2], (Kind::Float, Device::Cpu)));
    let message = model.set_adapters(&more).unwrap_err().to_string();
    assert!(message.contains("other belongs to no adapter"), "{message}");
    assert_eq!(config(golden).to_json(Path::new("x"))["peft_type"], json!("LORA"));
}
