//! The policy server answers as the engine does, and its faults are seen.

use joust_engine::{Decoder, folder};
use serde_json::{Value, json};
use tch::{Device, Kind};

use super::{Faults, LogprobsOf, PolicyServer};
use crate::binary::root;
use crate::http::exchange;

fn ask(server: &PolicyServer, call: &str, body: &Value) -> (u16, String) {
    let address = server.url().replace("http://", "");
    let headers = [("content-type", "application/json")];
    let answer = exchange(&address, call, &headers, body.to_string().as_bytes()).unwrap();
    (answer.status, String::from_utf8(answer.body).unwrap())
}

fn answered(server: &PolicyServer, call: &str, body: &Value) -> Value {
    let (status, answer) = ask(server, call, body);
    assert_eq!(status, 200, "{call}: {answer}");
    serde_json::from_str(&answer).unwrap_or(Value::String(answer))
}

fn completion(n: u32) -> Value {
    json!({"model": "policy", "prompt": [0, 2, 319, 272, 224, 23, 26, 299, 224], "n": n, "seed": 7,
           "max_tokens": 12, "temperature": 1.0, "logprobs": 0, "prompt_logprobs": 0,
           "return_token_ids": true})
}

/// Writes random weights in the shapes of the model.
fn other_model(model: &std::path::Path, dir: &std::path::Path) {
    let files = folder::open(model).unwrap();
    let seed = joust_schema::seed::Seed::new(3);
    let other = Decoder::random(&files.config, seed, Device::Cpu, Kind::Float);
    folder::save(dir, &files.config, &other.to_weights(Kind::Float), &files.tokenizer).unwrap();
}

#[test]
fn policy_server_samples_with_the_weights_that_it_was_given_last() {
    let model = root().join("data/models/nano-policy");
    let dir = tempfile::tempdir().unwrap();
    other_model(&model, &dir.path().join("other"));
    let mut server = PolicyServer::start(&model, Faults::default());
    let first = answered(&server, "POST /v1/completions", &completion(2));
    let choices = first["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 2);
    assert_eq!(choices[0]["prompt_logprobs"].as_array().unwrap().len(), 9);
    let n_tokens = choices[0]["token_ids"].as_array().unwrap().len();
    assert_eq!(choices[0]["logprobs"]["token_logprobs"].as_array().unwrap().len(), n_tokens);

    let reload = |path: &str| {
        let path = dir.path().join(path).display().to_string();
        json!({"method": "reload_weights", "kwargs": {"weights_path": path}})
    };
    answered(&server, "POST /collective_rpc", &reload("other"));
    // the prompt is cached
    let stale = answered(&server, "POST /v1/completions", &completion(2));
    assert_eq!(stale["choices"][0]["token_ids"], first["choices"][0]["token_ids"]);
    assert_ne!(stale["choices"][0]["prompt_logprobs"], first["choices"][0]["prompt_logprobs"]);
    answered(&server, "POST /pause?mode=wait", &json!({}));
    assert_eq!(answered(&server, "GET /is_paused", &json!({})), json!({"is_paused": true}));
    answered(&server, "POST /resume", &json!({}));
    let new = answered(&server, "POST /v1/completions", &completion(2));
    assert_ne!(new["choices"][0]["token_ids"], first["choices"][0]["token_ids"]);

    answered(&server, "POST /update_weight_version", &json!({"new_version": "3"}));
    assert_eq!(answered(&server, "GET /weight_info", &json!({}))["weight_version"], "3");
    assert_eq!(ask(&server, "POST /collective_rpc", &reload("nowhere")).0, 500);
    server.restart();
    assert_eq!(answered(&server, "GET /weight_info", &json!({}))["weight_version"], "default");
    let again = answered(&server, "POST /v1/completions", &completion(2));
    assert_eq!(again["choices"], first["choices"]);
}

#[test]
fn policy_server_speaks_sglang_too() {
    let model = root().join("data/models/nano-policy");
    let server = PolicyServer::start(&model, Faults::default());
    let sampling = json!({"n": 2, "max_new_tokens": 12, "sampling_seed": 7});
    let body = json!({"input_ids": [0, 2, 319, 272, 224, 23, 26, 299, 224],
                      "sampling_params": sampling, "return_logprob": true});
    let samples = answered(&server, "POST /generate", &body);
    let choices = answered(&server, "POST /v1/completions", &completion(2));
    assert_eq!(samples[0]["output_ids"], choices["choices"][0]["token_ids"]);
    assert_eq!(samples[1]["meta_info"]["weight_version"], "default");
    let update = json!({"model_path": model, "weight_version": "4", "flush_cache": true});
    assert_eq!(answered(&server, "POST /update_weights_from_disk", &update)["success"], true);
    assert_eq!(answered(&server, "GET /get_model_info", &json!({}))["weight_version"], "4");
}

#[test]
fn policy_server_does_what_its_faults_say() {
    let model = root().join("data/models/nano-policy");
    let mut server = PolicyServer::start(&model, Faults::default());
    *server.faults() = Faults { one_choice_less: true, nan_logprobs: true, ..Faults::default() };
    let (status, answer) = ask(&server, "POST /v1/completions", &completion(2));
    assert_eq!(status, 200);
    assert!(answer.contains("[NaN,") && !answer.contains("\"index\":1"), "{answer}");
    let untempered = Faults { logprobs_of: LogprobsOf::Untempered, ..Faults::default() };
    *server.faults() = Faults::default();
    let mut body = completion(1);
    body["temperature"] = json!(0.5);
    let drawn = answered(&server, "POST /v1/completions", &body);
    *server.faults() = untempered;
    let raw = answered(&server, "POST /v1/completions", &body);
    assert_ne!(drawn["choices"][0]["logprobs"], raw["choices"][0]["logprobs"]);
    assert_eq!(drawn["choices"][0]["token_ids"], raw["choices"][0]["token_ids"]);
    *server.faults() = Faults { control_status: Some(404), ..Faults::default() };
    assert_eq!(ask(&server, "GET /weight_info", &json!({})).0, 404);
    *server.faults() = Faults { dies_after_calls: Some(1), ..Faults::default() };
    let address = server.url().replace("http://", "");
    let body = completion(1).to_string();
    let headers = [("content-type", "application/json")];
    let answer = exchange(&address, "POST /v1/completions", &headers, body.as_bytes());
    assert!(answer.is_none());
    server.restart();
    assert_eq!(ask(&server, "POST /v1/completions", &completion(1)).0, 200);
}
