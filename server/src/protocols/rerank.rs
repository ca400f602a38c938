//! The rerank routes of vLLM, Jina and Cohere: documents of a query, best first.
//!
//! Protocol as read in vLLM (`/rerank`, `/v1/rerank`, `/v2/rerank`); the last is that of Cohere's
//! second client.

use axum::extract::State;
use axum::{Extension, Json};
use joust_schema::prompt::Prompt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::native::score_texts;
use super::system::model_name;
use crate::client::Client;
use crate::input::Input;
use crate::judged::JudgeTokens;
use crate::problem::Problem;
use crate::state::ServerState;

/// Body of the rerank routes.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Rerank {
    /// The query.
    query: Prompt,
    /// The documents, at least two.
    #[schemars(length(min = 2))]
    documents: Vec<Document>,
    /// Maximum number of results; 0 or none for all.
    #[serde(default)]
    top_n: Option<usize>,
    /// Any name, which is returned in the answer: the judge is the only model.
    #[serde(default)]
    model: Option<String>,
    /// False leaves the documents out of the answer.
    #[serde(default)]
    return_documents: Option<bool>,
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
    /// Tokens of the judge's prompts.
    prompt_tokens: i64,
    /// Tokens of the judge's prompts and thoughts.
    total_tokens: i64,
}

#[derive(Serialize, JsonSchema)]
struct Ranked {
    /// Index of the document.
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<RankedDocument>,
    /// Expected share of wins, in [0, 1].
    relevance_score: f64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Said")]
struct RankedDocument {
    text: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a document is neither a text nor an object with one")]
enum Document {
    Text(String),
    Object { text: String },
}

/// `POST /rerank`, `/v1/rerank` and `/v2/rerank`: judges the documents as completions of the query.
pub(crate) async fn rerank(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    Input(body): Input<Rerank>,
) -> Result<Json<RerankAnswer>, Problem> {
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
        return Err(Problem::Invalid(reason));
    }
    let judged = score_texts(&state, &client, body.query, texts).await?;
    let result = &judged.result;
    let rows = result.rewards.iter().enumerate();
    let mut scored: Vec<(usize, f64)> =
        rows.filter_map(|(idx, row)| Some((idx, row.win_rate.or(row.reward)?))).collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if let Some(most) = body.top_n.filter(|most| *most > 0) {
        scored.truncate(most);
    }
    // the texts of the request, which identical groups have in common
    let texts = &judged.group.completions;
    let with_documents = body.return_documents != Some(false);
    let results = scored.iter().map(|&(index, relevance_score)| Ranked {
        index,
        document: with_documents.then(|| RankedDocument { text: texts[index].clone() }),
        relevance_score,
    });
    let tokens = JudgeTokens::of(result);
    Ok(Json(RerankAnswer {
        id: format!("rerank-{}", result.group_id),
        model: body.model.unwrap_or_else(|| model_name(&state.scorer.judge).to_owned()),
        usage: Usage { prompt_tokens: tokens.prompt, total_tokens: tokens.total() },
        results: results.collect(),
    }))
}
