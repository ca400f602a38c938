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

use super::thread::{Refused, ScorerHandle};
use super::wire::{ScoreGroupRequest, ScoreGroupResponse};

/// A group of long completions fits, a mistaken upload does not.
const MAX_BODY_BYTES: usize = 64 << 20;

/// The server's routes around a scorer.
pub fn router(scorer: ScorerHandle) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/v1/score_group", post(score_group))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(scorer)
}

async fn health(State(scorer): State<ScorerHandle>) -> Json<serde_json::Value> {
    Json(json!({
        "status": "ok",
        "judge": scorer.judge.as_ref(),
        "open_groups": scorer.n_open(),
        "queue_capacity": scorer.config.queue_capacity,
    }))
}

async fn score_group(State(scorer): State<ScorerHandle>, body: Bytes) -> Response {
    let request: ScoreGroupRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) if error.is_data() => {
            return failure(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string());
        }
        Err(error) => return failure(StatusCode::BAD_REQUEST, &format!("invalid JSON: {error}")),
    };
    let group = match request.into_group(&scorer.tournament, scorer.config.seed) {
        Ok(group) => group,
        Err(reason) => return failure(StatusCode::UNPROCESSABLE_ENTITY, &reason),
    };
    let answer = match scorer.submit(group) {
        Ok(answer) => answer,
        Err(Refused::Full) => {
            let mut response = failure(
                StatusCode::TOO_MANY_REQUESTS,
                &format!(
                    "the queue of {} groups is full; try again later",
                    scorer.config.queue_capacity
                ),
            );
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            return response;
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

fn failure(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({ "error": reason }))).into_response()
}
