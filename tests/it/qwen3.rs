//! A Qwen3 model in its other forms, an FP8 checkpoint with scales per block and a GGUF file,
//! against transformers: recorded in `tests/golden/qwen3.json` by `make_qwen3.py`.

use joust_engine::{folder, weights};

use crate::binary::{arg, refuse, succeed};
use crate::golden::{self, check_chats, check_model, check_tokenizer, copy_files, edit_json};

#[test]
fn qwen3_in_fp8_with_scales_per_block_generates_and_scores_like_transformers() {
    check_model(&golden::path("qwen3/fp8"), &golden::read("qwen3.json")["fp8"]["prompts"]);
}

#[test]
fn qwen3_in_a_gguf_file_generates_and_scores_like_transformers() {
    let path = golden::path("qwen3/tiny-qwen3.gguf");
    check_model(&path, &golden::read("qwen3.json")["gguf"]["prompts"]);
    let files = folder::open(&path).unwrap();
    let wanted = golden::path("models/tiny-qwen3");
    let wanted = folder::open_config(&wanted).unwrap();
    let keys = |config: &joust_engine::ModelConfig| {
        let heads = (config.n_heads, config.n_kv_heads, config.head_dim);
        (heads, config.rope_theta, config.rms_norm_eps)
    };
    assert_eq!(keys(&files.config), keys(&wanted));
    assert_eq!(folder::constants(&path).unwrap(), files.config);
    // a GGUF file also has the tokens that llama.cpp ends a text at by their names
    let ids = &files.config.eos_token_ids;
    assert!(wanted.eos_token_ids.iter().all(|id| ids.contains(id)), "{ids:?}");
    let golden = &golden::read("parity.json")["models"]["tiny-qwen3"];
    check_tokenizer(&files.tokenizer, &golden["tokenization"]);
    check_chats(&files.tokenizer, &golden["chats"]);
}

#[test]
fn quantize_keeps_the_norms_of_heads() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("fp8");
    let base = golden::path("models/tiny-qwen3");
    let said = succeed(&["quantize", "--model", &arg(&base), "--output", &arg(&output)]);
    assert!(said.contains("14 matrices in FP8"), "{said}");
    let file = "model.safetensors";
    let (before, after) = (
        weights::read_file(&base.join(file)).unwrap(),
        weights::read_file(&output.join(file)).unwrap(),
    );
    let norms = before.iter().filter(|(name, _)| name.ends_with("norm.weight"));
    assert_eq!(norms.clone().count(), 2 * 4 + 1);
    for (name, norm) in norms {
        assert!(norm.equal(&after[name]), "{name}");
    }
    folder::open(&output).unwrap().decoder(tch::Device::Cpu, tch::Kind::Float).unwrap();
}

#[test]
fn qwen3_with_experts_is_refused_in_one_line() {
    let (dir, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copy_files(&golden::path("models/tiny-qwen3"), dir.path());
    edit_json(&dir.path().join("config.json"), |config| {
        config["model_type"] = "qwen3_moe".into();
        config["architectures"] = serde_json::json!(["Qwen3MoeForCausalLM"]);
    });
    let output = arg(&output.path().join("out"));
    let error = refuse(&["quantize", "--model", &arg(dir.path()), "--output", &output]);
    let wanted = "model_type `qwen3_moe` (wanted qwen2, qwen3, llama or mistral) is not supported";
    assert!(error.contains(wanted) && error.trim().lines().count() == 1, "{error}");
}
