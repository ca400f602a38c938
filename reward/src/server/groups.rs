//! Routes of clients that send a whole group: the native one, NeMo-Gym's `/compare` and the rerank routes of
//! vLLM, Jina and Cohere.
//!
//! Protocols as read in NVIDIA NeMo-Gym (`genrm_compare`) and vLLM (`/rerank`, `/v1/rerank`).

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use joust_schema::prompt::Prompt;
use joust_schema::tables::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use super::input::{Client, Input};
use super::responses::{self, Conversation, Output};
use super::results::Judged;
use super::routes::{Shared, failure, later, unscored};
use super::wire::{ScoreGroupRequest, ScoreGroupResponse};
use crate::arena::GroupRequest;

pub(super) async fn score_group(
    State(shared): State<Shared>,
    Extension(client): Extension<Client>,
    Input(request): Input<ScoreGroupRequest>,
) -> Response {
    let traces = request.traces;
    match score(&shared, request, &client).await {
        Ok(judged) => answer(&shared, &judged, traces),
        Err(response) => *response,
    }
}

/// The native answer; 503 where the judge failed for all members.
pub(super) fn answer(shared: &Shared, judged: &Judged, traces: bool) -> Response {
    let judge = shared.scorer.judge.to_string();
    let mut answer = json!(ScoreGroupResponse::new(&judged.result, judge, traces));
    match judged.why_all_failed() {
        Some(reason) => {
            answer["error"] = json!(reason);
            (StatusCode::SERVICE_UNAVAILABLE, Json(answer)).into_response()
        }
        None => Json(answer).into_response(),
    }
}

/// The group that a request asks for, or what its client is told instead.
pub(super) fn group(
    shared: &Shared,
    request: ScoreGroupRequest,
) -> Result<GroupRequest, Box<Response>> {
    let scorer = &shared.scorer;
    if shared.is_closing() {
        return Err(Box::new(later(StatusCode::SERVICE_UNAVAILABLE, "the server stops")));
    }
    let group = request.into_group(&scorer.tournament, scorer.config.seed);
    group.map_err(|reason| Box::new(failure(StatusCode::UNPROCESSABLE_ENTITY, &reason)))
}

/// Scores a group, or says what its client is told instead.
async fn score(
    shared: &Shared,
    request: ScoreGroupRequest,
    client: &Client,
) -> Result<Arc<Judged>, Box<Response>> {
    let group = group(shared, request)?;
    let scored = shared.scorer.score(group, &client.0, None).await;
    scored.map_err(|why| Box::new(unscored(&why)))
}

/// As [`score`], for protocols in which a group without any reward is an error.
pub(super) async fn score_any(
    shared: &Shared,
    request: ScoreGroupRequest,
    client: &Client,
) -> Result<Arc<Judged>, Box<Response>> {
    let judged = score(shared, request, client).await?;
    match judged.why_all_failed() {
        Some(reason) => Err(Box::new(later(StatusCode::SERVICE_UNAVAILABLE, &reason))),
        None => Ok(judged),
    }
}

/// Body of `/compare`.
#[derive(Deserialize)]
pub(super) struct Compare {
    conversation_history: Conversation,
    response_objs: Vec<Output>,
    /// What to judge by, as a further message.
    principle: Option<String>,
}

pub(super) async fn compare(
    State(shared): State<Shared>,
    Extension(client): Extension<Client>,
    Input(body): Input<Compare>,
) -> Response {
    let completions = body.response_objs.iter().map(|output| Prompt::Text(output.text())).collect();
    let request = ScoreGroupRequest {
        prompt: Some(responses::prompt(&body.conversation_history, body.principle.as_deref())),
        completions,
        ..ScoreGroupRequest::default()
    };
    let judged = match score_any(&shared, request, &client).await {
        Ok(judged) => judged,
        Err(response) => return *response,
    };
    let result = &judged.result;
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
pub(super) async fn rerank(
    State(shared): State<Shared>,
    Extension(client): Extension<Client>,
    Input(body): Input<Rerank>,
) -> Response {
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
    let judged = match score_any(&shared, request, &client).await {
        Ok(judged) => judged,
        Err(response) => return *response,
    };
    let result = &judged.result;
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
