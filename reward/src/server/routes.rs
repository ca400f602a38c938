//! The routes, and what each failure looks like to a client.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, extract::DefaultBodyLimit};
use joust_schema::tables::Status;
use serde_json::json;

use super::barrier::Barrier;
use super::singles;
use super::thread::{Refused, ScorerHandle};
use super::wire::{ScoreGroupRequest, ScoreGroupResponse};

/// A group of long completions fits, a mistaken upload does not.
const MAX_BODY_BYTES: usize = 64 << 20;

/// What all routes share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) scorer: ScorerHandle,
    pub(super) barrier: Barrier,
}

/// The server's routes around a scorer. Must be called where tokio runs.
pub fn router(scorer: ScorerHandle) -> Router {
    let shared = Shared { barrier: Barrier::new(scorer.clone()), scorer };
    Router::new()
        .route("/health", get(health))
        .route("/v1/score_group", post(score_group))
        .route("/get_reward", post(singles::openrlhf))
        .route("/remote_rm", post(singles::slime))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(shared)
}

async fn health(State(shared): State<Shared>) -> Json<serde_json::Value> {
    let scorer = &shared.scorer;
    Json(json!({
        "status": "ok",
        "judge": scorer.judge.as_ref(),
        "open_groups": scorer.n_open(),
        "queue_capacity": scorer.config.queue_capacity,
        "open_cohorts": shared.barrier.n_open(),
        "waiting_completions": shared.barrier.n_waiting(),
        "group_size": scorer.config.cohorts.group_size,
    }))
}

/// Reads a JSON body: 400 for what is no JSON, 422 for what is not what was wanted.
pub(super) fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Box<Response>> {
    serde_json::from_slice(body).map_err(|error| {
        Box::new(match error.is_data() {
            true => failure(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
            false => failure(StatusCode::BAD_REQUEST, &format!("invalid JSON: {error}")),
        })
    })
}

async fn score_group(State(shared): State<Shared>, body: Bytes) -> Response {
    let scorer = &shared.scorer;
    let request: ScoreGroupRequest = match read(&body) {
        Ok(request) => request,
        Err(response) => return *response,
    };
    let group = match request.into_group(&scorer.tournament, scorer.config.seed) {
        Ok(group) => group,
        Err(reason) => return failure(StatusCode::UNPROCESSABLE_ENTITY, &reason),
    };
    let answer = match scorer.submit(group) {
        Ok(answer) => answer,
        Err(Refused::Full) => {
            let capacity = scorer.config.queue_capacity;
            let reason = format!("the queue of {capacity} groups is full; try again later");
            return later(StatusCode::TOO_MANY_REQUESTS, &reason);
        }
        Err(Refused::Stopped) => {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "the judge has stopped");
        }
    };
    let result = match tokio::time::timeout(scorer.config.timeout, answer).await {
        Err(_) => {
            let text = format!("no result within {:?}", scorer.config.timeout);
            return failure(StatusCode::GATEWAY_TIMEOUT, &text);
        }
        Ok(Err(_)) => return failure(StatusCode::SERVICE_UNAVAILABLE, "the judge has stopped"),
        Ok(Ok(Err(reason))) => return failure(StatusCode::UNPROCESSABLE_ENTITY, &reason),
        Ok(Ok(Ok(result))) => result,
    };
    let all_failed = result.rewards.iter().all(|row| row.status == Status::JudgeFailed);
    let status = if all_failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let mut response = json!(ScoreGroupResponse::new(&result, scorer.judge.to_string()));
    if all_failed {
        let reason = result.votes.iter().map(|vote| vote.text.as_str()).next_back();
        let reason = reason.unwrap_or("no votes");
        response["error"] = json!(format!("the judge gave no valid vote: {reason}"));
    }
    (status, Json(response)).into_response()
}

/// What may go better at the next try: `Retry-After` says when.
pub(super) fn later(status: StatusCode, reason: &str) -> Response {
    let mut response = failure(status, reason);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

pub(super) fn failure(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({ "error": reason }))).into_response()
}
