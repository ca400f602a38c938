//! Scores as vLLM and SGLang serve them: `/score` for a query and its documents, `/classify` for
//! conversations that end in an answer (discriminative reward models of verl and Skywork's
//! clients).
//!
//! One query with several documents is a whole group. Otherwise each text is a single completion,
//! and the barrier collects its group.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use futures_util::future::join_all;
use joust_schema::prompt::Prompt;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::chat_text::{ASSISTANT_STARTS, split};
use super::native::score_texts;
use super::per_completion::{CompletionRequest, answer, join_cohorts};
use crate::cohort::barrier::MemberScore;
use crate::dump::journal::unix_now;
use crate::input::{Client, Input};
use crate::problem::Problem;
use crate::state::ServerState;

/// A text or a list of texts.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "wanted a text or a list of texts")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// Body of `/score`: queries and documents; one query for all documents, or one per document.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct ScoreBody {
    model: Option<String>,
    /// The prompts.
    #[serde(alias = "text_1", alias = "data_1")]
    queries: Texts,
    /// The completions.
    #[serde(alias = "text_2", alias = "data_2", alias = "items")]
    documents: Texts,
}

/// `POST /score`.
pub(crate) async fn score(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Input(body): Input<ScoreBody>,
) -> Result<Json<Value>, Problem> {
    let (queries, documents) = (body.queries.into_vec(), body.documents.into_vec());
    let scores = match (queries.len(), documents.len()) {
        (_, 0) | (0, _) => {
            return Err(invalid("queries and documents need at least one entry each"));
        }
        (1, 2..) => whole_group(&state, &client, &queries[0], documents).await?,
        (n, m) if n == m => {
            let pairs = queries.into_iter().zip(documents).collect();
            one_by_one(&state, &client, &headers, pairs).await?
        }
        (n, m) => {
            return Err(invalid(&format!(
                "queries and documents have {n} and {m} entries, wanted one query or as many of \
                 each"
            )));
        }
    };
    let row =
        |(index, score): (usize, &f64)| json!({"index": index, "object": "score", "score": score});
    Ok(list(&state, "score", body.model, scores.iter().enumerate().map(row).collect()))
}

/// Body of `/classify`: vLLM's `input` or SGLang's `text`.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Classify {
    model: Option<String>,
    /// Conversations to which the chat template was applied, each ending in an answer (vLLM).
    input: Option<Texts>,
    /// As `input` (SGLang).
    text: Option<Texts>,
}

/// Answer of `/classify`.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum ClassifyAnswer {
    /// The list of vLLM.
    List(serde_json::Map<String, Value>),
    /// The list of SGLang.
    Bare(Vec<Value>),
}

/// `POST /classify`.
pub(crate) async fn classify(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Input(body): Input<Classify>,
) -> Result<Json<Value>, Problem> {
    let (is_sglang, texts) = match (body.input, body.text) {
        (Some(texts), None) => (false, texts.into_vec()),
        (None, Some(texts)) => (true, texts.into_vec()),
        _ => return Err(invalid("wanted either input or text")),
    };
    let pairs: Option<Vec<(String, String)>> = texts.iter().map(|text| split(text)).collect();
    let pairs = match pairs {
        Some(pairs) if !pairs.is_empty() => pairs,
        _ => {
            let wanted = ASSISTANT_STARTS.join(", ");
            return Err(invalid(&format!(
                "a text has no assistant's turn to judge, wanted conversations with one of: \
                 {wanted}"
            )));
        }
    };
    let scores = one_by_one(&state, &client, &headers, pairs).await?;
    if is_sglang {
        let row = |score: &f64| json!({"embedding": [score], "meta_info": {}});
        return Ok(Json(json!(scores.iter().map(row).collect::<Vec<Value>>())));
    }
    let row = |(index, score): (usize, &f64)| {
        json!({
            "index": index,
            "label": "reward",
            "probs": [score],
            "num_classes": 1,
        })
    };
    Ok(list(&state, "classify", body.model, scores.iter().enumerate().map(row).collect()))
}

/// The answer of vLLM: a list of rows.
fn list(state: &ServerState, of: &str, model: Option<String>, data: Vec<Value>) -> Json<Value> {
    let created = unix_now();
    Json(json!({
        "id": format!("{of}-{:x}", (created * 1e6) as u64),
        "object": "list",
        "created": created as u64,
        "model": model.unwrap_or_else(|| state.scorer.judge.to_string()),
        "data": data,
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }))
}

fn invalid(reason: &str) -> Problem {
    Problem::Invalid(reason.to_owned())
}

/// Scores of the documents of one query. The protocol has no value for a missing score: if one is
/// missing, the request fails.
async fn whole_group(
    state: &ServerState,
    client: &Client,
    query: &str,
    documents: Vec<String>,
) -> Result<Vec<f64>, Problem> {
    let judged = score_texts(state, client, &Prompt::Text(query.to_owned()), documents).await?;
    let scores = judged.result.rewards.iter().map(|row| row.win_rate.or(row.reward));
    scores.collect::<Option<Vec<f64>>>().ok_or_else(|| {
        // a retry gets the same cached result, so the response has no Retry-After
        let reason = "the judge gave no valid vote for some of the documents";
        Problem::NoVotes(reason.to_owned())
    })
}

/// Scores of single completions, whose groups the barrier collects.
async fn one_by_one(
    state: &ServerState,
    client: &Client,
    headers: &HeaderMap,
    pairs: Vec<(String, String)>,
) -> Result<Vec<f64>, Problem> {
    let request = |(idx, (prompt, completion))| CompletionRequest {
        prompt: Prompt::Text(prompt),
        label: Value::Null,
        completion,
        idx,
    };
    let requests = pairs.into_iter().enumerate().map(request).collect();
    let waiting = join_cohorts(state, client, headers, requests)?;
    let answers = join_all(waiting.into_iter().map(|member| answer(state, member))).await;
    let score = |answer: Result<MemberScore, _>| {
        answer.map(|scored| scored.win_rate.unwrap_or(scored.reward))
    };
    answers.into_iter().map(score).collect()
}
