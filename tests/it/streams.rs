//! Streams of groups over a real socket: answered while the client sends, as JSON lines and as
//! Arrow tables of polars.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::examples::client;
use crate::serving::Server;

#[test]
fn stream_answers_a_group_before_the_rest_is_sent() {
    let server = Server::start(&["reward.judge.temperature=0"]);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    // a server that waits for the rest fails the test instead of blocking it
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
fn arrow_tables_of_polars_are_scored_and_a_broken_off_stream_is_an_error() {
    let server = Server::start(&["reward.judge.temperature=0"]);
    let answer = client("polars_tables.py", &server, &[]);
    assert_eq!(answer[0][0], answer[0][1], "texts may be dictionaries");
    let rows = answer[0][0].as_array().unwrap();
    let members: Vec<_> = rows.iter().map(|row| row["member"].as_u64().unwrap()).collect();
    assert_eq!(members, [2, 1, 0, 6, 5]);
    let reward = |at: usize| rows[at]["reward"].as_f64().unwrap();
    assert!(reward(0) > reward(1) && reward(0) > reward(2) && reward(3) > reward(4), "{rows:?}");
    assert!(rows.iter().all(|row| row["status"] == "scored"));
    assert_eq!(answer[1][0], json!([422, "column prompt is missing"]));
    assert_eq!(answer[1][1], json!(["row 4: group b has member 5 twice", "unreadable"]));
}
