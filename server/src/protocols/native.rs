//! The native protocol: `POST /v1/score_group`; and how every protocol scores a whole group.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde_json::json;

use crate::input::{Client, Input};
use crate::judged::{Judged, problem_of};
use crate::problem::Problem;
use crate::state::ServerState;
use crate::wire::{ScoreGroupRequest, ScoreGroupResponse};
use joust_reward::GroupRequest;

/// `POST /v1/score_group`: 503 if the judge failed for all members, 422 if it refused them; the
/// body is the full answer in either case.
pub(crate) async fn score_group(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    Input(request): Input<ScoreGroupRequest>,
) -> Result<Response, Problem> {
    let traces = request.traces;
    let judged = score(&state, request, &client).await?;
    let judge = state.scorer.judge.to_string();
    let mut answer = json!(ScoreGroupResponse::new(&judged.result, judge, traces));
    Ok(match problem_of(&judged.result) {
        Some(problem) => {
            answer["error"] = json!(problem.to_string());
            problem.response_with(answer)
        }
        None => Json(answer).into_response(),
    })
}

/// The group of a request.
///
/// # Errors
/// [`Problem::ServerStopping`]; [`Problem::Invalid`]
pub(crate) fn group(
    state: &ServerState,
    request: ScoreGroupRequest,
) -> Result<GroupRequest, Problem> {
    state.check_open()?;
    request.into_group(&state.scorer.tournament, state.scorer.config.seed)
}

/// The result of a group, also where no member has a reward.
async fn score(
    state: &ServerState,
    request: ScoreGroupRequest,
    client: &Client,
) -> Result<Arc<Judged>, Problem> {
    let group = group(state, request)?;
    state.scorer.score(group, &client.0, None).await
}

/// As [`score`], for protocols in which a group without any reward is an error.
pub(crate) async fn score_any(
    state: &ServerState,
    request: ScoreGroupRequest,
    client: &Client,
) -> Result<Arc<Judged>, Problem> {
    let judged = score(state, request, client).await?;
    match problem_of(&judged.result) {
        Some(problem) => Err(problem),
        None => Ok(judged),
    }
}
