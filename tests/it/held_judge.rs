//! A judge's server for tests of runs: it answers, holds or refuses its calls, as it is told.
//!
//! Its verdicts depend on what it is asked alone. Knows nothing of the program under test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

/// What happens to a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It gets a verdict.
    Answers,
    /// It waits until the manner changes.
    Holds,
    /// It is refused for good.
    Refuses,
}

struct Shared {
    manner: Manner,
    n_calls: usize,
    /// Calls after this number are held, until the manner changes.
    holds_after: usize,
}

/// The server; it ends with the process.
#[derive(Clone)]
pub(crate) struct JudgeServer {
    state: Arc<(Mutex<Shared>, Condvar)>,
    port: u16,
}

impl JudgeServer {
    pub(crate) fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Shared { manner, n_calls: 0, holds_after: usize::MAX };
        let server = Self { state: Arc::new((Mutex::new(shared), Condvar::new())), port };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream.unwrap()));
            }
        });
        server
    }

    /// Overrides of a config that make this server its judge.
    pub(crate) fn overrides(&self) -> Vec<String> {
        let url = format!("reward.judge.urls=[\"http://127.0.0.1:{}/v1\"]", self.port);
        let more = ["reward.judge.kind=http", "reward.judge.model=stub", "reward.judge.tries=1"];
        more.iter().map(|&text| text.to_owned()).chain([url]).collect()
    }

    pub(crate) fn set(&self, manner: Manner) {
        let mut shared = self.state.0.lock().unwrap();
        (shared.manner, shared.holds_after) = (manner, usize::MAX);
        self.state.1.notify_all();
    }

    /// Holds the calls after the next `n`.
    pub(crate) fn hold_after(&self, n: usize) {
        let mut shared = self.state.0.lock().unwrap();
        shared.manner = Manner::Answers;
        shared.holds_after = shared.n_calls + n;
    }

    /// Number of calls so far.
    pub(crate) fn n_calls(&self) -> usize {
        self.state.0.lock().unwrap().n_calls
    }

    /// Waits until a call is held.
    pub(crate) fn wait_for_a_held_call(&self) {
        let end = Instant::now() + Duration::from_secs(120);
        let mut shared = self.state.0.lock().unwrap();
        while shared.manner != Manner::Holds || shared.n_calls == 0 {
            assert!(Instant::now() < end, "no call came after {}", shared.n_calls);
            shared = self.state.1.wait_timeout(shared, Duration::from_millis(100)).unwrap().0;
        }
    }

    /// Answers the calls of a connection until it ends.
    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut writer = stream;
        loop {
            let mut first = String::new();
            if reader.read_line(&mut first).ok()? == 0 {
                return None;
            }
            let mut n_bytes = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                let line = line.trim().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    n_bytes = value.trim().parse().ok()?;
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; n_bytes];
            reader.read_exact(&mut body).ok()?;
            let (status, answer) = match first.contains("/chat/completions") {
                true => self.judge(&body),
                false if first.starts_with("GET") => {
                    (200, json!({"data": [{"id": "stub", "max_model_len": 100_000}]}))
                }
                false => (404, json!({"error": "no such route"})),
            };
            let answer = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n",
                answer.len()
            );
            writer.write_all((head + &answer).as_bytes()).ok()?;
        }
    }

    fn judge(&self, body: &[u8]) -> (u16, serde_json::Value) {
        let mut shared = self.state.0.lock().unwrap();
        shared.n_calls += 1;
        if shared.n_calls > shared.holds_after {
            shared.manner = Manner::Holds;
        }
        self.state.1.notify_all();
        while shared.manner == Manner::Holds {
            shared = self.state.1.wait(shared).unwrap();
        }
        if shared.manner == Manner::Refuses {
            return (400, json!({"error": {"message": "the judge is ill"}}));
        }
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        let asked = body["messages"].to_string();
        let place = 1 + asked.bytes().map(usize::from).sum::<usize>() % 2;
        let text = format!("<think>so</think> \\boxed{{Assistant {place}}}");
        let message = json!({"role": "assistant", "content": text});
        let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
        (
            200,
            json!({
                "choices": [choice],
                "usage": {"prompt_tokens": asked.len(), "completion_tokens": 9},
            }),
        )
    }
}
