//! FP8 checkpoints against transformers and compressed-tensors, recorded in tests/golden/fp8.json by
//! make_fp8.py, and `joust quantize`.

use std::path::{Path, PathBuf};

use joust_engine::device::Quantization;
use joust_engine::{Engine, EngineConfig, folder, forced, weights};
use serde_json::Value;

use crate::binary::{arg, file, joust, refuse, root, succeed};
use crate::parity::{check_model, close, ids, numbers};

fn golden() -> Value {
    let text = std::fs::read_to_string(root().join("tests/golden/fp8.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn checkpoint(name: &str) -> PathBuf {
    root().join("tests/golden/fp8").join(name)
}

#[test]
fn fp8_checkpoints_of_each_layout_generate_like_transformers() {
    for name in ["channel", "tensor", "block"] {
        check_model(&checkpoint(name), &golden()["models"][name]["prompts"]);
    }
}

/// Opens a model with the GPU's numbers emulated.
fn emulated(path: &Path) -> Engine {
    let config = EngineConfig { quantization: Quantization::Fp8, ..EngineConfig::default() };
    Engine::open(path, &config).unwrap()
}

#[test]
fn emulated_products_quantise_their_input_a_token_at_a_time() {
    let rows = golden()["models"]["channel"]["activations"].as_array().unwrap().clone();
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
        close(&seen, &wanted);
        let last = last_logprobs(&engine, &prompt);
        let logits = numbers(&row["last_prompt_logits"]);
        let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
        let wanted: Vec<f32> = logits.iter().map(|&x| x - total.ln() as f32).collect();
        close(&last, &wanted);
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
fn quantize_writes_what_compressed_tensors_reads() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("fp8");
    let base = root().join("tests/golden/models/tiny-qwen2");
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
    let json = |path: &Path| -> Value {
        serde_json::from_str(&std::fs::read_to_string(path.join("config.json")).unwrap()).unwrap()
    };
    let (mine, theirs) = (json(&output), json(&checkpoint("channel")));
    assert_eq!(mine["quantization_config"], theirs["quantization_config"]);
    assert_eq!(mine["hidden_size"], theirs["hidden_size"]);
    check_model(&output, &golden()["models"]["channel"]["prompts"]);
    let again = dir.path().join("again");
    let error = refuse(&quantize(&output, &again));
    assert!(error.contains("quantised already"), "{error}");
    assert!(!again.exists());
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Changes a model's config.json.
fn edit_config(dir: &Path, edit: impl FnOnce(&mut Value)) {
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    edit(&mut config);
    std::fs::write(&path, config.to_string()).unwrap();
}

#[test]
fn quantize_touches_nothing_but_a_model_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let base = root().join("tests/golden/models/tiny-qwen2");
    let at = |name: &str| dir.path().join(name);
    let quantize = |model: &Path, output: &Path| {
        refuse(&["quantize", "--model", &arg(model), "--output", &arg(output)])
    };
    // a folder around the model, in it, and a name that is in the way
    copy(&base, &at("run"));
    copy(&base, &at("run/checkpoint"));
    copy(&base, &at("out.tmp"));
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
    copy(&base, &at("theirs"));
    for name in ["tokenizer.model", "LICENSE.txt", "USE_POLICY.md", ".gitattributes", "README.md"] {
        std::fs::write(at("theirs").join(name), "words").unwrap();
    }
    succeed(&["quantize", "--model", &arg(&base), "--output", &arg(&at("theirs"))]);
    assert!(!at("theirs/LICENSE.txt").exists());
    succeed(&["quantize", "--model", &arg(&at("out.tmp")), "--output", &arg(&at("theirs"))]);
    // a folder with a config.json that holds other things, too
    copy(&base, &at("work"));
    std::fs::write(at("work/thesis.txt"), "years").unwrap();
    let error = quantize(&base, &at("work"));
    assert!(error.contains("thesis.txt"), "{error}");
    assert_eq!((names(&at("run")), names(&at("out.tmp"))), before);
    assert_eq!(std::fs::read_to_string(at("work/thesis.txt")).unwrap(), "years");
    // FP8 without a word of it in config.json, and a model that lacks a tensor: a good output stays
    copy(&base, &at("good"));
    copy(&checkpoint("block"), &at("fp8"));
    edit_config(&at("fp8"), |config| {
        config.as_object_mut().unwrap().remove("quantization_config");
    });
    let error = quantize(&at("fp8"), &at("good"));
    assert!(error.contains("down_proj.weight is FP8"), "{error}");
    copy(&base, &at("short"));
    edit_config(&at("short"), |config| config["num_hidden_layers"] = 4.into());
    let error = quantize(&at("short"), &at("good"));
    assert!(error.contains("model.layers.3") && error.contains("missing"), "{error}");
    let weights = |dir: &Path| std::fs::read(dir.join("model-00001-of-00003.safetensors")).unwrap();
    assert!(weights(&at("good")) == weights(&base));
}

#[test]
fn what_config_and_tensors_contradict_each_other_in_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    copy(&checkpoint("channel"), dir.path());
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
fn unknown_quantisations_are_refused_in_a_line_that_names_them() {
    let dir = tempfile::tempdir().unwrap();
    copy(&checkpoint("channel"), dir.path());
    let path = dir.path().join("config.json");
    let plain: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let group = "/quantization_config/config_groups/group_0/weights";
    let cases: [(&str, Value, &str); 7] = [
        ("/quantization_config/quant_method", "gptq".into(), "quant_method `gptq`"),
        ("/quantization_config/format", "pack-quantized".into(), "pack-quantized"),
        (&format!("{group}/num_bits"), 4.into(), "weights.num_bits 4 (wanted 8)"),
        (&format!("{group}/type"), "int".into(), "weights.type \"int\""),
        (&format!("{group}/strategy"), "group".into(), "weights.strategy `group`"),
        (&format!("{group}/symmetric"), false.into(), "weights.symmetric false"),
        ("/quantization_config/config_groups", serde_json::json!({}), "no config_groups"),
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

#[test]
fn doctor_plans_a_model_before_it_is_loaded() {
    let plan = |more: &[&str]| {
        let args = ["doctor", "--json", "--model", "bench/gpu/rrm-32b"];
        let args: Vec<&str> = args.iter().chain(more).copied().collect();
        let report: Value = serde_json::from_str(&succeed(&args)).unwrap();
        report["plan"].clone()
    };
    let h100 = ["--gpu-memory-gib", "79", "--quantization", "fp8", "--max-context", "8192"];
    let (bf16, fp8) = (plan(&h100), plan(&[&h100[..], &["--kv-dtype", "fp8"]].concat()));
    assert_eq!(bf16["weight_bytes"], fp8["weight_bytes"]);
    let tokens = |plan: &Value| plan["kv_tokens"].as_u64().unwrap();
    assert!(tokens(&fp8) > 19 * tokens(&bf16) / 10);
    // a longer batch of prompts takes more beside the weights
    let wide = plan(&[&h100[..], &["--step-tokens", "8192"]].concat());
    assert!(tokens(&wide) < tokens(&bf16));
    let small = ["doctor", "--model", "bench/gpu/rrm-32b", "--gpu-memory-gib", "40"];
    let output = joust(&small).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("61.0 GiB") && told.contains("quantization = \"fp8\""), "{told}");
    let negative = ["doctor", "--model", "bench/gpu/rrm-32b", "--gpu-memory-gib=-1"];
    assert!(refuse(&negative).contains("--gpu-memory-gib is -1"));
    // what the engine would refuse
    let at = |more: &[&str]| {
        let gpu = ["doctor", "--model", "bench/gpu/rrm-32b", "--gpu-memory-gib", "79"];
        refuse(&[&gpu[..], &["--quantization", "fp8"], more].concat())
    };
    assert!(at(&["--kv-memory-mib", "1"]).contains("two blocks"));
    assert!(at(&["--max-batch", "0"]).contains("max_batch"));
    assert!(at(&["--device", "cpu"]).contains("--gpu-memory-gib"));
}

#[test]
fn what_only_a_gpu_does_is_refused_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = file(dir.path(), "prompts.jsonl", "{\"prompt\": \"1 + 1 =\"}\n");
    let model = "data/models/nano-policy";
    let generate = ["generate", "--model", model, "--input", &prompts, "--device", "cpu"];
    let error = refuse(&[&generate[..], &["--kv-dtype", "fp8"]].concat());
    assert!(error.contains("kv_dtype fp8") && error.contains("GPU"), "{error}");
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
    let base = root().join("tests/golden/models/tiny-qwen2");
    for entry in std::fs::read_dir(&base).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "safetensors") {
            std::fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
        }
    }
    std::fs::remove_file(dir.join("model.safetensors.index.json")).unwrap();
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
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
fn a_model_that_is_quantised_while_it_is_loaded_is_never_there_in_bf16() {
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
