//! Routes for operators: liveness, readiness, settings, metrics, the model's name, the OpenAPI
//! document.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use crate::dump::journal::unix_now;
use crate::input::MAX_BODY_BYTES;
use crate::problem::Problem;
use crate::state::ServerState;

/// Description of the server's routes, made from the table of operations.
pub(crate) struct ApiDocument {
    /// Path of each operation.
    pub(crate) paths: Vec<&'static str>,
    /// The OpenAPI document.
    pub(crate) openapi: Value,
}

/// `GET /health`: 503 once the judge thread has ended.
pub(crate) async fn health(State(state): State<ServerState>) -> Response {
    let scorer = &state.scorer;
    let problem = (!scorer.is_running()).then_some(Problem::JudgeStopped);
    let body = json!({
        "status": problem.as_ref().map_or("ok".to_owned(), Problem::to_string),
        "judge": scorer.judge.as_ref(),
        "open_groups": scorer.n_open(),
        "queue_capacity": scorer.config.queue_capacity,
        "open_cohorts": state.barrier.n_open(),
        "waiting_completions": state.barrier.n_waiting(),
        "group_size": scorer.config.cohorts.group_size,
    });
    match problem {
        Some(problem) => problem.response_with(body),
        None => Json(body).into_response(),
    }
}

/// `GET /ready`: 503 while the server takes no requests. A dump that cannot be written is told, and
/// is no reason to take none.
pub(crate) async fn ready(State(state): State<ServerState>) -> Response {
    let scorer = &state.scorer;
    let are_resting = |servers: &Arc<dyn joust_reward::judge::JudgeServers>| {
        servers.n_resting() == servers.n_servers()
    };
    let reason = if state.is_closing() {
        "the server stops"
    } else if !scorer.is_running() {
        "the judge has stopped"
    } else if scorer.servers.as_ref().is_some_and(are_resting) {
        "all servers of the judge rest after failures"
    } else if scorer.n_open() >= scorer.config.queue_capacity {
        "the queue is full"
    } else {
        let mut body = json!({ "ready": true });
        if let Some(problem) = scorer.dump_health.problem() {
            body["dump"] = json!(problem);
        }
        return Json(body).into_response();
    };
    let body = json!({ "ready": false, "reason": reason });
    Problem::NotReady(reason.to_owned()).response_with(body)
}

/// `GET /metrics`, in OpenMetrics text.
pub(crate) async fn metrics(State(state): State<ServerState>) -> Response {
    let ServerState { scorer, barrier, .. } = &state;
    let (n_kept, kept_bytes) = scorer.n_cached();
    let page = scorer.metrics.page([
        scorer.n_open() as u64,
        scorer.n_tokens(),
        barrier.n_waiting() as u64,
        barrier.n_open() as u64,
        n_kept as u64,
        kept_bytes as u64,
        scorer.cache.as_ref().map_or(0, |cache| cache.hits() + cache.joined()),
        scorer.cache.as_ref().map_or(0, |cache| cache.shared_tokens()),
        scorer.servers.as_ref().map_or(0, |servers| servers.n_resting() as u64),
    ]);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], page).into_response()
}

/// `GET /info`: the settings and routes.
pub(crate) async fn info(
    State(state): State<ServerState>,
    Extension(document): Extension<Arc<ApiDocument>>,
) -> Json<Value> {
    let config = &state.scorer.config;
    Json(json!({
        "program": "joust",
        "version": env!("CARGO_PKG_VERSION"),
        "judge": state.scorer.judge.as_ref(),
        "tournament": state.scorer.tournament.as_ref(),
        "group_size": config.cohorts.group_size,
        "collect_s": config.cohorts.collect.as_secs_f64(),
        "incomplete": config.cohorts.incomplete,
        "timeout_s": config.timeout.as_secs_f64(),
        "queue_capacity": config.queue_capacity,
        "max_body_bytes": MAX_BODY_BYTES,
        "routes": document.paths,
    }))
}

/// Name of the judge's model in the judge's name, which also says how it is called and with
/// which prompt.
pub(crate) fn model_name(judge: &str) -> &str {
    let model = judge.split_once(" prompt:").map_or(judge, |(model, _)| model);
    model.strip_suffix(" (http)").unwrap_or(model)
}

/// `GET /v1/models`: the judge, as OpenAI's clients list models.
pub(crate) async fn models(State(state): State<ServerState>) -> Json<Value> {
    let model = json!({
        "id": model_name(&state.scorer.judge),
        "object": "model",
        "created": unix_now() as u64,
        "owned_by": "joust",
    });
    Json(json!({"object": "list", "data": [model]}))
}

/// `GET /openapi.json`.
pub(crate) async fn openapi(Extension(document): Extension<Arc<ApiDocument>>) -> Json<Value> {
    Json(document.openapi.clone())
}
