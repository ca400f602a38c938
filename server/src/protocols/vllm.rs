//! Scores as vLLM and SGLang serve them: `/score` for a query and its documents, `/classify` for
//! conversations that end in an answer (discriminative reward models of verl and Skywork's
//! clients).
//!
//! One query with several documents is a whole group. Otherwise each text is a single completion,
//! and the barrier collects its group.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use joust_schema::control_tokens::answer_starts;
use joust_schema::prompt::{Completion, Message, Prompt};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::chat_text::splits;
use super::native::score_texts;
use super::per_completion::{CompletionRequest, answers, is_awaited, join_cohorts};
use super::system::model_name;
use crate::client::Client;
use crate::connection_end::ConnectionEnd;
use crate::dump::journal::unix_now;
use crate::input::Input;
use crate::judged::JudgeTokens;
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
    /// Any name, which is returned in the answer: the judge is the only model.
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
    end: ConnectionEnd,
    Input(body): Input<ScoreBody>,
) -> Result<Json<Value>, Problem> {
    let (mut queries, documents) = (body.queries.into_vec(), body.documents.into_vec());
    let (scores, tokens) = match (queries.len(), documents.len()) {
        (_, 0) | (0, _) => {
            return Err(invalid("queries and documents need at least one entry each"));
        }
        (1, 2..) => whole_group(&state, &client, queries.remove(0), documents).await?,
        (n, m) if n == m => {
            let pairs = queries.into_iter().map(Prompt::Text).zip(documents).collect();
            one_by_one(&state, &client, &headers, &end, pairs).await?
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
    let rows = scores.iter().enumerate().map(row).collect();
    Ok(list(&state, "score", body.model, rows, tokens))
}

/// Body of `/classify`: vLLM's `input` or `messages`, or SGLang's `text`.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Classify {
    /// Any name, which is returned in the answer: the judge is the only model.
    model: Option<String>,
    /// One conversation that ends with a message of the assistant (vLLM).
    messages: Option<Vec<Message>>,
    /// Conversations to which the chat template was applied, each ending in an answer (vLLM).
    /// Where a completion names the start of an assistant's turn itself, the split is the one
    /// whose prompt has a group that is collected, or else the last; `messages` need no split.
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
    end: ConnectionEnd,
    Input(body): Input<Classify>,
) -> Result<Json<Value>, Problem> {
    let is_awaited =
        |prompt: &Prompt, said: &str| is_awaited(&state, &client, &headers, prompt, said);
    let (is_sglang, pairs) = match (body.input, body.text, body.messages) {
        (Some(texts), None, None) => (false, pairs_of_texts(texts, is_awaited)?),
        (None, Some(texts), None) => (true, pairs_of_texts(texts, is_awaited)?),
        (None, None, Some(messages)) => (false, vec![pair_of_messages(messages)?]),
        _ => return Err(invalid("wanted one of input, text and messages")),
    };
    let (scores, tokens) = one_by_one(&state, &client, &headers, &end, pairs).await?;
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
    let rows = scores.iter().enumerate().map(row).collect();
    Ok(list(&state, "classify", body.model, rows, tokens))
}

/// Prompts and completions of texts to which a chat template was applied. A completion may name the
/// start of an assistant's turn itself: of several splits, one whose group is awaited is the right
/// one.
fn pairs_of_texts(
    texts: Texts,
    is_awaited: impl Fn(&Prompt, &str) -> bool,
) -> Result<Vec<(Prompt, String)>, Problem> {
    let pair = |text: &String| {
        let parts =
            |(prompt, said): (&str, &str)| (Prompt::Text(prompt.to_owned()), said.to_owned());
        let last = parts(splits(text).next()?);
        let mut all = splits(text).map(parts);
        let awaited = match splits(text).nth(1) {
            Some(_) => all.find(|(prompt, said)| is_awaited(prompt, said)),
            None => None,
        };
        Some(awaited.unwrap_or(last))
    };
    match texts.into_vec().iter().map(pair).collect::<Option<Vec<_>>>() {
        Some(pairs) if !pairs.is_empty() => Ok(pairs),
        _ => {
            let wanted = answer_starts().collect::<Vec<_>>().join(", ");
            Err(invalid(&format!(
                "a text has no assistant's turn to judge, wanted conversations with one of: \
                 {wanted}"
            )))
        }
    }
}

/// Prompt and completion of a conversation.
fn pair_of_messages(mut messages: Vec<Message>) -> Result<(Prompt, String), Problem> {
    match messages.pop() {
        Some(last) if last.role == "assistant" => {
            let said = Completion::try_from(Prompt::Messages(vec![last])).map_err(invalid)?;
            Ok((Prompt::Messages(messages), said.0))
        }
        _ => Err(invalid("messages do not end with a message of the assistant, which is judged")),
    }
}

/// The answer of vLLM: a list of rows.
fn list(
    state: &ServerState,
    of: &str,
    model: Option<String>,
    data: Vec<Value>,
    tokens: JudgeTokens,
) -> Json<Value> {
    let created = unix_now();
    Json(json!({
        "id": format!("{of}-{:x}", (created * 1e6) as u64),
        "object": "list",
        "created": created as u64,
        "model": model.unwrap_or_else(|| model_name(&state.scorer.judge).to_owned()),
        "data": data,
        "usage": {
            "prompt_tokens": tokens.prompt,
            "completion_tokens": tokens.completion,
            "total_tokens": tokens.total(),
        },
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
    query: String,
    documents: Vec<String>,
) -> Result<(Vec<f64>, JudgeTokens), Problem> {
    let judged = score_texts(state, client, Prompt::Text(query), documents).await?;
    let scores = judged.result.rewards.iter().map(|row| row.win_rate.or(row.reward));
    let tokens = JudgeTokens::of(&judged.result);
    let scores = scores.collect::<Option<Vec<f64>>>().ok_or_else(|| {
        // a retry gets the same cached result, so the response has no Retry-After
        let reason = "the judge gave no valid vote for some of the documents";
        Problem::NoVotes(reason.to_owned())
    })?;
    Ok((scores, tokens))
}

/// Scores of single completions, whose groups the barrier collects.
async fn one_by_one(
    state: &ServerState,
    client: &Client,
    headers: &HeaderMap,
    end: &ConnectionEnd,
    pairs: Vec<(Prompt, String)>,
) -> Result<(Vec<f64>, JudgeTokens), Problem> {
    let request = |(idx, (prompt, completion))| CompletionRequest {
        prompt,
        label: Value::Null,
        completion,
        idx,
    };
    let requests = pairs.into_iter().enumerate().map(request).collect();
    let waiting = join_cohorts(state, client, headers, end, requests)?;
    let scored = answers(state, waiting).await?;
    let scores = scored.iter().map(|scored| scored.win_rate.unwrap_or(scored.reward)).collect();
    Ok((scores, scored.iter().map(|scored| scored.tokens).sum()))
}
