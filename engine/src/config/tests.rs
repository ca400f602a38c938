//! Reading of `config.json` in both spellings, round trips, and error texts.

use std::path::Path;

use serde_json::{Value, json};
use tch::Kind;

use super::{ModelConfig, RopeScaling};

fn qwen2() -> Value {
    json!({
        "model_type": "qwen2", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e6,
        "eos_token_id": [3, 4], "bos_token_id": null, "torch_dtype": "bfloat16",
    })
}

fn read(value: &Value) -> Result<ModelConfig, String> {
    ModelConfig::from_json(Path::new("config.json"), value).map_err(|error| error.to_string())
}

#[test]
fn from_json_reads_both_spellings_alike() {
    let old = read(&qwen2()).unwrap();
    assert_eq!((old.head_dim, old.rope_theta, old.attention_bias), (8, 1e6, true));
    assert_eq!(old.eos_token_ids, [3, 4]);
    let mut new = qwen2();
    let keys = new.as_object_mut().unwrap();
    keys.remove("rope_theta");
    keys.remove("torch_dtype");
    keys.insert("dtype".into(), json!("bfloat16"));
    keys.insert("rope_parameters".into(), json!({"rope_theta": 1e6, "rope_type": "default"}));
    assert_eq!(read(&new).unwrap(), old);
    assert_eq!(read(&old.to_json(Kind::BFloat16)).unwrap(), old);
}

#[test]
fn to_json_keeps_llama3_scaling() {
    let mut value = qwen2();
    value["model_type"] = json!("llama");
    value["rope_scaling"] = json!({
        "type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    });
    let config = read(&value).unwrap();
    assert!(matches!(config.rope_scaling, Some(RopeScaling::Llama3 { factor: 8.0, .. })));
    assert!(!config.attention_bias);
    assert_eq!(read(&config.to_json(Kind::BFloat16)).unwrap(), config);
}

#[test]
fn rope_scaling_replaces_the_whole_of_rope_parameters() {
    let mut value = qwen2();
    value.as_object_mut().unwrap().remove("rope_theta");
    value["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 5e5});
    assert_eq!(read(&value).unwrap().rope_theta, 5e5);
    value["rope_scaling"] = json!({});
    assert_eq!(read(&value).unwrap().rope_theta, 5e5);
    value["rope_scaling"] = json!({"rope_type": "linear", "factor": 2.0});
    let config = read(&value).unwrap();
    assert_eq!(config.rope_theta, 1e4);
    assert_eq!(config.rope_scaling, Some(RopeScaling::Linear { factor: 2.0 }));
}

#[test]
fn yarn_scales_scores_by_the_square_of_its_factor_and_is_written_back() {
    let mut value = qwen2();
    value["rope_scaling"] =
        json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32});
    let config = read(&value).unwrap();
    let factor = 0.1 * 4f64.ln() + 1.0;
    assert!((config.attention_scale() - factor * factor / 8f64.sqrt()).abs() < 1e-12);
    assert_eq!(read(&config.to_json(Kind::BFloat16)).unwrap(), config);
}

#[test]
fn from_json_names_the_key_that_is_wrong() {
    let window = "use_sliding_window = true with sliding_window 4 from layer 1 on";
    let cases: [(&str, Value, &str); 14] = [
        ("rms_norm_eps", Value::Null, "config.json: key `rms_norm_eps` is null, wanted"),
        ("rope_theta", json!("x"), "config.json: key `rope_theta` is \"x\", wanted"),
        ("rope_scaling", json!("yarn"), "key `rope_scaling` is \"yarn\", wanted an object"),
        ("rope_scaling", json!({"rope_type": "yarn"}), "`rope_scaling.factor` is missing"),
        ("rope_parameters", json!({"full_attention": {}}), "rope_parameters.full_attention"),
        ("architectures", json!(["Qwen2ForSequenceClassification"]), "score.weight"),
        ("vocab_size", json!(-1), "key `vocab_size` is -1, wanted a positive integer"),
        ("model_type", json!("gpt2"), "`gpt2` (wanted qwen2, qwen3, llama or mistral) is not supp"),
        ("model_type", json!("qwen3_moe"), "config.json: model_type `qwen3_moe` (wanted qwen2, qw"),
        ("num_key_value_heads", json!(3), "no multiple of num_key_value_heads 3"),
        ("sliding_window", json!(4), window),
        ("rope_scaling", json!({"rope_type": "spiral"}), "type `spiral`"),
        ("hidden_act", json!("gelu"), "hidden_act `gelu`"),
        ("eos_token_id", json!("end"), "key `eos_token_id` is no token id"),
    ];
    for (key, bad, wanted) in cases {
        let mut value = qwen2();
        value["use_sliding_window"] = json!(true);
        value["max_window_layers"] = json!(1);
        value[key] = bad;
        let message = read(&value).unwrap_err();
        assert!(message.contains(wanted), "{key}: {message}");
    }
}

#[test]
fn qwen3_has_norms_of_heads_whose_width_does_not_follow_from_the_hidden_size() {
    let mut value = qwen2();
    value["model_type"] = json!("qwen3");
    value["use_sliding_window"] = json!(false);
    let config = read(&value).unwrap();
    assert!(config.family.head_norms && !config.attention_bias && !config.has_output_bias());
    assert_eq!(config.head_dim, 128);
    value["head_dim"] = json!(16);
    value["attention_bias"] = json!(true);
    let config = read(&value).unwrap();
    assert!(config.head_dim == 16 && config.attention_bias && config.has_output_bias());
    let written = config.to_json(Kind::BFloat16);
    assert_eq!(written["architectures"], json!(["Qwen3ForCausalLM"]));
    assert_eq!((&written["head_dim"], &written["attention_bias"]), (&json!(16), &json!(true)));
    assert_eq!(read(&written).unwrap(), config);
}

#[test]
fn mistral_is_read_and_written_without_a_window() {
    let mut value = qwen2();
    value["model_type"] = json!("mistral");
    value["max_position_embeddings"] = json!(8_192);
    value["sliding_window"] = Value::Null;
    // a key that the family does not know
    value["attention_bias"] = json!(true);
    let config = read(&value).unwrap();
    assert!(!config.attention_bias && !config.has_output_bias());
    let written = config.to_json(Kind::BFloat16);
    assert!(written.as_object().unwrap().contains_key("sliding_window"));
    assert_eq!(read(&written).unwrap(), config);
    // as wide as any context
    value["sliding_window"] = json!(8_192);
    assert_eq!(read(&value).unwrap().to_json(Kind::BFloat16)["sliding_window"], 8_192);
    value["sliding_window"] = json!(4_096);
    let error = read(&value).unwrap_err();
    assert!(error.contains("sliding_window 4096") && error.contains("8192"), "{error}");
}
