//! The native protocol, `POST /v1/score_group`; and the scoring of a whole group for the protocols
//! that take one.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use joust_schema::prompt::Prompt;
use serde_json::json;

use crate::client::Client;
use crate::group::NewGroup;
use crate::heavy;
use crate::input::Input;
use crate::judged::{Judged, problem_of};
use crate::problem::Problem;
use crate::state::ServerState;
use crate::wire::{ScoreGroupRequest, ScoreGroupResponse};

/// `POST /v1/score_group`: 503 if the judge failed for all members, 422 if it refused them; the
/// body is the full answer in either case.
pub(crate) async fn score_group(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    Input(body): Input<ScoreGroupRequest>,
) -> Result<Response, Problem> {
    state.check_open()?;
    let traces = body.traces;
    let judged = score(&state, body.into_group()?, &client).await?;
    let judge = state.scorer.judge.to_string();
    Ok(heavy::work_on(judged.n_bytes(), || {
        let answer = ScoreGroupResponse::new(&judged.result, judge, traces);
        match problem_of(&judged.result) {
            Some(problem) => {
                let mut answer = json!(answer);
                answer["error"] = problem.as_error();
                problem.response_with(answer)
            }
            None => Json(answer).into_response(),
        }
    }))
}

/// Judges a group; the result may have no reward for any member.
async fn score(
    state: &ServerState,
    group: NewGroup,
    client: &Client,
) -> Result<Arc<Judged>, Problem> {
    let group = state.scorer.with_defaults(group)?;
    state.scorer.score(group, client, None).await
}

/// Judges a group of texts, for protocols in which a group without any reward is an error. While it
/// waits, the texts are in the queue only.
///
/// # Errors
/// [`Problem`], also if no member has a reward.
pub(crate) async fn score_texts(
    state: &ServerState,
    client: &Client,
    prompt: Prompt,
    completions: Vec<String>,
) -> Result<Arc<Judged>, Problem> {
    state.check_open()?;
    let group = NewGroup::new(&prompt, completions)?;
    drop(prompt);
    let judged = score(state, group, client).await?;
    match problem_of(&judged.result) {
        Some(problem) => Err(problem),
        None => Ok(judged),
    }
}
