//! `joust bench train`: every part of a step is measured.

use serde_json::{Value, json};

use crate::binary::succeed;

#[test]
fn bench_train_measures_every_part_of_a_step() {
    let model = ["bench", "train", "--model", "data/models/nano-policy", "--device", "cpu"];
    let size = ["--prompts", "2", "--completions", "3", "--prompt-tokens", "9", "--steps", "1"];
    let options = ["--completion-tokens", "7", "--reference", "--checkpoint-activations"];
    let line = succeed(&[&model[..], &size, &options, &["--json"]].concat());
    let figures: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(figures["checkpoint_activations"], json!(true), "{line}");
    let parts = ["sampling_s", "reference_s", "forward_s", "backward_s", "optimizer_s"];
    for key in parts.iter().chain(&["training_tokens_per_s", "sampling_tokens_per_s"]) {
        assert!(figures[key].as_f64() > Some(0.0), "{key}: {line}");
    }
    let text = succeed(&[&model[..], &size].concat());
    for part in ["sampling", "forward", "backward", "optimiser", "tokens per second", "memory"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("reference"), "{text}");
}
