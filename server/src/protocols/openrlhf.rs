//! OpenRLHF's `/get_reward`: rewards of single completions, whose group the barrier collects.
//!
//! Protocol as read in OpenRLHF 0.11.2 (`openrlhf/utils/agent.py`, `serve_rm.py`). The client
//! retries after errors and takes any number for a reward: a missing reward is therefore an error,
//! never a number.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use joust_schema::prompt::Prompt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::per_completion::{CompletionRequest, answers, join_cohorts};
use super::query_split::{MAX_COMPARED, completion_after, memory};
use crate::body_budget::BodyShare;
use crate::client::Client;
use crate::cohort::barrier::MemberScore;
use crate::connection_end::ConnectionEnd;
use crate::group::known_list;
use crate::heavy;
use crate::input::HeldInput;
use crate::problem::Problem;
use crate::state::ServerState;
use crate::wire::Known;

/// Body of `/get_reward`: lists of the same length, in practice 1.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct OpenRlhf {
    /// Prompt and completion, special tokens included.
    query: Vec<String>,
    prompts: Vec<String>,
    /// Known answers: texts, numbers or nulls.
    #[serde(default, deserialize_with = "known_list")]
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
    end: ConnectionEnd,
    HeldInput(body, mut share): HeldInput<OpenRlhf>,
) -> Result<Json<OpenRlhfAnswer>, Problem> {
    let requests = heavy::work_on(body.n_bytes(), || completion_requests(&body, &mut share))?;
    drop(body);
    let waiting = join_cohorts(&state, &client, &headers, &end, requests)?;
    drop(share);
    let scores = answers(&state, waiting).await?;
    Ok(Json(OpenRlhfAnswer::new(&scores)))
}

impl OpenRlhf {
    /// Size of the texts.
    fn n_bytes(&self) -> usize {
        self.query.iter().chain(&self.prompts).map(String::len).sum()
    }
}

/// The completions of a body, in order; `share` grows to the memory that this takes.
fn completion_requests(
    body: &OpenRlhf,
    share: &mut BodyShare,
) -> Result<Vec<CompletionRequest>, Problem> {
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
    let pairs = || body.query.iter().zip(&body.prompts);
    let most = pairs().map(|(query, prompt)| memory(query, prompt)).max().unwrap_or(0);
    // the requests have copies of the texts
    share.resize(share.n_bytes() + body.n_bytes() + most)?;
    let mut requests = Vec::new();
    for (idx, (query, prompt)) in pairs().enumerate() {
        let Some(completion) = completion_after(query, prompt) else {
            let mut text = format!(
                "query {idx} has neither its prompt nor the end of it, wanted the prompt and the \
                 completion after it; the query begins with {:?}, the prompt ends with {:?}",
                start_of(query),
                end_of(prompt)
            );
            if prompt.len() > MAX_COMPARED {
                let n = prompt.len();
                text += &format!("; a prompt as long as this ({n} bytes) is looked for as it is");
            }
            return Err(Problem::Invalid(text));
        };
        let label = body.labels.get(idx).cloned().unwrap_or(Value::Null);
        let (prompt, completion) = (Prompt::Text(prompt.clone()), completion.to_owned());
        requests.push(CompletionRequest { prompt, label, completion, idx });
    }
    Ok(requests)
}

/// Number of characters of a text that a problem shows.
const SHOWN: usize = 30;

fn start_of(text: &str) -> &str {
    text.char_indices().nth(SHOWN).map_or(text, |(end, _)| &text[..end])
}

fn end_of(text: &str) -> &str {
    text.char_indices().rev().nth(SHOWN - 1).map_or(text, |(start, _)| &text[start..])
}

impl OpenRlhfAnswer {
    fn new(scores: &[MemberScore]) -> Self {
        let rewards: Vec<f64> = scores.iter().map(|score| score.reward).collect();
        // OpenRLHF makes tensors of the logs: a value that one completion lacks is left out for all
        let column = |value: fn(&MemberScore) -> Option<f64>| -> Option<Vec<f64>> {
            scores.iter().map(value).collect()
        };
        let logs = [
            ("rating", column(|score| score.rating)),
            ("rating_stderr", column(|score| score.rating_stderr)),
            ("rank", column(|score| score.rank.map(f64::from))),
            ("wins", column(|score| Some(f64::from(score.wins)))),
            ("losses", column(|score| Some(f64::from(score.losses)))),
        ];
        let logs = logs.into_iter().filter_map(|(name, values)| Some((name, values?)));
        Self {
            scores: column(|score| score.win_rate).unwrap_or_else(|| rewards.clone()),
            rewards,
            extra_logs: logs.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body_budget::BodyBudget;
    use crate::client::Client;

    #[test]
    fn completions_are_split_within_the_memory_for_bodies() {
        let budget = BodyBudget::new(100_000);
        let holder = || budget.holder(&Client::default());
        let mut other = holder().share();
        other.resize(1).unwrap();
        let prompt = "2+2?".repeat(250);
        let body = |before: &str| OpenRlhf {
            query: vec![format!("{before}{prompt} 4")],
            prompts: vec![prompt.clone()],
            labels: Vec::new(),
        };
        let mut share = holder().share();
        let requests = completion_requests(&body(""), &mut share).unwrap();
        assert_eq!((&requests[0].completion[..], share.n_bytes()), ("4", 2_002));
        drop(share);
        // in another form: the characters of both texts take more than there is
        let mut share = holder().share();
        let refused = completion_requests(&body("<s>"), &mut share).map(drop);
        assert_eq!(refused, Err(Problem::TooManyBodies { limit: 100_000 }));
        drop(other);
        let requests = completion_requests(&body("<s>"), &mut share).unwrap();
        assert_eq!(requests[0].completion, "4");
    }
}
