//! FP8 checkpoints against transformers and compressed-tensors, recorded in
//! `tests/golden/fp8.json` by `make_fp8.py`.

use std::path::{Path, PathBuf};

use joust_engine::device::Quantization;
use joust_engine::{Engine, EngineConfig, forced, weights};
use serde_json::Value;

use crate::binary::arg;
use crate::golden::{self, check_close, check_model, copy_files, ids, numbers};

/// A checkpoint of one layout of scales: `channel`, `tensor` or `block`.
pub(crate) fn checkpoint(name: &str) -> PathBuf {
    golden::path("fp8").join(name)
}

#[test]
fn fp8_checkpoints_of_each_layout_generate_like_transformers() {
    for name in ["channel", "tensor", "block"] {
        check_model(&checkpoint(name), &golden::read("fp8.json")["models"][name]["prompts"]);
    }
}

/// Opens a model with the GPU's numbers emulated.
fn emulated(path: &Path) -> Engine {
    let config = EngineConfig { quantization: Quantization::Fp8, ..EngineConfig::default() };
    Engine::open(path, &config).unwrap()
}

#[test]
fn emulated_products_quantize_their_input_per_token() {
    let rows =
        golden::read("fp8.json")["models"]["channel"]["activations"].as_array().unwrap().clone();
    let engine = emulated(&checkpoint("channel"));
    assert!(engine.model().is_quantized());
    let mut n_sharp = 0;
    for row in rows {
        // an input near the middle of two FP8 numbers goes either way by the order of a sum: rows
        // where that happens cannot be compared
        if row["rounding_max_difference"].as_f64().unwrap() > 1e-3 {
            continue;
        }
        let prompt = ids(&row["token_ids"]);
        let wanted = numbers(&row["prompt_logprobs"]);
        let seen = forced::logprobs(engine.model(), &prompt[..1], &prompt[1..]).unwrap();
        check_close(&seen, &wanted);
        let last = last_logprobs(&engine, &prompt);
        let logits = numbers(&row["last_prompt_logits"]);
        let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let wanted: Vec<f32> = logits.iter().map(|&x| x - total.ln() as f32).collect();
        check_close(&last, &wanted);
        n_sharp += 1;
    }
    assert!(n_sharp >= 4);
}

/// Log-probabilities of every token after the prompt.
fn last_logprobs(engine: &Engine, prompt: &[u32]) -> Vec<f32> {
    let vocab = engine.model().config().vocab_size as u32;
    let after = |token| forced::logprobs(engine.model(), prompt, &[token]).unwrap()[0];
    (0..vocab).map(after).collect()
}

#[test]
fn contradictions_of_config_and_tensors_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    copy_files(&checkpoint("channel"), dir.path());
    let tensors = dir.path().join("model.safetensors");
    let kept = weights::read_file(&tensors).unwrap();
    let refused = |weights: &weights::WeightMap| {
        weights::write_file(&tensors, weights).unwrap();
        Engine::open(dir.path(), &EngineConfig::default()).err().unwrap().to_string()
    };
    let is_fp8 = |tensor: &tch::Tensor| tensor.kind() == tch::Kind::Float8e4m3fn;
    let with = |change: &dyn Fn(&str, &tch::Tensor) -> Option<tch::Tensor>| {
        let entry =
            |(name, tensor): (&String, &tch::Tensor)| Some((name.clone(), change(name, tensor)?));
        kept.iter().filter_map(entry).collect::<weights::WeightMap>()
    };
    let name = "model.layers.1.mlp.up_proj.weight";
    let one = with(&|at, tensor| {
        Some(if at == name { tensor.to_kind(tch::Kind::BFloat16) } else { tensor.shallow_clone() })
    });
    let error = refused(&one);
    assert!(error.contains(name) && error.contains("has a scale"), "{error}");
    let none = with(&|_, tensor| {
        Some(if is_fp8(tensor) {
            tensor.to_kind(tch::Kind::BFloat16)
        } else {
            tensor.shallow_clone()
        })
    });
    let error = refused(&none);
    assert!(error.contains("quantization_config"), "{error}");
    let broken = with(&|at, tensor| {
        Some(match at.strip_suffix("_scale") {
            Some(at) if at == name => tensor * f64::NAN,
            _ => tensor.shallow_clone(),
        })
    });
    let error = refused(&broken);
    assert!(error.contains(&format!("{name}_scale holds NaN")), "{error}");
    let path = arg(dir.path());
    assert!(error.contains(&path), "{error}");
}

#[test]
fn unknown_quantizations_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    copy_files(&checkpoint("channel"), dir.path());
    let path = dir.path().join("config.json");
    let plain = golden::json(&path);
    let group = "/quantization_config/config_groups/group_0/weights";
    let cases: [(&str, Value, &str); 7] = [
        ("/quantization_config/quant_method", "gptq".into(), "quant_method `gptq`"),
        ("/quantization_config/format", "pack-quantized".into(), "pack-quantized"),
        (&format!("{group}/num_bits"), 4.into(), "weights.num_bits 4 (wanted 8)"),
        (&format!("{group}/type"), "int".into(), "weights.type \"int\""),
        (&format!("{group}/strategy"), "group".into(), "weights.strategy `group`"),
        (&format!("{group}/symmetric"), false.into(), "weights.symmetric false"),
        ("/quantization_config/config_groups", serde_json::json!({}), "without config_groups"),
    ];
    for (pointer, value, wanted) in cases {
        let mut config = plain.clone();
        *config.pointer_mut(pointer).unwrap() = value;
        std::fs::write(&path, config.to_string()).unwrap();
        let error = Engine::open(dir.path(), &EngineConfig::default()).err().unwrap().to_string();
        assert!(error.contains(wanted) && error.contains("config.json"), "{error}");
    }
    std::fs::write(&path, plain.to_string()).unwrap();
    let tensors = dir.path().join("model.safetensors");
    let mut kept = weights::read_file(&tensors).unwrap();
    let name = "model.layers.1.mlp.up_proj.weight_scale";
    let scale = kept.remove(name).unwrap();
    let refused = |weights: &weights::WeightMap| {
        weights::write_file(&tensors, weights).unwrap();
        Engine::open(dir.path(), &EngineConfig::default()).err().unwrap().to_string()
    };
    assert!(refused(&kept).contains(&format!("{name} is missing")));
    kept.insert(name.to_owned(), scale.narrow(0, 0, 7));
    let error = refused(&kept);
    assert!(error.contains(name) && error.contains("[7, 1]"), "{error}");
}
