//! The routes of vLLM 0.32: completions of token ids, and the control plane of its development
//! mode.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use joust_engine::{SamplingParams, folder};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answers::{Answered, answered, written};
use super::model::SampleOrder;
use super::served::Served;

/// The name of the model.
const MODEL: &str = "policy";

type Shared = State<Arc<Served>>;

pub(super) fn routes() -> Router<Arc<Served>> {
    Router::new()
        .route("/health", get(health))
        .route("/version", get(version))
        .route("/v1/models", get(models))
        .route("/v1/completions", post(completions))
        .route("/pause", post(pause))
        .route("/resume", post(resume))
        .route("/is_paused", get(is_paused))
        .route("/collective_rpc", post(collective_rpc))
        .route("/reset_prefix_cache", post(reset_prefix_cache))
        .route("/weight_info", get(weight_info))
        .route("/update_weight_version", post(update_weight_version))
}

async fn health() -> StatusCode {
    StatusCode::OK
}

async fn version() -> Json<Value> {
    Json(json!({"version": "0.32.0"}))
}

async fn models(State(served): Shared) -> Json<Value> {
    let own = folder::constants(served.folder()).unwrap().max_position;
    let max_model_len = served.faults().max_model_len.unwrap_or(own);
    let model = json!({"id": MODEL, "object": "model", "max_model_len": max_model_len});
    Json(json!({"object": "list", "data": [model]}))
}

#[derive(Deserialize)]
struct CompletionBody {
    model: String,
    prompt: Vec<u32>,
    #[serde(default = "one")]
    n: u32,
    seed: Option<i64>,
    max_tokens: usize,
    #[serde(default = "one")]
    temperature: f64,
    #[serde(default = "one")]
    top_p: f64,
    #[serde(default)]
    top_k: i64,
    #[serde(default)]
    stop: Vec<String>,
    #[serde(default)]
    ignore_eos: bool,
    logprobs: Option<u32>,
    prompt_logprobs: Option<u32>,
    #[serde(default)]
    return_token_ids: bool,
}

fn one<T: From<u8>>() -> T {
    T::from(1)
}

async fn completions(State(served): Shared, Json(body): Json<CompletionBody>) -> Response {
    served.record("/v1/completions");
    if body.model != MODEL {
        let message = format!("The model `{}` does not exist.", body.model);
        return failure(StatusCode::NOT_FOUND, &message);
    }
    let params = SamplingParams {
        max_tokens: body.max_tokens,
        temperature: body.temperature,
        top_p: body.top_p,
        top_k: body.top_k.max(0) as usize,
        n: body.n,
        seed: body.seed.unwrap_or_default() as u64,
        stop: body.stop.clone(),
        ignore_eos: body.ignore_eos,
        ..SamplingParams::default()
    };
    let wants_prompt_logprobs = body.prompt_logprobs.is_some();
    let order = SampleOrder { prompt: body.prompt.clone(), params, wants_prompt_logprobs };
    let sampled = match served.sample(order).await {
        Ok(sampled) => sampled,
        Err(reason) => return failure(StatusCode::BAD_REQUEST, &reason),
    };
    let faults = served.faults().clone();
    let prompt_logprobs = wants_prompt_logprobs.then(|| {
        let known = body.prompt[1..].iter().zip(&sampled.prompt_logprobs);
        let entry = |(id, logprob): (&u32, &f32)| {
            let entry = json!({"logprob": logprob, "rank": 1, "decoded_token": ""});
            Value::Object(Map::from_iter([(id.to_string(), entry)]))
        };
        std::iter::once(Value::Null).chain(known.map(entry)).collect::<Value>()
    });
    let choice = |(index, answered): (usize, Answered)| {
        let Answered { token_ids, logprobs, text, finish_reason } = answered;
        let tokens: Vec<String> = token_ids.iter().map(|id| format!("token_id:{id}")).collect();
        let logprobs = body.logprobs.map(|_| json!({"token_logprobs": logprobs, "tokens": tokens}));
        json!({
            "index": index,
            "text": text,
            "token_ids": body.return_token_ids.then_some(token_ids),
            "prompt_token_ids": body.return_token_ids.then_some(&body.prompt),
            "logprobs": logprobs,
            "prompt_logprobs": prompt_logprobs,
            "finish_reason": finish_reason,
            "stop_reason": null,
        })
    };
    let choices = answered(sampled.samples, &faults).into_iter().enumerate().map(choice);
    let choices: Vec<Value> = choices.collect();
    let answer = json!({"object": "text_completion", "model": MODEL, "choices": choices});
    ([(header::CONTENT_TYPE, "application/json")], written(&answer)).into_response()
}

/// The refusal of the control plane, if it is switched off.
fn refusal(served: &Served, call: &str) -> Option<Response> {
    served.record(call);
    let status = StatusCode::from_u16(served.faults().control_status?).unwrap();
    Some(failure(status, "Not Found"))
}

#[derive(Deserialize)]
struct PauseQuery {
    #[serde(default)]
    mode: String,
}

async fn pause(State(served): Shared, Query(query): Query<PauseQuery>) -> Response {
    if let Some(refusal) = refusal(&served, "/pause") {
        return refusal;
    }
    assert_eq!(query.mode, "wait", "this server knows no other way to pause");
    served.pause().await;
    Json(json!({"status": "paused"})).into_response()
}

async fn resume(State(served): Shared) -> Response {
    if let Some(refusal) = refusal(&served, "/resume") {
        return refusal;
    }
    served.resume();
    Json(json!({"status": "resumed"})).into_response()
}

async fn is_paused(State(served): Shared) -> Response {
    if let Some(refusal) = refusal(&served, "/is_paused") {
        return refusal;
    }
    Json(json!({"is_paused": served.is_paused()})).into_response()
}

async fn collective_rpc(State(served): Shared, Json(body): Json<Value>) -> Response {
    if let Some(refusal) = refusal(&served, "/collective_rpc") {
        return refusal;
    }
    let (method, path) = (&body["method"], &body["kwargs"]["weights_path"]);
    let (Some("reload_weights"), Some(path)) = (method.as_str(), path.as_str()) else {
        return failure(StatusCode::INTERNAL_SERVER_ERROR, "no such method");
    };
    match served.reload(path).await {
        Ok(()) => Json(json!({"results": [null]})).into_response(),
        Err(reason) => failure(StatusCode::INTERNAL_SERVER_ERROR, &reason),
    }
}

async fn reset_prefix_cache(State(served): Shared) -> Response {
    if let Some(refusal) = refusal(&served, "/reset_prefix_cache") {
        return refusal;
    }
    served.forget_prefixes().await;
    Json(json!({"success": true})).into_response()
}

async fn weight_info(State(served): Shared) -> Response {
    if let Some(refusal) = refusal(&served, "/weight_info") {
        return refusal;
    }
    Json(json!({"weight_version": served.label()})).into_response()
}

async fn update_weight_version(State(served): Shared, Json(body): Json<Value>) -> Response {
    if let Some(refusal) = refusal(&served, "/update_weight_version") {
        return refusal;
    }
    served.set_label(body["new_version"].as_str().unwrap());
    Json(json!({"success": true, "new_version": body["new_version"]})).into_response()
}

fn failure(status: StatusCode, message: &str) -> Response {
    let error = json!({"message": message, "code": status.as_u16()});
    (status, Json(json!({"error": error}))).into_response()
}
