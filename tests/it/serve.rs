//! The reward server over a real socket, with the shipped judge: one group, streams of groups, a polite end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::serving::{Server, python};

#[test]
fn a_group_is_scored_and_a_stopped_server_leaves_its_dump() {
    let dir = tempfile::tempdir().unwrap();
    let dump = format!("serve.dump={}", dir.path().display());
    let mut server = Server::start(&[&dump, "reward.judge.temperature=0"]);
    let (status, health) = server.request("GET /health", "");
    assert_eq!((status, &health["status"]), (200, &json!("ok")));
    assert!(health["judge"].as_str().unwrap().starts_with("nano-rrm"), "{health}");
    let group = json!({
        "messages": [{"role": "user", "content": "What is 47 + 93?"}],
        "completions": ["The answer is 140.", "The answer is 130.", "It is 150.", "140"],
        "tournament": "round_robin",
        "votes": 1,
        "seed": 7,
    });
    let (status, scored) = server.request("POST /v1/score_group", &group.to_string());
    assert_eq!(status, 200, "{scored}");
    let rewards: Vec<f64> = serde_json::from_value(scored["rewards"].clone()).unwrap();
    assert!(rewards[0].min(rewards[3]) > rewards[1].max(rewards[2]), "{rewards:?}");
    assert_eq!(scored["matches"].as_array().unwrap().len(), 6);
    assert_eq!(scored["ratings"].as_array().unwrap().len(), 4);
    let (status, again) = server.request("POST /v1/score_group", &group.to_string());
    assert_eq!((status, again), (200, scored));
    let (status, error) = server.request("POST /v1/score_group", "{}");
    assert_eq!(status, 422, "{error}");

    let pid = server.process.id().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(server.process.wait().unwrap().success());
    let votes: Vec<joust_schema::tables::Vote> =
        joust_schema::parquet::read(&dir.path().join("set_00000/votes.parquet")).unwrap();
    // the group that was asked for twice was judged once
    assert_eq!(votes.len(), 6);
    assert!(votes.iter().all(|vote| vote.text.contains("</think>")));
}

#[test]
fn a_group_of_a_stream_is_answered_before_the_rest_is_sent() {
    let server = Server::start(&["reward.judge.temperature=0"]);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    // a server that waits for the rest fails the test rather than holding it up
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let head = "POST /v1/score_groups HTTP/1.1\r\nHost: joust\r\nConnection: close\r\n\
                Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut next = || -> Value {
        let mut line = String::new();
        while !line.starts_with('{') {
            line.clear();
            assert!(answers.read_line(&mut line).unwrap() > 0, "the answer ended");
        }
        serde_json::from_str(&line).unwrap()
    };
    for index in 0..2 {
        let group = json!({"prompt": "What is 47 + 93?", "votes": 1,
                           "completions": ["The answer is 140.", "The answer is 130."]});
        let line = format!("{group}\n");
        write!(stream, "{:x}\r\n{line}\r\n", line.len()).unwrap();
        let answer = next();
        assert_eq!(answer["index"], index);
        let rewards: Vec<f64> = serde_json::from_value(answer["rewards"].clone()).unwrap();
        assert!(rewards[0] > rewards[1], "{answer}");
    }
    stream.write_all(b"2\r\n{\n\r\n0\r\n\r\n").unwrap();
    let last = next();
    assert_eq!((&last["index"], &last["status"]), (&json!(2), &json!(400)));
    let mut end = String::new();
    answers.read_to_string(&mut end).unwrap();
    assert!(end.ends_with("0\r\n\r\n"), "{end:?}");
}

#[test]
fn polars_tables_are_scored_and_a_stream_that_breaks_off_is_an_error_to_it() {
    let server = Server::start(&["reward.judge.temperature=0"]);
    let code = format!(
        r#"
import http.client, io, json, urllib.request
import polars as pl
def score(table):
    sink = io.BytesIO()
    table.write_ipc_stream(sink)
    headers = {{"Content-Type": "application/vnd.apache.arrow.stream"}}
    request = urllib.request.Request("http://{address}/v1/score_groups", sink.getvalue(), headers)
    return urllib.request.urlopen(request).read()
table = pl.DataFrame({{
    "group_id": ["a"] * 3 + ["b"] * 2,
    "prompt": ["What is 47 + 93?"] * 3 + ["What is 6 * 7?"] * 2,
    "completion": ["The answer is 140.", "The answer is 130.", "It is 150.", "The answer is 41.", "The answer is 42."],
    "member": [2, 1, 0, 5, 6],
    "other": [[1.0]] * 5,
}})
rows = []
for kind in (pl.String, pl.Categorical):
    read = pl.read_ipc_stream(io.BytesIO(score(table.with_columns(pl.col("group_id", "prompt").cast(kind)))))
    rows.append(read.sort("group_id", "member", descending=[False, True]).rows(named=True))
def problem(table):
    try:
        score(table)
    except http.client.IncompleteRead as error:
        part = error.partial
        try:
            pl.read_ipc_stream(io.BytesIO(part))
        except Exception:
            return [part.decode(errors="replace").split("broken off: ")[-1].strip(), "unreadable"]
        return ["read as if it were whole"]
    except urllib.error.HTTPError as error:
        return [error.code, json.load(error)["error"]]
problems = [problem(table.drop("prompt")), problem(table.with_columns(member=pl.Series([2, 1, 0, 5, 5])))]
print(json.dumps([rows, problems]))
"#,
        address = server.address
    );
    let answer: Value = serde_json::from_str(&python("examples/trl", &["-c", &code])).unwrap();
    assert_eq!(answer[0][0], answer[0][1], "words may be keyed");
    let rows = answer[0][0].as_array().unwrap();
    let members: Vec<_> = rows.iter().map(|row| row["member"].as_u64().unwrap()).collect();
    assert_eq!(members, [2, 1, 0, 6, 5]);
    let reward = |at: usize| rows[at]["reward"].as_f64().unwrap();
    assert!(reward(0) > reward(1) && reward(0) > reward(2) && reward(3) > reward(4), "{rows:?}");
    assert!(rows.iter().all(|row| row["status"] == "scored"));
    assert_eq!(answer[1][0], json!([422, "column prompt is missing"]));
    assert_eq!(answer[1][1], json!(["row 4: group b has member 5 twice", "unreadable"]));
}

#[test]
fn trls_reward_function_is_called_as_trl_calls_it() {
    let server = Server::start(&["reward.judge.temperature=0", "serve.queue_capacity=1"]);
    // two groups at once at a queue of one: the second is told to come again
    let code = format!(
        r#"
import asyncio, json
from tournament_reward import TournamentReward, async_tournament_reward
prompts = [[{{"role": "user", "content": text}}] for text in ["What is 47 + 93?"] * 4 + ["What is 6 * 7?"] * 4]
said = ["The answer is 140.", "The answer is 130.", "It is 150.", "The answer is 140."]
said += ["6 * 7 = 42. The answer is 42.", "The answer is 48.", "The answer is 36.", "The answer is 42."]
completions = [[{{"role": "assistant", "content": text}}] for text in said]
extra, metrics = {{}}, {{}}
reward = TournamentReward("http://{address}", num_generations=4, tournament="round_robin", seed=3)
rewards = reward(prompts=prompts, completions=completions, completion_ids=[[1]] * 8, trainer_state=None,
                 log_extra=extra.__setitem__, log_metric=metrics.__setitem__)
again = async_tournament_reward("http://{address}", num_generations=4, tournament="round_robin", seed=3)
same = asyncio.run(again(prompts=prompts, completions=completions)) == rewards
problems = []
for wrong in (lambda: TournamentReward("http://{address}", 3)(prompts, completions),
              lambda: TournamentReward("http://{address}", 8)(prompts, completions),
              lambda: TournamentReward("http://{address}", 4, votes=2)(prompts, completions),
              lambda: TournamentReward("http://127.0.0.1:9", 4, timeout=0.1)(prompts, completions)):
    try:
        wrong()
    except (ValueError, RuntimeError) as error:
        problems.append(str(error))
print(json.dumps([rewards, extra, metrics, same, problems]))
"#,
        address = server.address
    );
    let answer: Value = serde_json::from_str(&python("examples/trl", &["-c", &code])).unwrap();
    let rewards: Vec<f64> = serde_json::from_value(answer[0].clone()).unwrap();
    assert!(rewards[0] == rewards[3] && rewards[0] > rewards[1] && rewards[0] > rewards[2]);
    assert!(rewards[4].min(rewards[7]) > rewards[5].max(rewards[6]), "{rewards:?}");
    for column in ["rating", "rating_stderr", "status", "judge"] {
        assert_eq!(answer[1][column].as_array().unwrap().len(), 8, "{column}");
    }
    let words = answer[1]["judge"][1].as_str().unwrap();
    assert!(words.contains("</think>") && words.contains("against 0"), "{words}");
    // the two that say the same are one player
    assert_eq!(answer[2]["tournament/matches"], json!((3.0 + 6.0) / 2.0));
    assert_eq!(answer[3], true);
    let problems = answer[4].as_array().unwrap();
    for (problem, wanted) in problems.iter().zip([
        "no whole groups of 3",
        "no group of 8",
        "votes is 2",
        "no answer within",
    ]) {
        assert!(problem.as_str().unwrap().contains(wanted), "{problem}");
    }
    assert_eq!(problems.len(), 4);
}
