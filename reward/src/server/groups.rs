//! Routes of clients that send a whole group: the native one, NeMo-Gym's `/compare` and the rerank routes of
//! vLLM, Jina and Cohere.
//!
//! Protocols as read in NVIDIA NeMo-Gym (`genrm_compare`) and vLLM (`/rerank`, `/v1/rerank`).

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use joust_schema::prompt::Prompt;
use joust_schema::tables::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use super::responses::{self, Conversation, Output};
use super::routes::{Shared, failure, later, read};
use super::thread::Unscored;
use super::wire::{ScoreGroupRequest, ScoreGroupResponse};
use crate::arena::GroupResult;

pub(super) async fn score_group(State(shared): State<Shared>, body: Bytes) -> Response {
    let request: ScoreGroupRequest = match read(&body) {
        Ok(request) => request,
        Err(response) => return *response,
    };
    let traces = request.traces;
    let result = match score(&shared, request).await {
        Ok(result) => result,
        Err(response) => return *response,
    };
    let judge = shared.scorer.judge.to_string();
    let mut answer = json!(ScoreGroupResponse::new(&result, judge, traces));
    match why_all_failed(&result) {
        Some(reason) => {
            answer["error"] = json!(reason);
            (StatusCode::SERVICE_UNAVAILABLE, Json(answer)).into_response()
        }
        None => Json(answer).into_response(),
    }
}

/// Scores a group, or says what its client is told instead.
async fn score(shared: &Shared, request: ScoreGroupRequest) -> Result<GroupResult, Box<Response>> {
    let scorer = &shared.scorer;
    let refuse = |status: StatusCode, reason: &str| Box::new(failure(status, reason));
    if shared.is_closing() {
        return Err(Box::new(later(StatusCode::SERVICE_UNAVAILABLE, "the server stops")));
    }
    let group = request
        .into_group(&scorer.tournament, scorer.config.seed)
        .map_err(|reason| refuse(StatusCode::UNPROCESSABLE_ENTITY, &reason))?;
    scorer.score(group).await.map_err(|why| match why {
        Unscored::Full(reason) => {
            Box::new(later(StatusCode::TOO_MANY_REQUESTS, &format!("{reason}; try again later")))
        }
        Unscored::Stopped => refuse(StatusCode::SERVICE_UNAVAILABLE, "the judge has stopped"),
        Unscored::TooLate(reason) => refuse(StatusCode::GATEWAY_TIMEOUT, &reason),
        Unscored::Bad(reason) => refuse(StatusCode::UNPROCESSABLE_ENTITY, &reason),
    })
}

/// As [`score`], for protocols in which a group without any reward is an error.
async fn score_any(
    shared: &Shared,
    request: ScoreGroupRequest,
) -> Result<GroupResult, Box<Response>> {
    let result = score(shared, request).await?;
    match why_all_failed(&result) {
        Some(reason) => Err(Box::new(later(StatusCode::SERVICE_UNAVAILABLE, &reason))),
        None => Ok(result),
    }
}

/// Why no member has a reward, where the judge failed for all.
pub(super) fn why_all_failed(result: &GroupResult) -> Option<String> {
    let all_failed = result.rewards.iter().all(|row| row.status == Status::JudgeFailed);
    let reason = result.votes.iter().map(|vote| vote.text.as_str()).next_back();
    all_failed.then(|| format!("the judge gave no valid vote: {}", reason.unwrap_or("no votes")))
}

/// Body of `/compare`.
#[derive(Deserialize)]
pub(super) struct Compare {
    conversation_history: Conversation,
    response_objs: Vec<Output>,
    /// What to judge by, as a further message.
    principle: Option<String>,
}

pub(super) async fn compare(State(shared): State<Shared>, body: Bytes) -> Response {
    let body: Compare = match read(&body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let completions = body.response_objs.iter().map(|output| Prompt::Text(output.text())).collect();
    let request = ScoreGroupRequest {
        prompt: Some(responses::prompt(&body.conversation_history, body.principle.as_deref())),
        completions,
        ..ScoreGroupRequest::default()
    };
    let result = match score_any(&shared, request).await {
        Ok(result) => result,
        Err(response) => return *response,
    };
    let comparison = |row: &joust_schema::tables::Match| {
        let (a, b) = (f64::from(row.votes_a), f64::from(row.votes_b));
        // 1 where all votes are for the first, 6 where all are for the second; 3.5 where they are even
        let share = if a + b > 0.0 { a / (a + b) } else { 0.5 };
        json!({
            "response_i": row.member_a,
            "response_j": row.member_b,
            "judge_idx": 0,
            "score_1": a,
            "score_2": b,
            "ranking": 1.0 + 5.0 * (1.0 - share),
        })
    };
    let scores: Vec<f64> = result.rewards.iter().filter_map(|row| row.reward).collect();
    let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    let squares = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>();
    let rewards: Vec<Option<f64>> = result.rewards.iter().map(|row| row.reward).collect();
    let statuses: Vec<Status> = result.rewards.iter().map(|row| row.status).collect();
    Json(json!({
        "rewards": rewards,
        "statuses": statuses,
        "comparison_results": result.matches.iter().map(comparison).collect::<Vec<Value>>(),
        "metrics": {
            "mean_individual_score": mean,
            "std_individual_score": (squares / scores.len().max(1) as f64).sqrt(),
        },
    }))
    .into_response()
}

/// Body of the rerank routes.
#[derive(Deserialize)]
pub(super) struct Rerank {
    query: Prompt,
    documents: Vec<Document>,
    /// Most results; 0 and none mean all.
    #[serde(default)]
    top_n: Option<usize>,
    #[serde(default)]
    model: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    Text(String),
    Object { text: String },
}

/// The documents are completions of the query, best first. One without a reward is no result.
pub(super) async fn rerank(State(shared): State<Shared>, body: Bytes) -> Response {
    let body: Rerank = match read(&body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let texts: Vec<String> = body
        .documents
        .into_iter()
        .map(|document| match document {
            Document::Text(text) | Document::Object { text } => text,
        })
        .collect();
    if texts.len() < 2 {
        let reason =
            format!("documents has {} entries, wanted at least two to compare", texts.len());
        return failure(StatusCode::UNPROCESSABLE_ENTITY, &reason);
    }
    let request = ScoreGroupRequest {
        prompt: Some(body.query),
        completions: texts.iter().cloned().map(Prompt::Text).collect(),
        ..ScoreGroupRequest::default()
    };
    let result = match score_any(&shared, request).await {
        Ok(result) => result,
        Err(response) => return *response,
    };
    let rows = result.rewards.iter().enumerate();
    let mut scored: Vec<(usize, f64)> =
        rows.filter_map(|(at, row)| Some((at, row.win_rate.or(row.reward)?))).collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if let Some(most) = body.top_n.filter(|most| *most > 0) {
        scored.truncate(most);
    }
    let results: Vec<Value> = scored
        .iter()
        .map(|&(at, score)| {
            json!({"index": at, "document": {"text": texts[at]}, "relevance_score": score})
        })
        .collect();
    let tokens =
        result.votes.iter().map(|vote| i64::from(vote.prompt_tokens + vote.completion_tokens));
    Json(json!({
        "id": format!("rerank-{}", result.group_id),
        "model": body.model.unwrap_or_else(|| shared.scorer.judge.to_string()),
        "usage": {"total_tokens": tokens.sum::<i64>()},
        "results": results,
    }))
    .into_response()
}
