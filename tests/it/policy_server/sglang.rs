//! The routes of SGLang 0.5.23: samples of token ids, and weights from a folder.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use joust_engine::{Sample, SamplingParams};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answers::{Answered, answer, written};
use super::model::{SampleOrder, Sampled};
use super::served::Served;

type Shared = State<Arc<Served>>;

pub(super) fn routes() -> Router<Arc<Served>> {
    Router::new()
        .route("/generate", post(generate))
        .route("/get_model_info", get(model_info))
        .route("/update_weights_from_disk", post(update_weights_from_disk))
        .route("/pause_generation", post(pause_generation))
        .route("/continue_generation", post(continue_generation))
        .route("/flush_cache", post(flush_cache))
}

#[derive(Deserialize)]
struct GenerateBody {
    input_ids: OneOrMany<Vec<u32>>,
    sampling_params: OneOrMany<SamplingBody>,
    #[serde(default)]
    return_logprob: bool,
    /// First token of the prompt whose log-probability is wanted; -1: none.
    #[serde(default = "none")]
    logprob_start_len: i64,
}

/// A prompt, or a list of them, each with settings of its own.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

fn none() -> i64 {
    -1
}

#[derive(Clone, Deserialize)]
#[serde(default)]
struct SamplingBody {
    n: u32,
    max_new_tokens: usize,
    temperature: f64,
    top_p: f64,
    top_k: i64,
    stop: Vec<String>,
    sampling_seed: Option<i64>,
    ignore_eos: bool,
}

impl Default for SamplingBody {
    fn default() -> Self {
        let (temperature, top_p, top_k, stop) = (1.0, 1.0, -1, Vec::new());
        let (n, max_new_tokens, sampling_seed, ignore_eos) = (1, 128, None, false);
        Self { n, max_new_tokens, temperature, top_p, top_k, stop, sampling_seed, ignore_eos }
    }
}

async fn generate(State(served): Shared, Json(body): Json<GenerateBody>) -> Response {
    served.record("/generate");
    let is_list = matches!(body.input_ids, OneOrMany::Many(_));
    let (prompts, params) = match (body.input_ids, body.sampling_params) {
        (OneOrMany::One(prompt), OneOrMany::One(params)) => (vec![prompt], vec![params]),
        (OneOrMany::Many(prompts), OneOrMany::Many(params)) => (prompts, params),
        _ => return failure("as many sampling_params as prompts"),
    };
    let is_one = !is_list && params[0].n == 1;
    let wants_prompt_logprobs = body.return_logprob && body.logprob_start_len == 0;
    let mut samples: Vec<(Vec<u32>, Vec<f32>, Sample)> = Vec::new();
    for (prompt, asked) in prompts.into_iter().zip(params) {
        let params = SamplingParams {
            max_tokens: asked.max_new_tokens.max(1),
            temperature: asked.temperature,
            top_p: asked.top_p,
            top_k: asked.top_k.max(0) as usize,
            n: asked.n,
            seed: asked.sampling_seed.unwrap_or_default() as u64,
            stop: asked.stop,
            ignore_eos: asked.ignore_eos,
            ..SamplingParams::default()
        };
        let order = SampleOrder { prompt: prompt.clone(), params, wants_prompt_logprobs };
        match served.sample(order).await {
            Ok(sampled) => {
                let Sampled { samples: of_prompt, prompt_logprobs } = sampled;
                let with = |sample| (prompt.clone(), prompt_logprobs.clone(), sample);
                samples.extend(of_prompt.into_iter().map(with));
            }
            Err(reason) => return failure(&reason),
        }
    }
    let (faults, label) = (served.faults().clone(), served.label());
    let no_text = Value::Null;
    if faults.one_choice_less {
        samples.pop();
    }
    let answer = |(prompt, prompt_logprobs, sample): (Vec<u32>, Vec<f32>, Sample)| {
        let Answered { token_ids, logprobs, text, finish_reason } = answer(sample, &faults);
        let output = token_ids.iter().zip(&logprobs).map(|(id, it)| json!([it, id, no_text]));
        let output: Vec<Value> = output.collect();
        let first = prompt.first().map(|id| json!([null, id, no_text]));
        let known = prompt.iter().skip(1).zip(&prompt_logprobs);
        let known = known.map(|(id, logprob)| json!([logprob, id, no_text]));
        let input: Vec<Value> = first.into_iter().chain(known).collect();
        json!({
            "text": text,
            "output_ids": token_ids,
            "meta_info": {
                "finish_reason": {"type": finish_reason},
                "prompt_tokens": prompt.len(),
                "completion_tokens": token_ids.len(),
                "weight_version": label,
                "input_token_logprobs": wants_prompt_logprobs.then_some(&input),
                "output_token_logprobs": body.return_logprob.then_some(output),
            },
        })
    };
    samples.sort_by_key(|(.., sample)| sample.index);
    let answers: Vec<Value> = samples.into_iter().map(answer).collect();
    // one prompt's one sample is answered without a list around it
    let answer = match &answers[..] {
        [one] if is_one => one.clone(),
        _ => Value::Array(answers),
    };
    ([(header::CONTENT_TYPE, "application/json")], written(&answer)).into_response()
}

async fn model_info(State(served): Shared) -> Json<Value> {
    served.record("/get_model_info");
    let path = served.folder().display().to_string();
    Json(json!({"model_path": path, "is_generation": true, "weight_version": served.label()}))
}

async fn update_weights_from_disk(State(served): Shared, Json(body): Json<Value>) -> Response {
    served.record("/update_weights_from_disk");
    if let Some(status) = served.faults().control_status {
        return StatusCode::from_u16(status).unwrap().into_response();
    }
    if let Err(reason) = served.reload(body["model_path"].as_str().unwrap()).await {
        return failure(&reason);
    }
    if body["flush_cache"] != json!(false) {
        served.forget_prefixes().await;
    }
    if let Some(label) = body["weight_version"].as_str() {
        served.set_label(label);
    }
    Json(json!({"success": true, "message": "Succeeded to update model weights."})).into_response()
}

async fn pause_generation(State(served): Shared) -> Json<Value> {
    served.record("/pause_generation");
    served.pause().await;
    Json(json!({"message": "Generation paused successfully.", "status": "ok"}))
}

async fn continue_generation(State(served): Shared) -> Json<Value> {
    served.record("/continue_generation");
    served.resume();
    Json(json!({"message": "Generation continued successfully.", "status": "ok"}))
}

async fn flush_cache(State(served): Shared) -> &'static str {
    served.record("/flush_cache");
    served.forget_prefixes().await;
    "Cache flushed.\n"
}

fn failure(message: &str) -> Response {
    let body = json!({"success": false, "message": message, "error": {"message": message}});
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}
