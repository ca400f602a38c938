//! The reward server over a real socket, with the shipped judge: one group, then a polite end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::binary::{arg, joust, root};

/// A server that is killed where a test fails.
struct Server(Child, String);

impl Server {
    /// Starts it on a free port and waits for the line that names it.
    fn start(more: &[&str]) -> Self {
        let config = arg(&root().join("configs/quickstart.toml"));
        let mut args = vec!["serve", &config, "serve.port=0"];
        args.extend(more);
        let mut child = joust(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        Self(child, address)
    }

    fn request(&self, head: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.1).unwrap();
        let length = body.len();
        write!(
            stream,
            "{head} HTTP/1.1\r\nHost: joust\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).unwrap().parse().unwrap();
        let body = text.split("\r\n\r\n").nth(1).unwrap();
        (status, serde_json::from_str(body).unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

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

    let pid = server.0.id().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(server.0.wait().unwrap().success());
    let votes: Vec<joust_schema::tables::Vote> =
        joust_schema::parquet::read(&dir.path().join("set_00000/votes.parquet")).unwrap();
    assert_eq!(votes.len(), 12);
    assert!(votes.iter().all(|vote| vote.text.contains("</think>")));
}
