//! slime's `/remote_rm`: the reward of one completion; its group is put together by the barrier.
//!
//! Protocol as read in `slime/rollout/rm_hub`. The client retries on errors and takes any number
//! for a reward: a missing reward is therefore an error, never a number.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use joust_schema::prompt::Prompt;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::per_completion::{CompletionRequest, answer, join};
use crate::input::{Client, Input, Params};
use crate::problem::Problem;
use crate::state::ServerState;
use crate::wire::Known;

/// Body of `/remote_rm`.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Slime {
    /// The prompt.
    prompt: Prompt,
    /// The completion.
    response: String,
    /// The known answer.
    #[serde(default)]
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
    Input(body): Input<Slime>,
) -> Result<Json<Value>, Problem> {
    let Slime { prompt, response, label } = body;
    let one = CompletionRequest { prompt, label, completion: response, at: 0 };
    let waiting = join(&state, &client, &headers, vec![one])?.remove(0);
    let scored = answer(&state, waiting).await?;
    Ok(Json(match query.key {
        // the reward last: its key may be any
        Some(key) => json!({
            "win_rate": scored.win_rate,
            "rating": scored.rating,
            "rating_stderr": scored.rating_stderr,
            "rank": scored.rank,
            key: scored.reward,
        }),
        None => json!(scored.reward),
    }))
}
