//! OpenRLHF's `/get_reward`: rewards of completions whose group is put together by the barrier.
//!
//! Protocol as read in OpenRLHF 0.11.2 (`openrlhf/utils/agent.py`, `serve_rm.py`). The client
//! retries on errors and takes any number for a reward: a missing reward is therefore an error,
//! never a number.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use joust_schema::prompt::Prompt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chat_text::completion_after;
use super::per_completion::{CompletionRequest, answer, join};
use crate::cohort::barrier::Scored;
use crate::input::{Client, Input};
use crate::problem::Problem;
use crate::state::ServerState;
use crate::wire::Known;

/// Body of `/get_reward`: lists of one length, which is one in practice.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct OpenRlhf {
    /// Prompt and completion, special tokens included.
    query: Vec<String>,
    prompts: Vec<String>,
    /// Known answers: texts, numbers or nulls.
    #[serde(default)]
    #[schemars(with = "Vec<Option<Known>>")]
    labels: Vec<Value>,
}

/// Answer of `/get_reward`: lists of the length of `query`.
#[derive(Serialize, JsonSchema)]
pub(crate) struct OpenRlhfAnswer {
    /// The rewards.
    rewards: Vec<f64>,
    /// Expected win rates, in [0, 1], by which OpenRLHF filters prompts.
    scores: Vec<f64>,
    /// Numbers for the log of OpenRLHF.
    extra_logs: BTreeMap<&'static str, Vec<f64>>,
}

/// `POST /get_reward`.
pub(crate) async fn get_reward(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    Input(body): Input<OpenRlhf>,
) -> Result<Json<OpenRlhfAnswer>, Problem> {
    let n = body.query.len();
    if n == 0 || body.prompts.len() != n || (!body.labels.is_empty() && body.labels.len() != n) {
        let text = format!(
            "query, prompts and labels have {n}, {} and {} entries, wanted as many of each, at \
             least 1",
            body.prompts.len(),
            body.labels.len()
        );
        return Err(Problem::Invalid(text));
    }
    let mut ones = Vec::new();
    for (at, (query, prompt)) in body.query.iter().zip(&body.prompts).enumerate() {
        let Some(completion) = completion_after(query, prompt) else {
            let text =
                format!("query {at} does not hold its prompt, wanted the prompt and what follows");
            return Err(Problem::Invalid(text));
        };
        let label = body.labels.get(at).cloned().unwrap_or(Value::Null);
        let prompt = Prompt::Text(prompt.clone());
        ones.push(CompletionRequest { prompt, label, completion: completion.to_owned(), at });
    }
    let waiting = join(&state, &client, &headers, ones)?;
    let mut scored = Vec::new();
    for one in waiting {
        scored.push(answer(&state, one).await?);
    }
    let rewards: Vec<f64> = scored.iter().map(|one| one.reward).collect();
    // its logger makes tensors of these: numbers only, and what is not known of one is left out for
    // all
    let known = |value: fn(&Scored) -> Option<f64>| -> Option<Vec<f64>> {
        scored.iter().map(value).collect()
    };
    let logs = [
        ("rating", known(|one| one.rating)),
        ("rating_stderr", known(|one| one.rating_stderr)),
        ("rank", known(|one| one.rank.map(f64::from))),
        ("wins", known(|one| Some(f64::from(one.wins)))),
        ("losses", known(|one| Some(f64::from(one.losses)))),
    ];
    let extra_logs = logs.into_iter().filter_map(|(name, values)| Some((name, values?))).collect();
    // OpenRLHF filters by these, in [0, 1]
    let scores = known(|one| one.win_rate).unwrap_or_else(|| rewards.clone());
    Ok(Json(OpenRlhfAnswer { rewards, scores, extra_logs }))
}
