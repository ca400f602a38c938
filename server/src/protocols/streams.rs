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

use super::group_stream::{self, Answering, StreamEvent, StreamedGroup};
use super::ipc::{self, BatchReader, BatchWriter};
use super::lines::{LineSplitter, TooLong};
use super::table::{self, GroupSplitter, RowLabels};
use crate::body_budget::BodyShare;
use crate::client::Client;
use crate::heavy;
use crate::input::{MAX_BODY_BYTES, check_encoding, object};
use crate::judged::problem_of;
use crate::problem::Problem;
use crate::state::ServerState;
use crate::wire::{ScoreGroupRequest, ScoreGroupResponse};
use joust_reward::arena::GroupResult;

/// Content types of JSON lines; the first is that of the answer.
pub(crate) const JSON_LINES: [&str; 3] =
    ["application/x-ndjson", "application/jsonl", "application/json-lines"];

/// Content type of an Arrow stream.
pub(crate) const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

/// `POST /v1/score_groups`: the content type of the body decides the format of body and answer.
pub(crate) async fn score_groups(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    check_encoding(&headers)?;
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
    if is_lines {
        Ok(score_json_lines(state, client, body))
    } else {
        score_arrow_stream(state, client, body).await
    }
}

fn cut_off(error: &axum::Error) -> Problem {
    Problem::Malformed(format!("the body broke off: {error}"))
}

/// The next piece of a body of which `n_bytes` are kept; `share` is that of those bytes, and grows
/// by the piece.
///
/// # Errors
/// [`Problem::Malformed`] if the body breaks off; [`Problem::TooManyBodies`].
async fn next_piece(
    body: &mut BodyDataStream,
    n_bytes: usize,
    share: &mut BodyShare,
) -> Result<Option<Bytes>, Problem> {
    // the next piece may come late: what was read has gone
    share.resize(n_bytes)?;
    let Some(piece) = body.next().await else { return Ok(None) };
    let piece = piece.map_err(|error| cut_off(&error))?;
    share.resize(n_bytes + piece.len())?;
    Ok(Some(piece))
}

/// Data of a line that its answer needs beside the result.
#[derive(Clone, Copy)]
struct LineTag {
    /// Number of the line, counted from 0.
    index: u64,
    /// Whether the answer has the judge's outputs.
    traces: bool,
}

fn score_json_lines(state: ServerState, client: Client, body: BodyDataStream) -> Response {
    let judge = state.scorer.judge.to_string();
    let answer = move |tag, result| Ok(answer_line(tag, result, judge.clone()));
    let answering = Answering { answer, n_bytes: Bytes::len };
    let share = state.bodies.holder(&client).share();
    let groups = groups_of_lines(body, share);
    let events = group_stream::answers(state, client, groups, answering);
    let bytes = events.filter_map(|event| async {
        match event {
            StreamEvent::Answer(line) => Some(Ok::<_, Infallible>(line)),
            StreamEvent::End(Ok(())) => None,
            StreamEvent::End(Err(problem)) => {
                Some(Ok(as_line(&json!({"error": problem.as_error(), "status": problem.code()}))))
            }
        }
    });
    ([(header::CONTENT_TYPE, JSON_LINES[0])], Body::from_stream(bytes)).into_response()
}

fn as_line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

/// The line that answers the line of `tag`.
fn answer_line(tag: LineTag, result: Result<GroupResult, Problem>, judge: String) -> Bytes {
    let votes = result.iter().flat_map(|result| &result.votes);
    let n_bytes = votes.map(|vote| vote.text.len() + 100).sum();
    let line = || match result {
        Ok(result) => {
            let mut answer = json!(ScoreGroupResponse::new(&result, judge, tag.traces));
            answer["index"] = json!(tag.index);
            if let Some(problem) = problem_of(&result) {
                answer["error"] = problem.as_error();
                answer["status"] = json!(problem.code());
            }
            answer
        }
        Err(problem) => {
            json!({"index": tag.index, "error": problem.as_error(), "status": problem.code()})
        }
    };
    heavy::work_on(n_bytes, || as_line(&line()))
}

/// Reads groups out of a body of JSON lines.
struct LineReader {
    body: BodyDataStream,
    /// Share of the memory for bodies: the bytes that wait for the rest of their line.
    share: BodyShare,
    lines: LineSplitter,
    /// Number of the next line.
    index: u64,
    is_over: bool,
}

/// The groups of a body with one group per line. Empty lines hold no group, but are counted.
fn groups_of_lines(
    body: BodyDataStream,
    share: BodyShare,
) -> impl Stream<Item = Result<StreamedGroup<LineTag>, Problem>> {
    let lines = LineSplitter::new(MAX_BODY_BYTES);
    let reader = LineReader { body, share, lines, index: 0, is_over: false };
    stream::unfold(reader, |mut reader| async { Some((reader.next().await?, reader)) })
}

impl LineReader {
    async fn next(&mut self) -> Option<Result<StreamedGroup<LineTag>, Problem>> {
        while !self.is_over {
            let line = self.lines.next();
            let group = match line {
                Ok(Some(line)) => group_of_line(line, self.index),
                Err(TooLong) => {
                    self.is_over = true;
                    let reason = format!("the line is longer than {MAX_BODY_BYTES} bytes");
                    let tag = LineTag { index: self.index, traces: false };
                    Some(StreamedGroup { tag, group: Err(Problem::TooLarge(reason)) })
                }
                Ok(None) => {
                    match next_piece(&mut self.body, self.lines.n_bytes(), &mut self.share).await {
                        Ok(Some(piece)) => {
                            self.lines.push(&piece);
                            continue;
                        }
                        Err(problem) => {
                            self.is_over = true;
                            return Some(Err(problem));
                        }
                        Ok(None) => {
                            self.is_over = true;
                            self.lines.take_rest().and_then(|rest| group_of_line(rest, self.index))
                        }
                    }
                }
            };
            self.index += 1;
            if let Some(group) = group {
                return Some(Ok(group));
            }
        }
        None
    }
}

/// The group of a line; `None` for an empty line.
fn group_of_line(line: &[u8], index: u64) -> Option<StreamedGroup<LineTag>> {
    if line.trim_ascii().is_empty() {
        return None;
    }
    Some(heavy::work_on(line.len(), || {
        let body: Result<ScoreGroupRequest, Problem> = object(line);
        let traces = body.as_ref().is_ok_and(|body| body.traces);
        let group = body.and_then(ScoreGroupRequest::into_group);
        StreamedGroup { tag: LineTag { index, traces }, group }
    }))
}

/// The response begins once the first group is answered, so that a body that is not a table of
/// groups gets a status of its own.
async fn score_arrow_stream(
    state: ServerState,
    client: Client,
    body: BodyDataStream,
) -> Result<Response, Problem> {
    let internal = |error: arrow::error::ArrowError| Problem::Internal(error.to_string());
    let mut writer = BatchWriter::new::<Reward>().map_err(internal)?;
    let schema = writer.take_bytes();
    let answer = move |labels, result| {
        writer.write(&reward_batch(&labels, result)?).map_err(internal)?;
        Ok(writer.take_bytes())
    };
    let answering = Answering { answer, n_bytes: Bytes::len };
    let holder = state.bodies.holder(&client);
    let groups = groups_of_batches(batches(body, holder.share()), holder.share());
    let mut events = Box::pin(group_stream::answers(state, client, groups, answering));
    let first = match events.next().await {
        Some(StreamEvent::End(Err(problem))) => return Err(problem),
        first => first,
    };
    let bytes = stream::iter(first).chain(events).flat_map(|event| {
        let pieces = match event {
            StreamEvent::Answer(piece) => vec![Ok(piece)],
            StreamEvent::End(Ok(())) => vec![Ok(ipc::end())],
            StreamEvent::End(Err(problem)) => {
                let reason = problem.to_string();
                tracing::warn!(reason, "A stream of rewards breaks off.");
                vec![Ok(ipc::broken_off(&reason)), Err(std::io::Error::other(reason))]
            }
        };
        stream::iter(pieces).then(|piece| async {
            if piece.is_err() {
                // the connection ends at an error: lets the pieces before it be sent first
                tokio::task::yield_now().await;
            }
            piece
        })
    });
    let opening = stream::iter([Ok(schema)]);
    let body = Body::from_stream(opening.chain(bytes));
    Ok(([(header::CONTENT_TYPE, ARROW_STREAM)], body).into_response())
}

/// The rows that answer a group. A group that was not judged in time has rows without rewards.
///
/// # Errors
/// Any other problem of the group, which ends the stream.
pub(crate) fn reward_batch(
    labels: &RowLabels,
    result: Result<GroupResult, Problem>,
) -> Result<RecordBatch, Problem> {
    let batch = match result {
        Ok(result) => table::rewards(labels, &result),
        Err(Problem::TooLate(_)) => table::without_rewards(labels, Status::Timeout),
        Err(problem) => return Err(problem.in_group(&labels.group_id)),
    };
    batch.map_err(|error| Problem::Internal(error.to_string()))
}

/// Reads batches out of a body in Arrow's stream format.
struct BodyBatches {
    body: BodyDataStream,
    /// Share of the memory for bodies: the bytes of the batch that is read.
    share: BodyShare,
    reader: BatchReader,
    is_over: bool,
}

fn batches(
    body: BodyDataStream,
    share: BodyShare,
) -> impl Stream<Item = Result<RecordBatch, Problem>> {
    let batches =
        BodyBatches { body, share, reader: BatchReader::new(MAX_BODY_BYTES), is_over: false };
    stream::unfold(batches, |mut batches| async { Some((batches.next().await?, batches)) })
}

impl BodyBatches {
    async fn next(&mut self) -> Option<Result<RecordBatch, Problem>> {
        while !self.is_over {
            let n_bytes = self.reader.n_bytes();
            match heavy::work_on(n_bytes, || self.reader.next()).transpose() {
                Some(Ok(batch)) => return Some(Ok(batch)),
                Some(Err(problem)) => {
                    self.is_over = true;
                    return Some(Err(problem));
                }
                None => {}
            }
            match next_piece(&mut self.body, n_bytes, &mut self.share).await {
                Ok(Some(piece)) => self.reader.push(piece),
                Err(problem) => {
                    self.is_over = true;
                    return Some(Err(problem));
                }
                Ok(None) => {
                    self.is_over = true;
                    return self.reader.finish().transpose();
                }
            }
        }
        None
    }
}

/// Reads groups out of batches.
struct BatchGroups<S> {
    batches: S,
    groups: GroupSplitter,
    /// Share of the memory for bodies: the rows that wait for the rest of their group.
    share: BodyShare,
    is_over: bool,
}

/// The groups of a table that arrives in batches; `share` is that of the rows that wait for the
/// rest of their group.
pub(crate) fn groups_of_batches(
    batches: impl Stream<Item = Result<RecordBatch, Problem>> + Send,
    share: BodyShare,
) -> impl Stream<Item = Result<StreamedGroup<RowLabels>, Problem>> + Send {
    let (batches, groups) = (Box::pin(batches), GroupSplitter::new(MAX_BODY_BYTES));
    let groups = BatchGroups { batches, groups, share, is_over: false };
    stream::unfold(groups, |mut groups| async { Some((groups.next().await?, groups)) })
}

impl<S: Stream<Item = Result<RecordBatch, Problem>> + Unpin> BatchGroups<S> {
    async fn next(&mut self) -> Option<Result<StreamedGroup<RowLabels>, Problem>> {
        while !self.is_over {
            let n_bytes = self.groups.n_bytes();
            let pushed = match heavy::work_on(n_bytes, || self.groups.next()).transpose() {
                Some(group) => {
                    self.is_over = group.is_err();
                    return Some(group);
                }
                None => match self.next_batch().await {
                    Ok(Some(batch)) => self.groups.push(&batch),
                    Err(problem) => Err(problem),
                    Ok(None) => {
                        self.is_over = true;
                        return self.groups.finish().map(Ok);
                    }
                },
            };
            if let Err(problem) = pushed {
                self.is_over = true;
                return Some(Err(problem));
            }
        }
        None
    }

    /// The next batch, once the rows of those before have their share of the memory.
    async fn next_batch(&mut self) -> Result<Option<RecordBatch>, Problem> {
        self.share.resize(self.groups.kept_bytes())?;
        self.batches.next().await.transpose()
    }
}
