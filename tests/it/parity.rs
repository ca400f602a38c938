//! The engine against transformers, recorded in tests/golden/parity.json by make_models.py.

use std::path::Path;

use joust_engine::{
    Engine, EngineConfig, Request, RequestId, SamplingParams, Tokenizer, folder, forced,
};
use joust_schema::prompt::Message;
use serde_json::Value;

use crate::binary::root;

/// Largest distance of a log-probability in f32.
const TOLERANCE: f32 = 1e-3;

fn golden() -> Value {
    let text = std::fs::read_to_string(root().join("tests/golden/parity.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn tiny_models() -> Vec<(String, Value)> {
    let models = golden()["models"].as_object().unwrap().clone();
    assert_eq!(models.len(), 3);
    models.into_iter().collect()
}

pub(crate) fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

pub(crate) fn numbers(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Checks generation and log-probabilities of a model against recorded prompts.
pub(crate) fn check_model(path: &Path, prompts: &Value) {
    let mut engine = Engine::open(path, &EngineConfig::default()).unwrap();
    let prompts = prompts.as_array().unwrap();
    let n_new = ids(&prompts[0]["greedy_token_ids"]).len();
    assert_eq!(n_new, 64);
    let params = SamplingParams {
        max_tokens: n_new,
        temperature: 0.0,
        ignore_eos: true,
        ..SamplingParams::default()
    };
    let request = |(idx, prompt): (usize, &Value)| {
        Request::new(RequestId(idx as u64), ids(&prompt["token_ids"]), params.clone())
    };
    // all prompts at once: they have different lengths
    let samples = engine.generate(prompts.iter().enumerate().map(request).collect()).unwrap();
    for (sample, prompt) in samples.iter().zip(prompts) {
        assert_eq!(sample.token_ids, ids(&prompt["greedy_token_ids"]), "{}", path.display());
        close(&sample.logprobs, &numbers(&prompt["greedy_logprobs"]));
        let text = prompt["greedy_text"].as_str().unwrap();
        assert_eq!(sample.text, text);
        let prompt_ids = ids(&prompt["token_ids"]);
        let seen = forced::logprobs(engine.model(), &prompt_ids[..1], &prompt_ids[1..]).unwrap();
        close(&seen, &numbers(&prompt["prompt_logprobs"]));
        let seen = forced::logprobs(engine.model(), &prompt_ids, &sample.token_ids).unwrap();
        close(&seen, &sample.logprobs);
    }
}

pub(crate) fn close(seen: &[f32], wanted: &[f32]) {
    assert_eq!(seen.len(), wanted.len());
    for (at, (seen, wanted)) in seen.iter().zip(wanted).enumerate() {
        assert!((seen - wanted).abs() < TOLERANCE, "position {at}: {seen} for {wanted}");
    }
}

/// Checks a tokenizer's ids and texts against recorded ones. A prompt that spells out its BOS gets no
/// second one, which transformers would add.
pub(crate) fn check_tokenizer(tokenizer: &Tokenizer, rows: &Value) {
    for row in rows.as_array().unwrap() {
        let text = row["text"].as_str().unwrap();
        let seen = tokenizer.encode(text).unwrap();
        assert_eq!(seen, ids(&row["token_ids"]), "{text:?}");
        assert_eq!(tokenizer.decode(&seen, false), row["decoded"].as_str().unwrap(), "{text:?}");
        let plain = tokenizer.decode(&seen, true);
        assert_eq!(plain, row["decoded_without_special"].as_str().unwrap(), "{text:?}");
        let as_prompt = tokenizer.encode_prompt(text).unwrap();
        let mut wanted = ids(&row["prompt_token_ids"]);
        if wanted.len() > 1 && wanted[0] == wanted[1] && Some(wanted[0]) == tokenizer.bos_id() {
            wanted.remove(0);
        }
        assert_eq!(as_prompt, wanted, "as a prompt: {text:?}");
    }
}

/// Checks rendered chats against recorded ones.
pub(crate) fn check_chats(tokenizer: &Tokenizer, rows: &Value) {
    for row in rows.as_array().unwrap() {
        let messages: Vec<Message> = serde_json::from_value(row["messages"].clone()).unwrap();
        let opening = row["add_generation_prompt"].as_bool().unwrap();
        let seen = tokenizer.render_chat(&messages, opening).unwrap();
        assert_eq!(seen, row["text"].as_str().unwrap());
    }
}

#[test]
fn tiny_models_generate_and_score_like_transformers() {
    for (name, golden) in tiny_models() {
        let path = root().join("tests/golden/models").join(&name);
        check_model(&path, &golden["prompts"]);
    }
}

#[test]
fn tiny_tokenizers_and_templates_are_those_of_transformers() {
    let mut n_chats = 0;
    for (name, golden) in tiny_models() {
        let path = root().join("tests/golden/models").join(&name);
        let tokenizer = Tokenizer::from_folder(&path).unwrap();
        check_tokenizer(&tokenizer, &golden["tokenization"]);
        check_chats(&tokenizer, &golden["chats"]);
        n_chats += golden["chats"].as_array().unwrap().len();
    }
    assert!(n_chats > 0);
}

#[test]
fn what_others_need_of_a_folder_survives_reading_and_writing() {
    let dir = tempfile::tempdir().unwrap();
    let original = root().join("tests/golden/models/tiny-qwen2");
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    std::fs::create_dir(&first).unwrap();
    for entry in std::fs::read_dir(&original).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, first.join(path.file_name().unwrap())).unwrap();
    }
    let edit = |name: &str, change: &dyn Fn(&mut Value)| {
        let text = std::fs::read_to_string(first.join(name)).unwrap();
        let mut value = serde_json::from_str(&text).unwrap();
        change(&mut value);
        std::fs::write(first.join(name), value.to_string()).unwrap();
    };
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
    let json = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(second.join(name)).unwrap()).unwrap()
    };
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
