//! Recorded answers of other libraries, and checks of models and tokenizers against them. Each file
//! in `tests/golden` names the script beside it that made it.

use std::path::{Path, PathBuf};

use joust_engine::{Engine, EngineConfig, Request, RequestId, SamplingParams, Tokenizer, forced};
use joust_schema::prompt::Message;
use serde_json::Value;

use crate::binary::root;

/// Largest distance of a log-probability in f32.
const TOLERANCE: f32 = 1e-3;

/// A path below `tests/golden`.
pub(crate) fn path(name: &str) -> PathBuf {
    root().join("tests/golden").join(name)
}

/// The content of a JSON file of `tests/golden`.
pub(crate) fn read(name: &str) -> Value {
    json(&path(name))
}

/// The content of a JSON file.
pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Changes a JSON file.
pub(crate) fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut value = json(path);
    edit(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// Copies the files of a folder into another, which is made where it is missing.
pub(crate) fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Token ids of a recorded list.
pub(crate) fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Numbers of a recorded list.
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
        check_close(&sample.logprobs, &numbers(&prompt["greedy_logprobs"]));
        let text = prompt["greedy_text"].as_str().unwrap();
        assert_eq!(sample.text, text);
        let prompt_ids = ids(&prompt["token_ids"]);
        let seen = forced::logprobs(engine.model(), &prompt_ids[..1], &prompt_ids[1..]).unwrap();
        check_close(&seen, &numbers(&prompt["prompt_logprobs"]));
        let seen = forced::logprobs(engine.model(), &prompt_ids, &sample.token_ids).unwrap();
        check_close(&seen, &sample.logprobs);
    }
}

/// Asserts that log-probabilities are equal within the tolerance.
pub(crate) fn check_close(seen: &[f32], wanted: &[f32]) {
    assert_eq!(seen.len(), wanted.len());
    for (at, (seen, wanted)) in seen.iter().zip(wanted).enumerate() {
        assert!((seen - wanted).abs() < TOLERANCE, "position {at}: {seen} for {wanted}");
    }
}

/// Checks a tokenizer's ids and texts against recorded ones. A prompt that spells out its BOS
/// gets no second one, which transformers would add.
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
        let variables = row.get("variables").cloned().unwrap_or_else(|| serde_json::json!({}));
        let variables = serde_json::from_value(variables).unwrap();
        let tokenizer = tokenizer.with_template_kwargs(&variables);
        let seen = tokenizer.render_chat(&messages, opening).unwrap();
        assert_eq!(seen, row["text"].as_str().unwrap());
    }
}
