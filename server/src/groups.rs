//! Routes of clients that send a whole group: the native one, NeMo-Gym's `/compare` and the rerank routes of
//! vLLM, Jina and Cohere.
//!
//! Protocols as read in NVIDIA NeMo-Gym (`genrm_compare`) and vLLM (`/rerank`, `/v1/rerank`).

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use joust_schema::ids::Member;
use joust_schema::prompt::Prompt;
use joust_schema::tables::Status;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::input::{Client, Input};
use super::responses::{self, Conversation, Output};
use super::results::Judged;
use super::routes::{Shared, failure, later, unscored};
use super::wire::{ScoreGroupRequest, ScoreGroupResponse};
use joust_reward::arena::{GroupRequest, GroupResult};

pub(crate) async fn score_group(
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

/// The status of a group for which there is no reward: whether another try may do better.
pub(crate) fn status_without_rewards(result: &GroupResult) -> StatusCode {
    match result.is_refused {
        true => StatusCode::UNPROCESSABLE_ENTITY,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// An answer without rewards, which says when to come again where that may help.
fn without_rewards(status: StatusCode, answer: Value) -> Response {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            (status, [(header::RETRY_AFTER, "1")], Json(answer)).into_response()
        }
        _ => (status, Json(answer)).into_response(),
    }
}

/// The native answer; 503 where the judge failed for all members, 422 where it refused them.
pub(crate) fn answer(shared: &Shared, judged: &Judged, traces: bool) -> Response {
    let judge = shared.scorer.judge.to_string();
    let mut answer = json!(ScoreGroupResponse::new(&judged.result, judge, traces));
    match judged.result.why_all_failed() {
        Some(reason) => {
            answer["error"] = json!(reason);
            without_rewards(status_without_rewards(&judged.result), answer)
        }
        None => Json(answer).into_response(),
    }
}

/// The group that a request asks for, or what its client is told instead.
pub(crate) fn group(
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
pub(crate) async fn score_any(
    shared: &Shared,
    request: ScoreGroupRequest,
    client: &Client,
) -> Result<Arc<Judged>, Box<Response>> {
    let judged = score(shared, request, client).await?;
    match judged.result.why_all_failed() {
        Some(reason) => {
            let status = status_without_rewards(&judged.result);
            Err(Box::new(without_rewards(status, json!({ "error": reason }))))
        }
        None => Ok(judged),
    }
}

/// Body of `/compare`.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Compare {
    /// What was asked.
    conversation_history: Conversation,
    /// What was answered, at least one.
    #[schemars(length(min = 1))]
    response_objs: Vec<Output>,
    /// What to judge by, as a further message.
    principle: Option<String>,
}

pub(crate) async fn compare(
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
        let (score_1, score_2) = (f64::from(row.votes_a), f64::from(row.votes_b));
        // 1 where all votes are for the first, 6 where all are for the second; 3.5 where they are even
        let share = if score_1 + score_2 > 0.0 { score_1 / (score_1 + score_2) } else { 0.5 };
        Comparison {
            response_i: row.member_a,
            response_j: row.member_b,
            judge_idx: 0,
            score_1,
            score_2,
            ranking: 1.0 + 5.0 * (1.0 - share),
        }
    };
    let scores: Vec<f64> = result.rewards.iter().filter_map(|row| row.reward).collect();
    let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
    let squares = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>();
    Json(CompareAnswer {
        rewards: result.rewards.iter().map(|row| row.reward).collect(),
        statuses: result.rewards.iter().map(|row| row.status).collect(),
        comparison_results: result.matches.iter().map(comparison).collect(),
        metrics: CompareMetrics {
            mean_individual_score: mean,
            std_individual_score: (squares / scores.len().max(1) as f64).sqrt(),
        },
    })
    .into_response()
}

/// Answer of `/compare`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CompareAnswer {
    /// One a response; null where the judge gave no valid vote.
    rewards: Vec<Option<f64>>,
    /// Why.
    statuses: Vec<Status>,
    comparison_results: Vec<Comparison>,
    metrics: CompareMetrics,
}

/// One match.
#[derive(Serialize, JsonSchema)]
struct Comparison {
    response_i: Member,
    response_j: Member,
    judge_idx: u32,
    /// Votes for the first.
    score_1: f64,
    /// Votes for the second.
    score_2: f64,
    /// 1 where all votes are for the first, 6 where all are for the second.
    ranking: f64,
}

#[derive(Serialize, JsonSchema)]
struct CompareMetrics {
    mean_individual_score: f64,
    std_individual_score: f64,
}

/// Body of the rerank routes.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Rerank {
    /// What was asked.
    query: Prompt,
    /// What was answered, at least two.
    #[schemars(length(min = 2))]
    documents: Vec<Document>,
    /// Most results; 0 and none mean all.
    #[serde(default)]
    top_n: Option<usize>,
    /// Comes back with the answer.
    #[serde(default)]
    model: Option<String>,
}

/// Answer of the rerank routes.
#[derive(Serialize, JsonSchema)]
pub(crate) struct RerankAnswer {
    id: String,
    model: String,
    usage: Usage,
    /// Best first; documents without a reward are left out.
    results: Vec<Ranked>,
}

#[derive(Serialize, JsonSchema)]
struct Usage {
    /// Tokens of the judge's prompts and thoughts.
    total_tokens: i64,
}

#[derive(Serialize, JsonSchema)]
struct Ranked {
    /// Its place among the documents.
    index: usize,
    document: Said,
    /// Expected share of wins, in [0, 1].
    relevance_score: f64,
}

#[derive(Serialize, JsonSchema)]
struct Said {
    text: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a document is neither a text nor an object with one")]
enum Document {
    Text(String),
    Object { text: String },
}

/// The documents are completions of the query, best first. One without a reward is no result.
pub(crate) async fn rerank(
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
    let results = scored.iter().map(|&(index, relevance_score)| Ranked {
        index,
        document: Said { text: texts[index].clone() },
        relevance_score,
    });
    let tokens =
        result.votes.iter().map(|vote| i64::from(vote.prompt_tokens + vote.completion_tokens));
    Json(RerankAnswer {
        id: format!("rerank-{}", result.group_id),
        model: body.model.unwrap_or_else(|| shared.scorer.judge.to_string()),
        usage: Usage { total_tokens: tokens.sum() },
        results: results.collect(),
    })
    .into_response()
}
