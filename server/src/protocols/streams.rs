//! `POST /v1/score_groups`: many groups in one request, read while the client sends them and
//! answered as they are judged, as JSON lines or as an Arrow stream.

use std::convert::Infallible;

use arrow::array::RecordBatch;
use axum::Extension;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, Stream, StreamExt as _};
use joust_schema::tables::{Reward, Status};
use serde_json::{Value, json};

use super::ipc::{self, Reader, Writer};
use super::lines::{Lines, TooLong};
use super::table::{self, Groups, Labels};
use super::turns::{self, Answering, Ask, StreamEvent};
use crate::input::{Client, MAX_BODY_BYTES, object};
use crate::judged::problem_of;
use crate::problem::Problem;
use crate::state::ServerState;
use crate::wire::{ScoreGroupRequest, ScoreGroupResponse};
use joust_reward::arena::GroupResult;

/// Names of JSON lines; the first is that of the answer.
pub(crate) const JSON_LINES: [&str; 3] =
    ["application/x-ndjson", "application/jsonl", "application/json-lines"];

/// Name of an Arrow stream.
pub(crate) const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

pub(crate) async fn score_groups(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let is_lines = JSON_LINES.contains(&&kind[..]);
    if !is_lines && kind != ARROW_STREAM {
        let reason =
            format!("content-type is `{kind}`, wanted {} or {ARROW_STREAM}", JSON_LINES.join(", "));
        return Err(Problem::UnsupportedType(reason));
    }
    state.check_open()?;
    let body = body.into_data_stream();
    if is_lines { Ok(json_lines(state, client, body)) } else { arrow(state, client, body).await }
}

fn cut_off(error: &axum::Error) -> Problem {
    Problem::Malformed(format!("the body broke off: {error}"))
}

/// A line's number, and whether its answer holds what the judge said.
#[derive(Clone, Copy)]
struct Line {
    index: u64,
    traces: bool,
}

fn json_lines(state: ServerState, client: Client, body: BodyDataStream) -> Response {
    let judge = state.scorer.judge.to_string();
    let answer = move |line, result| Ok(answered(line, result, judge.clone()));
    let answering = Answering { answer, n_bytes: Bytes::len };
    let events = turns::answers(state, client, lines(body), answering);
    let bytes = events.filter_map(|event| async {
        match event {
            StreamEvent::Answer(line) => Some(Ok::<_, Infallible>(line)),
            StreamEvent::End(Ok(())) => None,
            StreamEvent::End(Err(why)) => {
                Some(Ok(as_line(&json!({"error": why.to_string(), "status": why.code()}))))
            }
        }
    });
    ([(header::CONTENT_TYPE, JSON_LINES[0])], Body::from_stream(bytes)).into_response()
}

fn as_line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

/// The line that answers a line.
fn answered(line: Line, result: Result<GroupResult, Problem>, judge: String) -> Bytes {
    as_line(&match result {
        Ok(result) => {
            let mut answer = json!(ScoreGroupResponse::new(&result, judge, line.traces));
            answer["index"] = json!(line.index);
            if let Some(problem) = problem_of(&result) {
                answer["error"] = json!(problem.to_string());
                answer["status"] = json!(problem.code());
            }
            answer
        }
        Err(problem) => {
            json!({"index": line.index, "error": problem.to_string(), "status": problem.code()})
        }
    })
}

/// Lines that are being read.
struct LineSource {
    body: BodyDataStream,
    lines: Lines,
    index: u64,
    is_over: bool,
}

/// The groups of a body, a line a group. Empty lines are none, but counted.
fn lines(body: BodyDataStream) -> impl Stream<Item = Result<Ask<Line>, Problem>> {
    let source = LineSource { body, lines: Lines::new(MAX_BODY_BYTES), index: 0, is_over: false };
    stream::unfold(source, |mut source| async { Some((source.next().await?, source)) })
}

impl LineSource {
    async fn next(&mut self) -> Option<Result<Ask<Line>, Problem>> {
        while !self.is_over {
            let line = self.lines.next();
            let ask = match line {
                Ok(Some(line)) => parsed(line, self.index),
                Err(TooLong) => {
                    self.is_over = true;
                    let reason = format!("the line is longer than {MAX_BODY_BYTES} bytes");
                    let why = Problem::TooLarge(reason);
                    let tag = Line { index: self.index, traces: false };
                    Some(Ask { tag, request: Err(why) })
                }
                Ok(None) => match self.body.next().await {
                    Some(Ok(piece)) => {
                        self.lines.push(&piece);
                        continue;
                    }
                    Some(Err(error)) => {
                        self.is_over = true;
                        return Some(Err(cut_off(&error)));
                    }
                    None => {
                        self.is_over = true;
                        self.lines.rest().and_then(|rest| parsed(rest, self.index))
                    }
                },
            };
            self.index += 1;
            if let Some(ask) = ask {
                return Some(Ok(ask));
            }
        }
        None
    }
}

/// A line's group; none where the line is empty.
fn parsed(line: &[u8], index: u64) -> Option<Ask<Line>> {
    if line.trim_ascii().is_empty() {
        return None;
    }
    let request: Result<ScoreGroupRequest, Problem> = object(line);
    let traces = request.as_ref().is_ok_and(|request| request.traces);
    Some(Ask { tag: Line { index, traces }, request })
}

/// The answer waits for the first group, so that a body that is no table of groups gets a status of
/// its own.
async fn arrow(
    state: ServerState,
    client: Client,
    body: BodyDataStream,
) -> Result<Response, Problem> {
    let broken = |error: arrow::error::ArrowError| Problem::Internal(error.to_string());
    let mut writer = Writer::new::<Reward>().map_err(broken)?;
    let schema = writer.take();
    let answer = move |labels, result| {
        writer.write(&rewards(&labels, result)?).map_err(broken)?;
        Ok(writer.take())
    };
    let answering = Answering { answer, n_bytes: Bytes::len };
    let mut events = Box::pin(turns::answers(state, client, asks(batches(body)), answering));
    let first = match events.next().await {
        Some(StreamEvent::End(Err(why))) => return Err(why),
        first => first,
    };
    let bytes = stream::iter(first).chain(events).flat_map(|event| {
        let pieces = match event {
            StreamEvent::Answer(piece) => vec![Ok(piece)],
            StreamEvent::End(Ok(())) => vec![Ok(ipc::end())],
            StreamEvent::End(Err(why)) => {
                let reason = why.to_string();
                tracing::warn!(reason, "A stream of rewards breaks off.");
                vec![Ok(ipc::broken_off(&reason)), Err(std::io::Error::other(reason))]
            }
        };
        stream::iter(pieces).then(|piece| async {
            if piece.is_err() {
                // what was written before goes out first
                tokio::task::yield_now().await;
            }
            piece
        })
    });
    let opening = stream::iter([Ok(schema)]);
    let body = Body::from_stream(opening.chain(bytes));
    Ok(([(header::CONTENT_TYPE, ARROW_STREAM)], body).into_response())
}

/// The rows of a group. What the judge did not do in time has no reward; other failures end the
/// stream.
pub(crate) fn rewards(
    labels: &Labels,
    result: Result<GroupResult, Problem>,
) -> Result<RecordBatch, Problem> {
    let batch = match result {
        Ok(result) => table::rewards(labels, &result),
        Err(Problem::TooLate(_)) => table::without_rewards(labels, Status::Timeout),
        Err(problem) => return Err(problem.in_group(&labels.group_id)),
    };
    batch.map_err(|error| Problem::Internal(error.to_string()))
}

/// Batches that are being read out of a body.
struct BatchSource {
    body: BodyDataStream,
    reader: Reader,
    is_over: bool,
}

fn batches(body: BodyDataStream) -> impl Stream<Item = Result<RecordBatch, Problem>> {
    let source = BatchSource { body, reader: Reader::new(MAX_BODY_BYTES), is_over: false };
    stream::unfold(source, |mut source| async { Some((source.next().await?, source)) })
}

impl BatchSource {
    async fn next(&mut self) -> Option<Result<RecordBatch, Problem>> {
        while !self.is_over {
            match self.reader.next().transpose() {
                Some(Ok(batch)) => return Some(Ok(batch)),
                Some(Err(why)) => {
                    self.is_over = true;
                    return Some(Err(why));
                }
                None => {}
            }
            match self.body.next().await {
                Some(Ok(piece)) => self.reader.push(piece),
                Some(Err(error)) => {
                    self.is_over = true;
                    return Some(Err(cut_off(&error)));
                }
                None => {
                    self.is_over = true;
                    return self.reader.finish().transpose();
                }
            }
        }
        None
    }
}

/// Groups that are being read out of batches.
struct GroupSource<S> {
    batches: S,
    groups: Groups,
    is_over: bool,
}

/// The groups of a table that comes batch by batch.
pub(crate) fn asks(
    batches: impl Stream<Item = Result<RecordBatch, Problem>> + Send,
) -> impl Stream<Item = Result<Ask<Labels>, Problem>> + Send {
    let (batches, groups) = (Box::pin(batches), Groups::new(MAX_BODY_BYTES));
    let source = GroupSource { batches, groups, is_over: false };
    stream::unfold(source, |mut source| async {
        let next = source.next().await?;
        let ask = next.map(|(tag, request)| Ask { tag, request: Ok(request) });
        Some((ask, source))
    })
}

impl<S: Stream<Item = Result<RecordBatch, Problem>> + Unpin> GroupSource<S> {
    async fn next(&mut self) -> Option<Result<(Labels, ScoreGroupRequest), Problem>> {
        while !self.is_over {
            let pushed = match self.groups.next().transpose() {
                Some(group) => {
                    self.is_over = group.is_err();
                    return Some(group);
                }
                None => match self.batches.next().await {
                    Some(Ok(batch)) => self.groups.push(&batch),
                    Some(Err(why)) => Err(why),
                    None => {
                        self.is_over = true;
                        return self.groups.finish().map(Ok);
                    }
                },
            };
            if let Err(why) = pushed {
                self.is_over = true;
                return Some(Err(why));
            }
        }
        None
    }
}
