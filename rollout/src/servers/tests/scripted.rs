//! A server whose answers a test scripts, in the words of vLLM and of SGLang; and weights that are
//! where a test says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use joust_engine::model::Decoder;
use joust_schema::ids::PolicyVersion;
use serde_json::{Value, json};

use crate::error::Error;
use crate::servers::weights::ServedWeights;

/// What a server was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Number of calls before.
    pub(super) call: usize,
    pub(super) n: usize,
    pub(super) prompt: Value,
    pub(super) seed: i64,
    pub(super) max_tokens: usize,
    pub(super) temperature: f64,
    pub(super) end_tokens: Vec<u32>,
}

/// A choice of an answer; a test changes its fields.
#[derive(Clone, Debug)]
pub(super) struct ScriptedChoice {
    pub(super) prompt: Value,
    pub(super) ids: Vec<u32>,
    pub(super) logprobs: Vec<Value>,
    pub(super) finish_reason: &'static str,
}

/// A right choice with these tokens.
pub(super) fn choice(ids: Vec<u32>, asked: &Asked) -> ScriptedChoice {
    let finish_reason = if ids.len() == asked.max_tokens { "length" } else { "stop" };
    let logprobs = vec![json!(-0.5); ids.len()];
    ScriptedChoice { prompt: asked.prompt.clone(), ids, logprobs, finish_reason }
}

/// The answer to a call: choices, or a status without a body.
pub(super) type Answer = Result<Vec<ScriptedChoice>, StatusCode>;

type Script = dyn Fn(&Asked) -> Answer + Send + Sync;

struct Shared {
    script: Box<Script>,
    asked: Mutex<Vec<Asked>>,
    label: Mutex<String>,
    n_labels: AtomicUsize,
}

/// A server on a thread of its own.
pub(super) struct ScriptedServer {
    pub(super) url: String,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl ScriptedServer {
    pub(super) fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            asked: Mutex::default(),
            label: Mutex::new(LABEL.to_owned()),
            n_labels: AtomicUsize::new(0),
        });
        let routes = Router::new()
            .route("/v1/completions", post(completions))
            .route("/generate", post(generate))
            .route("/weight_info", get(weight_info))
            .with_state(Arc::clone(&shared));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self { url, shared, runtime: Some(runtime) }
    }

    /// All calls so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub(super) fn set_label(&self, label: &str) {
        *self.shared.label.lock().unwrap() = label.to_owned();
    }

    /// Number of times that its label was asked for.
    pub(super) fn n_labels(&self) -> usize {
        self.shared.n_labels.load(Ordering::SeqCst)
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What servers with the newest weights call them.
pub(super) const LABEL: &str = "v7";

fn ask(shared: &Shared, mut asked: Asked) -> Answer {
    {
        let mut all = shared.asked.lock().unwrap();
        asked.call = all.len();
        all.push(asked.clone());
    }
    (shared.script)(&asked)
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// A body as Python writes it, NaN included.
fn written(body: &Value) -> Response {
    let text = body.to_string().replace("\"NaN\"", "NaN");
    ([("content-type", "application/json")], text).into_response()
}

async fn completions(State(shared): State<Arc<Shared>>, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["model"], "policy");
    assert_eq!((&body["logprobs"], &body["return_token_ids"]), (&json!(0), &json!(true)));
    let asked = Asked {
        call: 0,
        n: body["n"].as_u64().unwrap() as usize,
        prompt: body["prompt"].clone(),
        seed: body["seed"].as_i64().unwrap(),
        max_tokens: body["max_tokens"].as_u64().unwrap() as usize,
        temperature: body["temperature"].as_f64().unwrap(),
        end_tokens: numbers(&body["stop_token_ids"]),
    };
    let choice = |(index, choice): (usize, ScriptedChoice)| {
        json!({"index": index, "text": "not read", "token_ids": choice.ids,
               "prompt_token_ids": choice.prompt, "finish_reason": choice.finish_reason,
               "logprobs": {"token_logprobs": choice.logprobs}})
    };
    match ask(&shared, asked) {
        Ok(choices) => {
            let choices: Vec<Value> = choices.into_iter().enumerate().map(choice).collect();
            written(&json!({"choices": choices}))
        }
        Err(status) => status.into_response(),
    }
}

async fn generate(State(shared): State<Arc<Shared>>, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap();
    let prompts = body["input_ids"].as_array().unwrap();
    let params = body["sampling_params"].as_array().unwrap();
    assert_eq!((prompts.len(), &body["return_logprob"]), (params.len(), &json!(true)));
    let seed = |params: &Value| params["sampling_seed"].as_i64().unwrap();
    assert!(params.windows(2).all(|pair| seed(&pair[1]) == seed(&pair[0]) + 1));
    let asked = Asked {
        call: 0,
        n: prompts.len(),
        prompt: prompts[0].clone(),
        seed: seed(&params[0]),
        max_tokens: params[0]["max_new_tokens"].as_u64().unwrap() as usize,
        temperature: params[0]["temperature"].as_f64().unwrap(),
        end_tokens: numbers(&params[0]["stop_token_ids"]),
    };
    let label = shared.label.lock().unwrap().clone();
    let sample = |choice: ScriptedChoice| {
        let logprobs = choice.logprobs.iter().zip(&choice.ids);
        let logprobs: Vec<Value> = logprobs.map(|(it, id)| json!([it, id, null])).collect();
        json!({"output_ids": choice.ids,
               "meta_info": {"prompt_tokens": choice.prompt.as_array().unwrap().len(),
                             "finish_reason": {"type": choice.finish_reason},
                             "output_token_logprobs": logprobs, "weight_version": label}})
    };
    match ask(&shared, asked) {
        Ok(choices) => written(&choices.into_iter().map(sample).collect()),
        Err(status) => status.into_response(),
    }
}

async fn weight_info(State(shared): State<Arc<Shared>>) -> Response {
    shared.n_labels.fetch_add(1, Ordering::SeqCst);
    let label = shared.label.lock().unwrap().clone();
    written(&json!({"weight_version": label}))
}

/// What servers hold, of what a test said that they hold.
type OnCheck = dyn FnMut(&[bool]) -> Vec<bool> + Send;

/// Weights that all servers hold, unless a test says otherwise.
pub(super) struct ScriptedWeights {
    pub(super) held: Vec<bool>,
    /// Called by each check; what it returns is what the servers hold.
    pub(super) on_check: Box<OnCheck>,
}

impl ScriptedWeights {
    pub(super) fn new(n_servers: usize) -> Self {
        Self { held: vec![true; n_servers], on_check: Box::new(<[bool]>::to_vec) }
    }
}

impl ServedWeights for ScriptedWeights {
    fn publish(&mut self, _policy: &Decoder, _version: PolicyVersion) -> Result<(), Error> {
        Ok(())
    }

    fn check(&mut self) -> Result<Vec<bool>, Error> {
        Ok((self.on_check)(&self.held))
    }

    fn label(&self) -> String {
        LABEL.to_owned()
    }
}
