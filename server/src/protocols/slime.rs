//! slime's `/remote_rm`: the reward of one completion, whose group the barrier collects.
//!
//! Protocol as read in `slime/rollout/rm_hub`. The client retries after errors and takes any number
//! for a reward: a missing reward is therefore an error, never a number.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use joust_schema::prompt::{Completion, Prompt};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::per_completion::{CompletionRequest, answers, join_cohorts};
use crate::client::Client;
use crate::connection_end::ConnectionEnd;
use crate::group::known;
use crate::input::{Input, Params};
use crate::problem::Problem;
use crate::state::ServerState;
use crate::wire::Known;

/// Body of `/remote_rm`.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Slime {
    /// The prompt.
    prompt: Prompt,
    /// The completion.
    #[schemars(with = "Prompt")]
    response: Completion,
    /// The known answer.
    #[serde(default, deserialize_with = "known")]
    #[schemars(with = "Option<Known>")]
    label: Value,
}

/// Answer of `/remote_rm`.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum SlimeAnswer {
    /// The reward.
    Reward(f64),
    /// With `?key=`: the reward under that key, with win rate, rating, its standard error and rank.
    Known(Map<String, Value>),
}

/// Parameters of `/remote_rm`.
#[derive(Deserialize)]
pub(crate) struct SlimeQuery {
    /// Answers with an object that holds the reward under this key (slime's `--reward-key`).
    key: Option<String>,
}

/// `POST /remote_rm`.
pub(crate) async fn remote_rm(
    State(state): State<ServerState>,
    Params(query): Params<SlimeQuery>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    end: ConnectionEnd,
    Input(body): Input<Slime>,
) -> Result<Json<Value>, Problem> {
    let Slime { prompt, response, label } = body;
    let request = CompletionRequest { prompt, label, completion: response.0, idx: 0 };
    let waiting = join_cohorts(&state, &client, &headers, &end, vec![request])?;
    let score = answers(&state, waiting).await?.remove(0);
    Ok(Json(match query.key {
        // the reward comes last: `key` may be the name of another field
        Some(key) => json!({
            "win_rate": score.win_rate,
            "rating": score.rating,
            "rating_stderr": score.rating_stderr,
            "rank": score.rank,
            key: score.reward,
        }),
        None => json!(score.reward),
    }))
}
