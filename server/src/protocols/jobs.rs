//! Jobs: groups whose result is asked for later, for tournaments that last longer than a client
//! waits; progress as server-sent events.
//!
//! The job id is the group key: the same group posted twice is the same job, and an accepted job
//! survives a restart.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use futures_util::stream::{self, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::native;
use crate::desk::results::Stage;
use crate::input::{Client, Input, JobId, Params};
use crate::judged::GroupKey;
use crate::problem::Problem;
use crate::state::ServerState;
use crate::wire::{ScoreGroupRequest, ScoreGroupResponse};
use joust_reward::arena::Progress;

/// Status of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobStatus {
    /// Queued for the judge.
    Queued,
    /// At the judge.
    Running,
    /// Has a result.
    Done,
    /// The judge failed for every member.
    Failed,
    /// Cancelled.
    Cancelled,
}

/// A job.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Job {
    /// Id of the job.
    job_id: String,
    /// Status.
    status: JobStatus,
    /// Matches and votes so far, while the group is judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    /// The answer of `/v1/score_group`, once it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ScoreGroupResponse>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Job {
    fn new(state: &ServerState, key: GroupKey, stage: Stage, traces: bool) -> Self {
        let mut job = Self {
            job_id: key.to_string(),
            status: JobStatus::Queued,
            progress: None,
            result: None,
            error: None,
        };
        match stage {
            Stage::Queued => {}
            Stage::Running(progress) => {
                (job.status, job.progress) = (JobStatus::Running, Some(progress));
            }
            Stage::Over(Ok(judged)) => {
                job.error = judged.result.why_all_failed();
                job.status = if job.error.is_some() { JobStatus::Failed } else { JobStatus::Done };
                let judge = state.scorer.judge.to_string();
                job.result = Some(ScoreGroupResponse::new(&judged.result, judge, traces));
            }
            Stage::Over(Err(Problem::Cancelled)) => job.status = JobStatus::Cancelled,
            Stage::Over(Err(problem)) => {
                (job.status, job.error) = (JobStatus::Failed, Some(problem.to_string()));
            }
        }
        job
    }
}

/// Parameters of a job.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Show {
    /// Adds the judge's outputs.
    #[serde(default)]
    traces: bool,
}

/// Accepts a group: 202 with the job and a `Location`.
pub(crate) async fn accept(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    Input(request): Input<ScoreGroupRequest>,
) -> Result<Response, Problem> {
    let traces = request.traces;
    let group = native::group(&state, request)?;
    let key = state.scorer.accept(group, &client.0).await?;
    let stage = state.scorer.stage(key).unwrap_or(Stage::Queued);
    let job = Json(Job::new(&state, key, stage, traces));
    let mut response = (StatusCode::ACCEPTED, job).into_response();
    let place = HeaderValue::try_from(format!("/v1/jobs/{key}"));
    response
        .headers_mut()
        .insert(header::LOCATION, place.expect("a key is plain text. This is a bug."));
    Ok(response)
}

/// Status of a job.
pub(crate) async fn show(
    State(state): State<ServerState>,
    JobId(id): JobId,
    Params(show): Params<Show>,
) -> Result<Json<Job>, Problem> {
    let (key, stage) = find(&state, &id)?;
    Ok(Json(Job::new(&state, key, stage, show.traces)))
}

/// Ends a job, unless others want the same group; one that is over stays as it is.
pub(crate) async fn cancel(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    JobId(id): JobId,
) -> Result<Json<Job>, Problem> {
    let (key, stage) = find(&state, &id)?;
    if !matches!(stage, Stage::Over(_)) {
        state.scorer.cancel(key, &client.0).await?;
    }
    let (key, stage) = find(&state, &id)?;
    Ok(Json(Job::new(&state, key, stage, false)))
}

/// A job's progress as server-sent events `progress`, then its end as `done`, `failed` or
/// `cancelled` with the job as data.
pub(crate) async fn events(
    State(state): State<ServerState>,
    JobId(id): JobId,
    Params(show): Params<Show>,
) -> Result<Response, Problem> {
    let (key, _) = find(&state, &id)?;
    let stream = Sse::new(stages(state, key, show.traces));
    Ok(stream.keep_alive(KeepAlive::default()).into_response())
}

fn stages(
    state: ServerState,
    key: GroupKey,
    traces: bool,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let stages = state.scorer.watch(key);
    let mut is_first = true;
    let next = async move |(state, mut stages): (ServerState, Option<_>)| {
        let stage = match &mut stages {
            _ if std::mem::take(&mut is_first) => state.scorer.stage(key)?,
            None => return None,
            Some(stages) => {
                let stages: &mut tokio::sync::watch::Receiver<Stage> = stages;
                stages.changed().await.ok()?;
                stages.borrow_and_update().clone()
            }
        };
        if matches!(stage, Stage::Over(_)) {
            stages = None;
        }
        let job = Job::new(&state, key, stage, traces);
        let name = match job.status {
            JobStatus::Queued | JobStatus::Running => "progress",
            JobStatus::Done => "done",
            JobStatus::Failed => "failed",
            JobStatus::Cancelled => "cancelled",
        };
        let event = Event::default().event(name).json_data(job);
        Some((Ok(event.expect("a job is plain data. This is a bug.")), (state, stages)))
    };
    unfold(next, (state, stages))
}

/// A stream of what `next` gives until it gives none.
fn unfold<S, T, F>(next: F, state: S) -> impl Stream<Item = T>
where
    F: AsyncFnMut(S) -> Option<(T, S)>,
{
    stream::unfold((next, state), |(mut next, state)| async move {
        let (item, state) = next(state).await?;
        Some((item, (next, state)))
    })
}

fn find(state: &ServerState, id: &str) -> Result<(GroupKey, Stage), Problem> {
    let key: GroupKey = id.parse().map_err(Problem::NotFound)?;
    match state.scorer.stage(key) {
        Some(stage) => Ok((key, stage)),
        None => {
            let reason = "there is no such job; results are kept for serve.keep_s";
            Err(Problem::NotFound(reason.to_owned()))
        }
    }
}
