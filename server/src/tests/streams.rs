//! `/v1/score_groups`: bodies and answers that are sent in pieces.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::ipc::writer::StreamWriter;
use axum::body::Bytes;
use futures_util::stream::{self, StreamExt as _};
use joust_schema::ipc;
use joust_schema::table::{TABLE_KEY, Table as _};
use joust_schema::tables::{Reward, Status};
use tokio::sync::mpsc;

use super::fixture::*;
use crate::input::MAX_BODY_BYTES;

const LINES: &str = "application/x-ndjson";
const ARROW: &str = "application/vnd.apache.arrow.stream";

async fn stream_in(app: &Router, kind: &str, body: Body) -> Response<Body> {
    let request = Request::post("/v1/score_groups").header("content-type", kind);
    app.clone().oneshot(request.body(body).unwrap()).await.unwrap()
}

/// A body whose pieces are sent through a channel, as by a slow client.
fn slow_body() -> (mpsc::UnboundedSender<String>, Body) {
    let (send, receive) = mpsc::unbounded_channel::<String>();
    let pieces = stream::unfold(receive, |mut receive| async {
        Some((Ok::<_, Infallible>(receive.recv().await?), receive))
    });
    (send, Body::from_stream(pieces))
}

fn group_line(id: &str) -> String {
    let mut line = group();
    line["group_id"] = json!(id);
    format!("{line}\n")
}

async fn lines_of(response: Response<Body>) -> Vec<Value> {
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["index"].as_u64());
    lines
}

#[tokio::test]
async fn score_groups_answers_each_line_as_a_request_of_its_own() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let bad = r#"{"prompt": "", "completions": ["a"]}"#;
    let mut traced = group();
    traced["traces"] = json!(true);
    let body = format!("{}\n\r\n{{\n{bad}\r\n{traced}", group());
    for kind in [LINES, "application/jsonl", "Application/JSON-Lines; charset=utf-8"] {
        // pieces of seven bytes
        let pieces: Vec<_> = body.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
        let pieces = stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
        let response = stream_in(&app, kind, Body::from_stream(pieces)).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], LINES);
        let lines = lines_of(response).await;
        assert_eq!(lines.len(), 4);
        for (line, (index, request)) in
            [&lines[0], &lines[3]].iter().zip([(0, group()), (4, traced.clone())])
        {
            let mut alone = json_of(post(&app, &request.to_string()).await).await;
            alone["index"] = json!(index);
            let (mut line, is_traced) = ((*line).clone(), index == 4);
            assert_eq!(line["traces"].is_array(), is_traced);
            // traces hold times
            for answer in [&mut alone, &mut line] {
                answer.as_object_mut().unwrap().remove("traces");
            }
            assert_eq!(line, alone);
        }
        assert_eq!((&lines[1]["index"], &lines[1]["status"]), (&json!(2), &json!(400)));
        let error = json!({"message": "prompt is empty", "type": "invalid_request_error",
                           "code": "invalid", "param": null});
        assert_eq!(lines[2], json!({"index": 3, "error": error, "status": 422}));
    }
    let response = stream_in(&app, "text/csv", Body::from("a,b")).await;
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(json_of(response).await["error"].to_string().contains("`text/csv`, wanted"));
    assert!(lines_of(stream_in(&app, LINES, Body::empty()).await).await.is_empty());
}

#[tokio::test]
async fn score_groups_answers_a_line_before_the_next_is_sent() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let (send, body) = slow_body();
    let mut answers = stream_in(&app, LINES, body).await.into_body().into_data_stream();
    for index in 0..3 {
        send.send(group_line(&format!("g{index}"))).unwrap();
        let line: Value = serde_json::from_slice(&answers.next().await.unwrap().unwrap()).unwrap();
        assert_eq!(
            (&line["index"], &line["group_id"]),
            (&json!(index), &json!(format!("g{index}")))
        );
    }
    drop(send);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn score_groups_holds_memory_for_an_open_line_only() {
    let server = running(Box::<RuleJudge>::default(), |_| {});
    let (send, body) = slow_body();
    let response = in_time(stream_in(&server.router(), LINES, body)).await;
    let mut answers = response.into_body().into_data_stream();
    send.send(group_line("g")).unwrap();
    assert!(in_time(answers.next()).await.is_some());
    until_body_bytes(&server, |n_bytes| n_bytes == 0).await;
    send.send("{\"prompt\": ".to_owned()).unwrap();
    until_body_bytes(&server, |n_bytes| n_bytes == 11).await;
    drop(answers);
    until_body_bytes(&server, |n_bytes| n_bytes == 0).await;
}

#[tokio::test]
async fn score_groups_holds_memory_for_the_rows_of_an_open_group_only() {
    let server = running(Box::<RuleJudge>::default(), |_| {});
    let (send, receive) = mpsc::unbounded_channel::<Vec<u8>>();
    let pieces = stream::unfold(receive, |mut receive| async {
        Some((Ok::<_, Infallible>(receive.recv().await?), receive))
    });
    let mut writer = StreamWriter::try_new(Vec::new(), &table(&[], None).schema()).unwrap();
    let mut send_batch = |id: &str| {
        writer.write(&table(&[id], None)).unwrap();
        send.send(std::mem::take(writer.get_mut())).unwrap();
    };
    send_batch(&"a".repeat(1 << 20));
    send_batch("b");
    let response = in_time(stream_in(&server.router(), ARROW, Body::from_stream(pieces))).await;
    // group a is judged, and b may have more rows
    until_body_bytes(&server, |n_bytes| (1..1000).contains(&n_bytes)).await;
    drop(response);
    until_body_bytes(&server, |n_bytes| n_bytes == 0).await;
}

#[tokio::test]
async fn score_groups_answers_a_failed_judge_with_status_503_in_the_line() {
    let app = server(broken(), |_| {});
    let lines = lines_of(stream_in(&app, LINES, Body::from(group_line("g"))).await).await;
    assert_eq!((&lines[0]["index"], &lines[0]["status"]), (&json!(0), &json!(503)));
    assert_eq!(lines[0]["rewards"], json!([null, null, null, null]));
    assert!(lines[0]["error"]["message"].as_str().unwrap().contains("out of memory"));
}

#[tokio::test(start_paused = true)]
async fn score_groups_answers_late_groups_with_504_and_goes_on() {
    let app = server(silent(), |_| {});
    let body = (0..3).map(|at| group_line(&format!("g{at}"))).collect::<String>();
    let lines = lines_of(stream_in(&app, LINES, Body::from(body)).await).await;
    let seen: Vec<_> = lines.iter().map(|line| line["status"].as_u64()).collect();
    assert_eq!(seen, [Some(504); 3]);
}

/// Number of open groups of the server.
async fn n_open(app: &Router) -> u64 {
    let (_, health) = get(app, "/health", None).await;
    serde_json::from_str::<Value>(&health).unwrap()["open_groups"].as_u64().unwrap()
}

#[tokio::test]
async fn score_groups_takes_half_of_the_queue_and_stops_reading_when_the_client_has_gone() {
    let app = server(silent(), |config| config.queue_capacity = 6);
    let n_sent = Arc::new(AtomicUsize::new(0));
    let counted = {
        let n_sent = Arc::clone(&n_sent);
        stream::iter(0..100).map(move |at| {
            n_sent.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Infallible>(group_line(&format!("g{at}")))
        })
    };
    let response = stream_in(&app, LINES, Body::from_stream(counted)).await;
    while n_open(&app).await < 3 {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!((n_open(&app).await, n_sent.load(Ordering::SeqCst)), (3, 3), "reading pauses");
    drop(response);
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!((n_open(&app).await, n_sent.load(Ordering::SeqCst)), (3, 3));
}

#[tokio::test]
async fn score_groups_waits_while_the_queue_is_full() {
    let app = server(Box::<RuleJudge>::default(), |config| config.queue_capacity = 1);
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let app = app.clone();
        tasks.push(tokio::spawn(async move {
            let body = (0..5).map(|at| group_line(&format!("g{at}"))).collect::<String>();
            lines_of(stream_in(&app, LINES, Body::from(body)).await).await
        }));
    }
    for task in tasks {
        let lines = task.await.unwrap();
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().all(|line| line["error"].is_null()), "{lines:?}");
    }
}

#[tokio::test]
async fn score_groups_ends_at_a_line_without_an_end() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let mebibyte = Bytes::from(vec![b' '; 1 << 20]);
    let first = stream::iter([Bytes::from(group_line("g"))]);
    let endless = first.chain(stream::repeat(mebibyte)).map(Ok::<_, Infallible>);
    let lines = lines_of(stream_in(&app, LINES, Body::from_stream(endless)).await).await;
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["group_id"], "g");
    let error = format!("the line is longer than {MAX_BODY_BYTES} bytes");
    assert_eq!((&lines[1]["index"], &lines[1]["status"]), (&json!(1), &json!(413)));
    assert_eq!(lines[1]["error"]["message"], error);
}

#[tokio::test]
async fn score_groups_ends_when_the_server_stops() {
    let running = running(Box::<RuleJudge>::default(), |_| {});
    let app = running.router();
    let (send, body) = slow_body();
    let mut answers = stream_in(&app, LINES, body).await.into_body().into_data_stream();
    send.send(group_line("g")).unwrap();
    let first: Value = serde_json::from_slice(&answers.next().await.unwrap().unwrap()).unwrap();
    assert_eq!(first["group_id"], "g");
    running.close();
    let last: Value = serde_json::from_slice(&answers.next().await.unwrap().unwrap()).unwrap();
    assert_eq!((&last["index"], &last["status"]), (&Value::Null, &json!(503)));
    assert_eq!(last["error"]["message"], "the server stops");
    assert!(answers.next().await.is_none());
    let late = stream_in(&app, LINES, Body::from(group_line("g"))).await;
    assert_eq!(late.status(), StatusCode::SERVICE_UNAVAILABLE);
}

/// A table of groups of two, of which the first completion is correct. The prompt of a group is its
/// id; row `change_prompt` has another one.
pub(super) fn table(ids: &[&str], change_prompt: Option<usize>) -> RecordBatch {
    let twice = |values: Vec<String>| -> ArrayRef {
        let rows = values.iter().flat_map(|value| [value.as_str(), value.as_str()]);
        Arc::new(rows.map(Some).collect::<StringArray>())
    };
    let n_rows = 2 * ids.len();
    let prompts =
        (0..n_rows).map(|row| if Some(row) == change_prompt { "another" } else { ids[row / 2] });
    let said = (0..n_rows).map(|row| if row % 2 == 0 { "4" } else { "5" });
    let prompts: ArrayRef = Arc::new(prompts.map(Some).collect::<StringArray>());
    let said: ArrayRef = Arc::new(said.map(Some).collect::<StringArray>());
    RecordBatch::try_from_iter([
        ("group_id", twice(ids.iter().map(|id| (*id).to_owned()).collect())),
        ("prompt", prompts),
        ("completion", said),
        ("answer", twice(vec!["4".to_owned(); ids.len()])),
    ])
    .unwrap()
}

/// The rewards of the two members by group; checks that the rows of a group are adjacent.
pub(super) fn pairs(batches: &[RecordBatch]) -> BTreeMap<String, [Option<f64>; 2]> {
    let rows: Vec<Reward> =
        batches.iter().flat_map(|batch| Reward::from_batch(batch).unwrap()).collect();
    let pairs = rows.chunks(2).map(|pair| {
        assert_eq!(pair[0].group_id, pair[1].group_id);
        assert_eq!((pair[0].member.0, pair[1].member.0), (0, 1));
        (pair[0].group_id.0.clone(), [pair[0].reward, pair[1].reward])
    });
    pairs.collect()
}

#[tokio::test]
async fn score_groups_answers_an_arrow_table_with_a_table_of_rewards() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let bytes = ipc::to_bytes(&[table(&["a", "b"], None), table(&["c", "d", "e"], None)]).unwrap();
    let pieces: Vec<_> = bytes.chunks(100).map(Bytes::copy_from_slice).collect();
    let pieces = stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
    let response = stream_in(&app, ARROW, Body::from_stream(pieces)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], ARROW);
    let answer = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let batches = ipc::from_bytes(&answer).unwrap();
    assert_eq!(batches[0].schema(), Reward::schema());
    assert_eq!(batches[0].schema().metadata()[TABLE_KEY], "rewards");
    let pairs = pairs(&batches);
    assert_eq!(pairs.keys().collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
    assert!(pairs.values().all(|pair| pair[0] > pair[1]), "{pairs:?}");
    let alone = json!({"prompt": "c", "completions": ["4", "5"], "answer": "4", "group_id": "c"});
    let alone = json_of(post(&app, &alone.to_string()).await).await;
    let rewards: [Option<f64>; 2] = serde_json::from_value(alone["rewards"].clone()).unwrap();
    assert_eq!(pairs["c"], rewards, "JSON and Arrow give the same rewards");

    // a table without groups is answered with a table without rows
    let none = ipc::to_bytes(&[table(&[], None)]).unwrap();
    let response = stream_in(&app, ARROW, Body::from(none)).await;
    let answer = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert!(ipc::from_bytes(&answer).unwrap().is_empty());
}

#[tokio::test]
async fn score_groups_answers_a_group_before_the_table_has_ended() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let bytes = ipc::to_bytes(&[table(&["a"], None), table(&["b"], None)]).unwrap();
    let (first, rest) = bytes.split_at(bytes.len() - 8);
    let (send, receive) = mpsc::unbounded_channel::<Bytes>();
    let pieces = stream::unfold(receive, |mut receive| async {
        Some((Ok::<_, Infallible>(receive.recv().await?), receive))
    });
    send.send(Bytes::copy_from_slice(first)).unwrap();
    let response = stream_in(&app, ARROW, Body::from_stream(pieces)).await;
    let mut answers = response.into_body().into_data_stream();
    let mut seen = answers.next().await.unwrap().unwrap().to_vec();
    seen.extend(answers.next().await.unwrap().unwrap());
    assert_eq!(pairs(&ipc::from_bytes(&seen).unwrap()).keys().collect::<Vec<_>>(), ["a"]);
    send.send(Bytes::copy_from_slice(rest)).unwrap();
    drop(send);
    while let Some(piece) = answers.next().await {
        seen.extend(piece.unwrap());
    }
    assert_eq!(pairs(&ipc::from_bytes(&seen).unwrap()).keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn score_groups_answers_a_body_that_is_not_a_table_with_its_status() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let whole = table(&["a", "b"], None);
    let without = ipc::to_bytes(&[whole.project(&[0, 1, 3]).unwrap()]).unwrap();
    let empty = ipc::to_bytes(&[whole.project(&[0]).unwrap().slice(0, 0)]).unwrap();
    let two_prompts = ipc::to_bytes(&[table(&["a", "b"], Some(1))]).unwrap();
    let no_prompt = ipc::to_bytes(&[table(&["", "b"], None)]).unwrap();
    let cut = ipc::to_bytes(std::slice::from_ref(&whole)).unwrap()[..600].to_vec();
    let cases = [
        (b"a,b".to_vec(), 400, "no Arrow stream"),
        (Vec::new(), 400, "no Arrow stream: there is no schema"),
        (cut, 400, "no Arrow stream"),
        (without, 422, "column completion is missing"),
        (empty, 422, "column prompt is missing"),
        (two_prompts, 422, "row 1: group a has two prompts"),
        (no_prompt, 422, "group : prompt is empty"),
    ];
    for (body, status, wanted) in cases {
        let response = stream_in(&app, ARROW, Body::from(body)).await;
        assert_eq!(response.status().as_u16(), status, "{wanted}");
        let text = json_of(response).await["error"].to_string();
        assert!(text.contains(wanted), "{text}");
    }
}

#[tokio::test]
async fn score_groups_answers_an_arrow_table_with_503_and_retry_after_once_the_judge_stopped() {
    let app = server(panicking(), |_| {});
    let bytes = ipc::to_bytes(&[table(&["a"], None)]).unwrap();
    // the first request stops the judge, the second finds it stopped
    for _ in 0..2 {
        let response = stream_in(&app, ARROW, Body::from(bytes.clone())).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(json_of(response).await["error"]["message"], "group a: the judge has stopped");
    }
}

#[tokio::test]
async fn score_groups_breaks_off_visibly_after_a_problem_in_the_middle() {
    let app = server(Box::<RuleJudge>::default(), |_| {});
    let bytes = ipc::to_bytes(&[table(&["a", "b"], Some(3))]).unwrap();
    let response = stream_in(&app, ARROW, Body::from(bytes)).await;
    assert_eq!(response.status(), StatusCode::OK, "the first group was answered");
    let mut answers = response.into_body().into_data_stream();
    let mut seen = Vec::new();
    let broken = loop {
        match answers.next().await.unwrap() {
            Ok(piece) => seen.extend(piece),
            Err(error) => break error,
        }
    };
    assert!(broken.to_string().contains("row 3: group b has two prompts"), "{broken}");
    let text = String::from_utf8_lossy(&seen);
    assert!(text.contains("broken off: row 3: group b has two prompts"), "{text}");
    assert!(ipc::from_bytes(&seen).is_err());
}

async fn check_no_rewards(judge: Box<dyn Judge>, wanted: Status) {
    let app = server(judge, |_| {});
    let body = Body::from(ipc::to_bytes(&[table(&["a", "b"], None)]).unwrap());
    let response = stream_in(&app, ARROW, body).await;
    let answer = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let batches = ipc::from_bytes(&answer).unwrap();
    let rows = batches.iter().flat_map(|batch| Reward::from_batch(batch).unwrap());
    let seen: Vec<_> = rows.map(|row| (row.reward, row.status)).collect();
    assert_eq!(seen, [(None, wanted); 4]);
}

#[tokio::test]
async fn score_groups_writes_a_row_without_reward_for_a_failed_judge() {
    check_no_rewards(broken(), Status::JudgeFailed).await;
}

#[tokio::test(start_paused = true)]
async fn score_groups_writes_a_row_without_reward_for_a_late_group() {
    check_no_rewards(silent(), Status::Timeout).await;
}
