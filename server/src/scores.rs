//! Scores as vLLM and SGLang serve them: `/score` for a query and its documents, `/classify` for
//! conversations that end in an answer (the discriminative reward models of verl and Skywork's clients).
//!
//! One query with several documents is a whole group. All else comes one completion at a time, and the
//! group is put together as for OpenRLHF.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use futures_util::future::join_all;
use joust_schema::prompt::Prompt;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::groups::score_any;
use super::input::{Client, Input};
use super::journal::unix_now;
use super::routes::{Shared, failure};
use super::singles::{One, answer, join};
use super::wire::ScoreGroupRequest;

/// What stands before an assistant's turn in the chat templates of Qwen, Llama 3, Gemma, Mistral, DeepSeek and
/// Phi.
const ASSISTANT: [&str; 6] = [
    "<|im_start|>assistant",
    "<|start_header_id|>assistant<|end_header_id|>",
    "<start_of_turn>model",
    "[/INST]",
    "<｜Assistant｜>",
    "<|assistant|>",
];

/// What may stand after an answer there.
const ENDS: [&str; 6] =
    ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "</s>", "<｜end▁of▁sentence｜>", "<|end|>"];

/// A text or several.
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

/// Body of `/score`: queries and documents, one query for all documents or one for each.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct ScoreBody {
    model: Option<String>,
    /// What was asked.
    #[serde(alias = "text_1", alias = "data_1")]
    queries: Texts,
    /// What was answered.
    #[serde(alias = "text_2", alias = "data_2", alias = "items")]
    documents: Texts,
}

pub(crate) async fn score(
    State(shared): State<Shared>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Input(body): Input<ScoreBody>,
) -> Response {
    let (queries, documents) = (body.queries.into_vec(), body.documents.into_vec());
    let scores = match (queries.len(), documents.len()) {
        (_, 0) | (0, _) => Err(refuse("queries and documents need at least one entry each")),
        (1, 2..) => whole_group(&shared, &client, &queries[0], documents).await,
        (n, m) if n == m => {
            let pairs = queries.into_iter().zip(documents).collect();
            one_by_one(&shared, &client, &headers, pairs).await
        }
        (n, m) => Err(refuse(&format!(
            "queries and documents have {n} and {m} entries, wanted one query or as many of each"
        ))),
    };
    let scores = match scores {
        Ok(scores) => scores,
        Err(response) => return *response,
    };
    let row =
        |(index, score): (usize, &f64)| json!({"index": index, "object": "score", "score": score});
    list(&shared, "score", body.model, scores.iter().enumerate().map(row).collect())
}

/// Body of `/classify`: `input` as vLLM wants it, or `text` as SGLang does.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Classify {
    model: Option<String>,
    /// Conversations with the chat template applied, the answer at their end (vLLM).
    input: Option<Texts>,
    /// The same (SGLang).
    text: Option<Texts>,
}

/// Answer of `/classify`.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum ClassifyAnswer {
    /// vLLM's list.
    List(serde_json::Map<String, Value>),
    /// SGLang's.
    Bare(Vec<Value>),
}

pub(crate) async fn classify(
    State(shared): State<Shared>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Input(body): Input<Classify>,
) -> Response {
    let (is_sglang, texts) = match (body.input, body.text) {
        (Some(texts), None) => (false, texts.into_vec()),
        (None, Some(texts)) => (true, texts.into_vec()),
        _ => return *refuse("wanted either input or text"),
    };
    let pairs: Option<Vec<(String, String)>> = texts.iter().map(|text| split(text)).collect();
    let pairs = match pairs {
        Some(pairs) if !pairs.is_empty() => pairs,
        _ => {
            let wanted = ASSISTANT.join(", ");
            return *refuse(&format!(
                "a text has no assistant's turn to judge, wanted conversations with one of: {wanted}"
            ));
        }
    };
    let scores = match one_by_one(&shared, &client, &headers, pairs).await {
        Ok(scores) => scores,
        Err(response) => return *response,
    };
    if is_sglang {
        let row = |score: &f64| json!({"embedding": [score], "meta_info": {}});
        return Json(json!(scores.iter().map(row).collect::<Vec<Value>>())).into_response();
    }
    let row = |(index, score): (usize, &f64)| json!({"index": index, "label": "reward", "probs": [score], "num_classes": 1});
    list(&shared, "classify", body.model, scores.iter().enumerate().map(row).collect())
}

/// The list that vLLM answers with.
fn list(shared: &Shared, of: &str, model: Option<String>, data: Vec<Value>) -> Response {
    let created = unix_now();
    Json(json!({
        "id": format!("{of}-{:x}", (created * 1e6) as u64),
        "object": "list",
        "created": created as u64,
        "model": model.unwrap_or_else(|| shared.scorer.judge.to_string()),
        "data": data,
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }))
    .into_response()
}

fn refuse(reason: &str) -> Box<Response> {
    Box::new(failure(StatusCode::UNPROCESSABLE_ENTITY, reason))
}

/// Scores of one query's documents. These clients take a number for each: where one has none, all have none.
async fn whole_group(
    shared: &Shared,
    client: &Client,
    query: &str,
    documents: Vec<String>,
) -> Result<Vec<f64>, Box<Response>> {
    let request = ScoreGroupRequest {
        prompt: Some(Prompt::Text(query.to_owned())),
        completions: documents.into_iter().map(Prompt::Text).collect(),
        ..ScoreGroupRequest::default()
    };
    let judged = score_any(shared, request, client).await?;
    let scores = judged.result.rewards.iter().map(|row| row.win_rate.or(row.reward));
    scores.collect::<Option<Vec<f64>>>().ok_or_else(|| {
        // who asks again gets the same answer, so that nothing says when to come again
        let reason = "the judge gave no valid vote for some of the documents";
        Box::new(failure(StatusCode::SERVICE_UNAVAILABLE, reason))
    })
}

/// Scores of completions whose groups are put together here.
async fn one_by_one(
    shared: &Shared,
    client: &Client,
    headers: &HeaderMap,
    pairs: Vec<(String, String)>,
) -> Result<Vec<f64>, Box<Response>> {
    let one = |(at, (prompt, completion))| One {
        prompt: Prompt::Text(prompt),
        label: Value::Null,
        completion,
        at,
    };
    let waiting = join(shared, client, headers, pairs.into_iter().enumerate().map(one).collect())?;
    let answers = join_all(waiting.into_iter().map(|one| answer(shared, one))).await;
    let score = |answer: Result<super::barrier::Scored, _>| {
        answer.map(|scored| scored.win_rate.unwrap_or(scored.reward))
    };
    answers.into_iter().map(score).collect()
}

/// What was asked and what was answered: before and after the last assistant's turn begins.
fn split(text: &str) -> Option<(String, String)> {
    let found = ASSISTANT.iter().filter_map(|start| Some((text.rfind(start)?, start.len())));
    let (at, length) = found.max()?;
    let mut said = text[at + length..].trim();
    while let Some(shorter) = ENDS.iter().find_map(|end| said.strip_suffix(end)) {
        said = shorter.trim_end();
    }
    let prompt = text[..at].trim();
    (!prompt.is_empty()).then(|| (prompt.to_owned(), said.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn conversations_are_split_before_their_last_answer() {
        let qwen = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n";
        let parts = |(prompt, said): (&str, &str)| Some((prompt.to_owned(), said.to_owned()));
        assert_eq!(split(qwen), parts(("<|im_start|>user\n2+2?<|im_end|>", "4")));
        let llama = "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
                     <|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|>";
        assert_eq!(split(llama).unwrap().1, "Ho");
        assert_eq!(split("<s>[INST] a [/INST] b</s>[INST] c [/INST] d</s>").unwrap().1, "d");
        assert_eq!(split("2+2? 4"), None);
        assert_eq!(split("<|im_start|>assistant\n4"), None);
    }
}
