//! SmolLM2-135M-Instruct from its GGUF file against transformers; runs after `make smollm2`.

use joust_engine::folder;

use crate::binary::{not_run, root};
use crate::golden::{self, check_chats, check_model, check_tokenizer};

#[test]
fn smollm2_generates_and_scores_like_transformers() {
    let path = root().join(".cache/smollm2");
    if !path.join(".done").exists() {
        not_run("no SmolLM2 here; `make smollm2` fetches it");
        return;
    }
    let golden = golden::read("smollm2.json");
    let files = folder::open(&path).unwrap();
    check_tokenizer(&files.tokenizer, &golden["tokenization"]);
    check_chats(&files.tokenizer, &golden["chats"]);
    drop(files);
    check_model(&path, &golden["prompts"]);
}
