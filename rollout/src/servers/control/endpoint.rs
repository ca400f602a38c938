//! One server as its routes for weights and for checks of them show it: what is asked and answered,
//! by the kind of server.
//!
//! It does not know which answers are right, nor what follows from a failure.

use std::time::Duration;

use joust_engine::SamplingParams;
use joust_fleet::{RequestError, ServerClient};
use serde_json::{Value, json};

use super::fault::ServerFault;
use super::read::{self, SampledText};
use super::sink::WeightsFolder;
use crate::config::SamplerKind;

/// Maximum time of a question about the server.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);

/// Number of times that a server is told to read weights.
const RELOADS: usize = 2;

/// Begin of the label of weights that a server has begun to read.
const UNFINISHED: &str = "unfinished-";

/// A server's routes beside those that sample groups.
pub(super) struct Endpoint {
    client: ServerClient,
    kind: SamplerKind,
    /// Maximum time of a call: a server reads its weights from a disk in it.
    timeout: Duration,
    /// What the server calls the model.
    model: String,
}

/// Why a server has not taken weights.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum UpdateError {
    /// Nothing was changed: nobody answered, or the server took its weights back.
    Unchanged(String),
    /// It has no routes for it.
    NoControl(String),
    /// It failed on the way: what it holds is not known.
    Broken(String),
}

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ServerFacts {
    pub(super) model: String,
    pub(super) max_context: Option<usize>,
}

impl Endpoint {
    pub(super) fn new(client: ServerClient, kind: SamplerKind, timeout: Duration) -> Self {
        Self { client, kind, timeout, model: String::new() }
    }

    /// Base address.
    pub(super) fn url(&self) -> &str {
        self.client.base()
    }

    /// What the server calls the model, once it was asked.
    pub(super) fn model(&self) -> &str {
        &self.model
    }

    fn is_vllm(&self) -> bool {
        self.kind == SamplerKind::Vllm
    }

    /// Asks for the model of this name, or the first one, and remembers its name.
    ///
    /// # Errors
    /// [`RequestError`]; a server without the model is an `Ok` with the fault.
    pub(super) async fn look(
        &mut self,
        wanted: &str,
    ) -> Result<Result<ServerFacts, ServerFault>, RequestError> {
        let models = self.get("v1/models").await?;
        let models = models["data"].as_array().cloned().unwrap_or_default();
        let id = |model: &Value| model["id"].as_str().unwrap_or_default().to_owned();
        let found = models.iter().find(|model| wanted.is_empty() || id(model) == wanted);
        let Some(found) = found else {
            let seen: Vec<String> = models.iter().map(|model| format!("{:?}", id(model))).collect();
            let seen = if seen.is_empty() { "no model".to_owned() } else { seen.join(", ") };
            let (server, wanted) = (self.url().to_owned(), wanted.to_owned());
            return Ok(Err(ServerFault::UnknownModel { server, seen, wanted }));
        };
        self.model = id(found);
        let max_context = found["max_model_len"].as_u64().map(|max| max as usize);
        Ok(Ok(ServerFacts { model: self.model.clone(), max_context }))
    }

    /// What the server calls its weights.
    ///
    /// # Errors
    /// [`RequestError`]: `NotFound`, `NoRoute` or `Rejected` where it has no such route.
    pub(super) async fn label(&self) -> Result<String, RequestError> {
        let path = if self.is_vllm() { "weight_info" } else { "get_model_info" };
        let info = self.get(path).await?;
        let label = info["weight_version"].as_str().map(str::to_owned);
        let url = self.url();
        label.ok_or_else(|| {
            RequestError::Failed(format!("{url}/{path}: the answer has no weight_version"), None)
        })
    }

    /// Has the server read weights and call them by their label. A server that fails on the way is
    /// left as it is: paused, where it can be.
    ///
    /// # Errors
    /// [`UpdateError`]
    pub(super) async fn update(&self, weights: &WeightsFolder) -> Result<(), UpdateError> {
        match self.is_vllm() {
            true => self.update_vllm(weights).await,
            false => self.update_sglang(weights).await,
        }
    }

    async fn update_vllm(&self, weights: &WeightsFolder) -> Result<(), UpdateError> {
        // calls that are under way end with the weights that they began with
        let mut paused = self.post("pause?mode=wait", &json!({})).await;
        if let Err(RequestError::Gone(..)) = paused {
            // a connection from before a restart breaks once
            paused = self.post("pause?mode=wait", &json!({})).await;
        }
        paused.map_err(before_change)?;
        // a server that fails on the way is known by this name until it is restarted
        let unfinished = json!({"new_version": format!("{UNFINISHED}{}", weights.label)});
        self.post("update_weight_version", &unfinished).await.map_err(broken)?;
        let reload = json!({
            "method": "reload_weights",
            "kwargs": {"weights_path": weights.on_server},
        });
        self.twice("collective_rpc", &reload, |_| Ok(())).await?;
        let name = json!({"new_version": weights.label});
        self.post("update_weight_version", &name).await.map_err(broken)?;
        // a reload forgets no prefix
        self.twice("reset_prefix_cache", &json!({}), |answer| match answer["success"] {
            Value::Bool(false) => Err("the cache of prefixes cannot be emptied".to_owned()),
            _ => Ok(()),
        })
        .await?;
        self.post("resume", &json!({})).await.map_err(broken)?;
        Ok(())
    }

    async fn update_sglang(&self, weights: &WeightsFolder) -> Result<(), UpdateError> {
        let update = json!({
            "model_path": weights.on_server,
            "weight_version": weights.label,
            "flush_cache": true,
            "abort_all_requests": false,
        });
        let path = "update_weights_from_disk";
        let is_done = |answer: &Value| match answer["success"] {
            Value::Bool(false) => Err(answer["message"].to_string()),
            _ => Ok(()),
        };
        // the call changes all or nothing until it answers
        match self.post(path, &update).await {
            Err(error @ RequestError::Gone(..)) if self.label().await.is_err() => {
                Err(UpdateError::Unchanged(error.to_string()))
            }
            Err(error) if is_no_control(&error) => Err(UpdateError::NoControl(error.to_string())),
            Ok(answer) if is_done(&answer).is_ok() => Ok(()),
            _ => self.once(path, &update, &is_done).await.map_err(|error| match error {
                // it goes back to the weights that it had
                UpdateError::Broken(reason) => UpdateError::Unchanged(reason),
                error => error,
            }),
        }
    }

    /// Posts, and once more if that fails.
    async fn twice(
        &self,
        path: &str,
        body: &Value,
        is_done: impl Fn(&Value) -> Result<(), String>,
    ) -> Result<(), UpdateError> {
        let mut result = Ok(());
        for _ in 0..RELOADS {
            result = self.once(path, body, &is_done).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn once(
        &self,
        path: &str,
        body: &Value,
        is_done: &impl Fn(&Value) -> Result<(), String>,
    ) -> Result<(), UpdateError> {
        let answer = self.post(path, body).await.map_err(broken)?;
        is_done(&answer)
            .map_err(|reason| UpdateError::Broken(format!("{}/{path}: {reason}", self.url())))
    }

    /// The server's log-probability of each token of a text but the first.
    ///
    /// # Errors
    /// [`RequestError`]: `Failed` for an answer without them.
    pub(super) async fn text_logprobs(&self, text: &[u32]) -> Result<Vec<f32>, RequestError> {
        let (path, body) = match self.is_vllm() {
            true => {
                let mut body = self.completion(text, 1);
                body["prompt_logprobs"] = json!(0);
                ("v1/completions", body)
            }
            false => {
                let sampling = json!({"max_new_tokens": 1, "temperature": 1.0, "ignore_eos": true});
                let body = json!({
                    "input_ids": text,
                    "sampling_params": sampling,
                    "return_logprob": true,
                    "logprob_start_len": 0,
                });
                ("generate", body)
            }
        };
        let answer = self.post(path, &body).await?;
        let read = match self.is_vllm() {
            true => read::vllm_text(&answer, text),
            false => read::sglang_text(&answer, text),
        };
        read.ok_or_else(|| self.unread(path, "log-probabilities of the prompt's tokens"))
    }

    /// Samples behind a prompt, past tokens that end a text.
    ///
    /// # Errors
    /// [`RequestError`]: `Failed` for an answer without tokens or log-probabilities.
    pub(super) async fn sample(
        &self,
        prompt: &[u32],
        n_tokens: usize,
        params: &SamplingParams,
    ) -> Result<SampledText, RequestError> {
        let top_k = if params.top_k == 0 { -1 } else { params.top_k as i64 };
        let (path, body) = match self.is_vllm() {
            true => {
                let mut body = self.completion(prompt, n_tokens);
                body["temperature"] = json!(params.temperature);
                body["top_p"] = json!(params.top_p);
                body["top_k"] = json!(top_k);
                ("v1/completions", body)
            }
            false => {
                let sampling = json!({
                    "n": 1,
                    "max_new_tokens": n_tokens,
                    "temperature": params.temperature,
                    "top_p": params.top_p,
                    "top_k": top_k,
                    "ignore_eos": true,
                });
                let body = json!({
                    "input_ids": prompt,
                    "sampling_params": sampling,
                    "return_logprob": true,
                });
                ("generate", body)
            }
        };
        let answer = self.post(path, &body).await?;
        let read = match self.is_vllm() {
            true => read::vllm_sample(&answer),
            false => read::sglang_sample(&answer),
        };
        let sampled = read.filter(|sampled| {
            !sampled.token_ids.is_empty() && sampled.token_ids.len() == sampled.logprobs.len()
        });
        sampled.ok_or_else(|| self.unread(path, "tokens with their log-probabilities"))
    }

    /// Body of a completion with settings that leave nothing to the server's defaults.
    fn completion(&self, prompt: &[u32], n_tokens: usize) -> Value {
        json!({
            "model": self.model,
            "prompt": prompt,
            "max_tokens": n_tokens,
            "seed": 1,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "ignore_eos": true,
            "logprobs": 0,
            "return_token_ids": true,
        })
    }

    fn unread(&self, path: &str, what: &str) -> RequestError {
        RequestError::Failed(format!("{}/{path}: the answer has no {what}", self.url()), None)
    }

    async fn get(&self, path: &str) -> Result<Value, RequestError> {
        let url = format!("{}/{path}", self.url());
        match self.client.get(&url, LOOK_TIMEOUT).await {
            // a connection from before a restart breaks once
            Err(RequestError::Gone(..)) => self.client.get(&url, LOOK_TIMEOUT).await,
            answer => answer,
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, RequestError> {
        let body = body.to_string().into_bytes();
        self.client.post(&format!("{}/{path}", self.url()), body, self.timeout).await
    }
}

/// Whether a failure says that the server lacks routes for weights.
pub(super) fn is_no_control(error: &RequestError) -> bool {
    matches!(
        error,
        RequestError::NotFound(_) | RequestError::NoRoute(_) | RequestError::Rejected(_)
    )
}

/// A failure before anything was changed.
fn before_change(error: RequestError) -> UpdateError {
    match error {
        error if is_no_control(&error) => UpdateError::NoControl(error.to_string()),
        error @ RequestError::Gone(..) => UpdateError::Unchanged(error.to_string()),
        error => UpdateError::Broken(error.to_string()),
    }
}

fn broken(error: RequestError) -> UpdateError {
    UpdateError::Broken(error.to_string())
}
