//! `joust quantize`: what it writes, what it refuses to write over, and the memory of a model that
//! is quantized while it is loaded.

use std::path::Path;

use joust_engine::{folder, weights};
use serde_json::Value;

use crate::binary::{arg, refuse, succeed};
use crate::fp8::checkpoint;
use crate::golden::{self, check_model, copy_files, edit_json};

#[test]
fn quantize_writes_what_compressed_tensors_reads() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("fp8");
    let base = golden::path("models/tiny-qwen2");
    let quantize = |model: &Path, output: &Path| {
        [
            "quantize".to_owned(),
            "--model".to_owned(),
            arg(model),
            "--output".to_owned(),
            arg(output),
        ]
    };
    let said = succeed(&quantize(&base, &output));
    assert!(said.contains("21 matrices in FP8"), "{said}");
    // the same bytes as torch's, in a folder that the libraries were seen to load
    let read = |path: &Path| folder::open(path).unwrap().weights.read_all().unwrap();
    let (mine, theirs) = (read(&output), read(&checkpoint("channel")));
    assert_eq!(mine.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (name, tensor) in &mine {
        let (a, b) = (tensor, &theirs[name]);
        assert_eq!((a.kind(), a.size()), (b.kind(), b.size()), "{name}");
        assert!(a.view_dtype(tch::Kind::Uint8).equal(&b.view_dtype(tch::Kind::Uint8)), "{name}");
    }
    let json = |path: &Path| golden::json(&path.join("config.json"));
    let (mine, theirs) = (json(&output), json(&checkpoint("channel")));
    assert_eq!(mine["quantization_config"], theirs["quantization_config"]);
    assert_eq!(mine["hidden_size"], theirs["hidden_size"]);
    check_model(&output, &golden::read("fp8.json")["models"]["channel"]["prompts"]);
    let again = dir.path().join("again");
    let error = refuse(&quantize(&output, &again));
    assert!(error.contains("quantised already"), "{error}");
    assert!(!again.exists());
}

#[test]
fn quantize_writes_over_nothing_but_a_model_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let base = golden::path("models/tiny-qwen2");
    let at = |name: &str| dir.path().join(name);
    let quantize = |model: &Path, output: &Path| {
        refuse(&["quantize", "--model", &arg(model), "--output", &arg(output)])
    };
    // a folder around the model, in it, and a name that is in the way
    copy_files(&base, &at("run"));
    copy_files(&base, &at("run/checkpoint"));
    copy_files(&base, &at("out.tmp"));
    let names = |dir: &Path| std::fs::read_dir(dir).unwrap().count();
    let before = (names(&at("run")), names(&at("out.tmp")));
    std::os::unix::fs::symlink(at("run"), at("link")).unwrap();
    for output in [
        "run",
        "run/",
        "run/checkpoint/fp8",
        "run/checkpoint",
        "run/../run/checkpoint/.",
        "link/checkpoint/fp8",
    ] {
        let error = quantize(&at("run/checkpoint"), &at(output));
        assert!(error.contains("choose another folder"), "{error}");
    }
    let error = quantize(&at("out.tmp"), &at("out"));
    assert!(error.contains("in the way"), "{error}");
    // over a model as other tools write one
    copy_files(&base, &at("theirs"));
    for name in ["tokenizer.model", "LICENSE.txt", "USE_POLICY.md", ".gitattributes", "README.md"] {
        std::fs::write(at("theirs").join(name), "words").unwrap();
    }
    succeed(&["quantize", "--model", &arg(&base), "--output", &arg(&at("theirs"))]);
    assert!(!at("theirs/LICENSE.txt").exists());
    succeed(&["quantize", "--model", &arg(&at("out.tmp")), "--output", &arg(&at("theirs"))]);
    // a folder with a config.json that holds other things, too
    copy_files(&base, &at("work"));
    std::fs::write(at("work/thesis.txt"), "years").unwrap();
    let error = quantize(&base, &at("work"));
    assert!(error.contains("thesis.txt"), "{error}");
    assert_eq!((names(&at("run")), names(&at("out.tmp"))), before);
    assert_eq!(std::fs::read_to_string(at("work/thesis.txt")).unwrap(), "years");
    // FP8 without a word of it in config.json, and a model that lacks a tensor: a good output stays
    copy_files(&base, &at("good"));
    copy_files(&checkpoint("block"), &at("fp8"));
    edit_json(&at("fp8/config.json"), |config| {
        config.as_object_mut().unwrap().remove("quantization_config");
    });
    let error = quantize(&at("fp8"), &at("good"));
    assert!(error.contains("down_proj.weight is FP8"), "{error}");
    copy_files(&base, &at("short"));
    edit_json(&at("short/config.json"), |config| {
        config["num_hidden_layers"] = 4.into();
        config.as_object_mut().unwrap().remove("layer_types");
    });
    let error = quantize(&at("short"), &at("good"));
    assert!(error.contains("model.layers.3") && error.contains("missing"), "{error}");
    let weights = |dir: &Path| std::fs::read(dir.join("model-00001-of-00003.safetensors")).unwrap();
    assert!(weights(&at("good")) == weights(&base));
}

#[test]
fn quantize_refuses_a_gguf_file_and_its_own_input_as_output() {
    let dir = tempfile::tempdir().unwrap();
    let model = "data/models/nano-policy";
    let gguf = dir.path().join("model.gguf");
    std::fs::write(&gguf, "GGUF").unwrap();
    let output = arg(&dir.path().join("out"));
    let error = refuse(&["quantize", "--model", &arg(&gguf), "--output", &output]);
    assert!(error.contains("config.json"), "{error}");
    let error = refuse(&["quantize", "--model", model, "--output", model]);
    assert!(error.contains("choose another folder"), "{error}");
}

/// A bf16 model folder with large layers and a small vocabulary; returns the bytes of its layers'
/// matrices in FP8.
fn write_large_model(dir: &Path, n_layers: usize) -> usize {
    const HIDDEN: i64 = 1_024;
    const WIDTH: i64 = 4_096;
    let base = golden::path("models/tiny-qwen2");
    copy_files(&base, dir);
    for n in 1..=3 {
        std::fs::remove_file(dir.join(format!("model-0000{n}-of-00003.safetensors"))).unwrap();
    }
    std::fs::remove_file(dir.join("model.safetensors.index.json")).unwrap();
    let path = dir.join("config.json");
    let mut config = golden::json(&path);
    for (key, value) in [
        ("hidden_size", HIDDEN),
        ("intermediate_size", WIDTH),
        ("num_hidden_layers", n_layers as i64),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 8),
        ("head_dim", 128),
    ] {
        config[key] = value.into();
    }
    config["tie_word_embeddings"] = true.into();
    config.as_object_mut().unwrap().remove("layer_types");
    std::fs::write(&path, config.to_string()).unwrap();
    let drawn = |shape: &[i64]| {
        let options = (tch::Kind::BFloat16, tch::Device::Cpu);
        tch::Tensor::randn(shape, options) * 0.02
    };
    let mut tensors = weights::WeightMap::new();
    let vocab = config["vocab_size"].as_i64().unwrap();
    tensors.insert("model.embed_tokens.weight".to_owned(), drawn(&[vocab, HIDDEN]));
    tensors.insert("model.norm.weight".to_owned(), drawn(&[HIDDEN]));
    let mut bytes = 0;
    for layer in 0..n_layers {
        let mut insert = |name: &str, shape: &[i64]| {
            tensors.insert(format!("model.layers.{layer}.{name}"), drawn(shape));
            if let [rows, width] = shape {
                bytes += (rows * width + 4 * rows) as usize;
            }
        };
        for part in ["q", "k", "v"] {
            insert(&format!("self_attn.{part}_proj.weight"), &[HIDDEN, HIDDEN]);
            insert(&format!("self_attn.{part}_proj.bias"), &[HIDDEN]);
        }
        insert("self_attn.o_proj.weight", &[HIDDEN, HIDDEN]);
        insert("mlp.gate_proj.weight", &[WIDTH, HIDDEN]);
        insert("mlp.up_proj.weight", &[WIDTH, HIDDEN]);
        insert("mlp.down_proj.weight", &[HIDDEN, WIDTH]);
        insert("input_layernorm.weight", &[HIDDEN]);
        insert("post_attention_layernorm.weight", &[HIDDEN]);
    }
    weights::write_file(&dir.join("model.safetensors"), &tensors).unwrap();
    bytes
}

#[test]
fn quantization_while_loading_never_holds_the_model_in_bf16() {
    let measured = [2, 10].map(|n_layers| {
        let dir = tempfile::tempdir().unwrap();
        let fp8_bytes = write_large_model(dir.path(), n_layers);
        let model = arg(dir.path());
        let bench =
            ["bench", "engine", "--model", &model, "--device", "cpu", "--quantization", "fp8"];
        let short = ["--prompt", "2", "--new", "1", "--batch", "1", "--kv-memory-mib", "16"];
        let line = succeed(&[&bench[..], &short, &["--max-context", "64", "--reps", "1"]].concat());
        let figures: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(figures["fp8"], true);
        (fp8_bytes as f64, figures["loading_rss_mb"].as_f64().unwrap() * 1e6)
    });
    let [(small, small_peak), (large, large_peak)] = measured;
    let ratio = (large_peak - small_peak) / (large - small);
    // the whole in bf16 would add 2
    assert!(ratio < 1.3, "each byte of FP8 took {ratio} bytes of memory");
}
