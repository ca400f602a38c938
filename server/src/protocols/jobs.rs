//! Jobs: groups whose result is fetched later, for tournaments that last longer than a client
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
use serde_json::Value;

use crate::client::Client;
use crate::desk::results::GroupStage;
use crate::heavy;
use crate::input::{Input, JobId, Params};
use crate::judged::{GroupKey, problem_of};
use crate::problem::Problem;
use crate::state::ServerState;
use crate::wire::{ScoreGroupRequest, ScoreGroupResponse};
use joust_reward::arena::GroupProgress;

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
#[schemars(rename = "Job")]
pub(crate) struct JobReport {
    /// Id of the job.
    job_id: String,
    /// Status.
    status: JobStatus,
    /// Matches and votes so far, while the group is judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<GroupProgress>,
    /// The answer of `/v1/score_group`, once it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ScoreGroupResponse>,
    /// Why it failed, as in the body of a problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
}

impl JobReport {
    fn new(state: &ServerState, key: GroupKey, stage: GroupStage, traces: bool) -> Self {
        let mut job = Self {
            job_id: key.to_string(),
            status: JobStatus::Queued,
            progress: None,
            result: None,
            error: None,
        };
        match stage {
            GroupStage::Queued => {}
            GroupStage::Judging(progress) => {
                (job.status, job.progress) = (JobStatus::Running, Some(progress));
            }
            GroupStage::Over(Ok(judged)) => {
                job.error = problem_of(&judged.result).map(|problem| problem.as_error());
                job.status = if job.error.is_some() { JobStatus::Failed } else { JobStatus::Done };
                let judge = state.scorer.judge.to_string();
                job.result = Some(ScoreGroupResponse::new(&judged.result, judge, traces));
            }
            GroupStage::Over(Err(Problem::Cancelled)) => job.status = JobStatus::Cancelled,
            GroupStage::Over(Err(problem)) => {
                (job.status, job.error) = (JobStatus::Failed, Some(problem.as_error()));
            }
        }
        job
    }
}

/// Query parameters of a job's routes.
#[derive(Deserialize)]
pub(crate) struct JobQuery {
    /// Adds the judge's outputs.
    #[serde(default)]
    traces: bool,
}

/// `POST /v1/jobs`: 202 with the job, and its path in `Location`.
pub(crate) async fn accept(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    Input(body): Input<ScoreGroupRequest>,
) -> Result<Response, Problem> {
    state.check_open()?;
    let traces = body.traces;
    let group = state.scorer.with_defaults(body.into_group()?)?;
    let key = state.scorer.accept_job(group, &client).await?;
    let stage = state.scorer.stage(&client, key).unwrap_or(GroupStage::Queued);
    let job = Json(JobReport::new(&state, key, stage, traces));
    let mut response = (StatusCode::ACCEPTED, job).into_response();
    let path = HeaderValue::try_from(format!("/v1/jobs/{key}"));
    let path = path.expect("a key is hexadecimal digits. This is a bug.");
    response.headers_mut().insert(header::LOCATION, path);
    Ok(response)
}

/// `GET /v1/jobs/{job_id}`.
pub(crate) async fn show(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    JobId(id): JobId,
    Params(query): Params<JobQuery>,
) -> Result<Response, Problem> {
    let (key, stage) = find_job(&state, &client, &id)?;
    Ok(heavy::work_on(stage.n_bytes(), || {
        Json(JobReport::new(&state, key, stage, query.traces)).into_response()
    }))
}

/// `DELETE /v1/jobs/{job_id}`: cancels the group, unless other requests or jobs want it. A job that
/// is over stays as it is.
pub(crate) async fn cancel(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    JobId(id): JobId,
) -> Result<Json<JobReport>, Problem> {
    let (key, stage) = find_job(&state, &client, &id)?;
    if !matches!(stage, GroupStage::Over(_)) {
        state.scorer.cancel(key, &client).await?;
    }
    let (key, stage) = find_job(&state, &client, &id)?;
    Ok(Json(JobReport::new(&state, key, stage, false)))
}

/// `GET /v1/jobs/{job_id}/events`: server-sent events `progress`, then `done`, `failed` or
/// `cancelled`; each has the job as data.
pub(crate) async fn events(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    JobId(id): JobId,
    Params(query): Params<JobQuery>,
) -> Result<Response, Problem> {
    let (key, _) = find_job(&state, &client, &id)?;
    let stream = Sse::new(stage_events(state, client, key, query.traces));
    Ok(stream.keep_alive(KeepAlive::default()).into_response())
}

/// Events of a job: the present stage, then every further one until the group is over.
fn stage_events(
    state: ServerState,
    client: Client,
    key: GroupKey,
    traces: bool,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let stages = state.scorer.watch(key);
    let mut is_first = true;
    let next = async move |(state, mut stages): (ServerState, Option<_>)| {
        let stage = match &mut stages {
            _ if std::mem::take(&mut is_first) => state.scorer.stage(&client, key)?,
            None => return None,
            Some(stages) => {
                let stages: &mut tokio::sync::watch::Receiver<GroupStage> = stages;
                stages.changed().await.ok()?;
                stages.borrow_and_update().clone()
            }
        };
        if matches!(stage, GroupStage::Over(_)) {
            stages = None;
        }
        let event = heavy::work_on(stage.n_bytes(), || {
            let job = JobReport::new(&state, key, stage, traces);
            let name = match job.status {
                JobStatus::Queued | JobStatus::Running => "progress",
                JobStatus::Done => "done",
                JobStatus::Failed => "failed",
                JobStatus::Cancelled => "cancelled",
            };
            Event::default().event(name).json_data(job)
        });
        Some((Ok(event.expect("a job is plain data. This is a bug.")), (state, stages)))
    };
    unfold(next, (state, stages))
}

/// Stream of the items that `next` returns until it returns `None`.
fn unfold<S, T, F>(next: F, state: S) -> impl Stream<Item = T>
where
    F: AsyncFnMut(S) -> Option<(T, S)>,
{
    stream::unfold((next, state), |(mut next, state)| async move {
        let (item, state) = next(state).await?;
        Some((item, (next, state)))
    })
}

/// Key and stage of the job with this id, if it is one of the client's tenant.
///
/// # Errors
/// [`Problem::NotFound`]
fn find_job(
    state: &ServerState,
    client: &Client,
    id: &str,
) -> Result<(GroupKey, GroupStage), Problem> {
    let key: GroupKey = id.parse().map_err(Problem::NotFound)?;
    match state.scorer.stage(client, key) {
        Some(stage) => Ok((key, stage)),
        None => {
            let reason = "there is no such job; results are kept for serve.keep_s";
            Err(Problem::NotFound(reason.to_owned()))
        }
    }
}
