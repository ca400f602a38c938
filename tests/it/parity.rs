//! Models, tokenizers and model folders against transformers, recorded in
//! `tests/golden/parity.json` by `make_models.py`.

use joust_engine::{Tokenizer, folder};
use serde_json::Value;
use tch::{Device, Kind};

use crate::golden::{self, check_chats, check_model, check_tokenizer, copy_files, edit_json};

fn tiny_models() -> Vec<(String, Value)> {
    let models = golden::read("parity.json")["models"].as_object().unwrap().clone();
    assert_eq!(models.len(), 6);
    models.into_iter().collect()
}

#[test]
fn models_of_each_family_generate_and_score_like_transformers() {
    for (name, golden) in tiny_models() {
        let path = golden::path("models").join(&name);
        check_model(&path, &golden["prompts"]);
    }
}

#[test]
fn written_models_of_each_family_generate_and_score_like_transformers() {
    for (name, golden) in tiny_models() {
        let dir = tempfile::tempdir().unwrap();
        let files = folder::open(&golden::path("models").join(&name)).unwrap();
        let weights = files.decoder(Device::Cpu, Kind::Float).unwrap().to_weights(Kind::Float);
        folder::save(dir.path(), &files.config, &weights, &files.tokenizer).unwrap();
        check_model(dir.path(), &golden["prompts"]);
    }
}

#[test]
fn tokenizers_and_templates_are_those_of_transformers() {
    let mut n_chats = 0;
    for (name, golden) in tiny_models() {
        let path = golden::path("models").join(&name);
        let tokenizer = Tokenizer::from_folder(&path).unwrap();
        check_tokenizer(&tokenizer, &golden["tokenization"]);
        check_chats(&tokenizer, &golden["chats"]);
        n_chats += golden["chats"].as_array().unwrap().len();
    }
    assert!(n_chats > 0);
}

#[test]
fn model_folder_keeps_what_other_programs_read_when_it_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    copy_files(&golden::path("models/tiny-qwen2"), &first);
    let edit = |name: &str, change: &dyn Fn(&mut Value)| edit_json(&first.join(name), change);
    edit("config.json", &|config| {
        config["sliding_window"] = 4096.into();
        config["use_sliding_window"] = false.into();
        config["pad_token_id"] = 1.into();
    });
    edit("generation_config.json", &|config| config["repetition_penalty"] = 1.1.into());
    // limits of a data loader, which must not cut prompts
    edit("tokenizer.json", &|tokenizer| {
        tokenizer["truncation"] = serde_json::json!({
            "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0
        });
    });
    let files = folder::open(&first).unwrap();
    assert!(files.tokenizer.encode("one two three four five six seven").unwrap().len() > 4);
    let weights = files.weights.read_all().unwrap();
    folder::save(&second, &files.config, &weights, &files.tokenizer).unwrap();
    let json = |name: &str| golden::json(&second.join(name));
    assert_eq!(json("config.json")["sliding_window"], 4096);
    assert_eq!(json("config.json")["pad_token_id"], 1);
    assert_eq!(json("generation_config.json")["repetition_penalty"], 1.1);
    let again = folder::open(&second).unwrap();
    assert_eq!(again.config.kept, files.config.kept);
    let again = again.weights.read_all().unwrap();
    for (name, tensor) in &weights {
        assert!(tensor.equal(&again[name]), "{name}");
    }
}
