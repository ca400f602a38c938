//! SmolLM2-135M-Instruct from its GGUF file against transformers; runs where `make smollm2` has been.

use joust_engine::folder;

use crate::binary::{not_run, root};
use crate::parity::{check_chats, check_model, check_tokenizer};

#[test]
fn smollm2_generates_and_scores_like_transformers() {
    let path = root().join(".cache/smollm2");
    if !path.join(".done").exists() {
        not_run("no SmolLM2 here; `make smollm2` fetches it");
        return;
    }
    let golden = std::fs::read_to_string(root().join("tests/golden/smollm2.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&golden).unwrap();
    let files = folder::open(&path).unwrap();
    check_tokenizer(&files.tokenizer, &golden["tokenization"]);
    check_chats(&files.tokenizer, &golden["chats"]);
    drop(files);
    check_model(&path, &golden["prompts"]);
}
