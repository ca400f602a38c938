//! A client with one connection per request, as trainers have them: it sends, waits, or goes away.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A request with a JSON body.
pub(super) struct TrainerRequest {
    pub(super) route: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

/// A request that waits for its answer; dropped, its connection is closed.
pub(super) struct WaitingClient {
    pub(super) stream: TcpStream,
}

impl WaitingClient {
    /// Sends a request on a connection of its own, which stays open.
    pub(super) fn send(address: &str, request: &TrainerRequest) -> Self {
        Self::send_with(address, request, "")
    }

    /// As [`WaitingClient::send`], with bytes behind the request.
    pub(super) fn send_with(address: &str, request: &TrainerRequest, behind: &str) -> Self {
        let TrainerRequest { route, headers, body } = request;
        let mut text = format!(
            "POST {route} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("\r\n{body}{behind}"));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        Self { stream }
    }

    /// Status and JSON body of the answer.
    pub(super) fn answer(self) -> (u16, Value) {
        self.answer_within(Duration::from_secs(60)).expect("an answer in time")
    }

    /// As [`WaitingClient::answer`]; `None`, and the connection closed, if there is none in time.
    pub(super) fn answer_within(mut self, limit: Duration) -> Option<(u16, Value)> {
        let end = Instant::now() + limit;
        let mut bytes = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some(answer) = parse(&text) {
                return Some(answer);
            }
            let left = end.checked_duration_since(Instant::now())?.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut piece) {
                Ok(0) => panic!("closed after {text:?}"),
                Ok(n) => bytes.extend(&piece[..n]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Status and body, once all of it has come.
fn parse(text: &str) -> Option<(u16, Value)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.to_ascii_lowercase().split("content-length: ").nth(1)?.to_owned();
    let length: usize = length.lines().next()?.parse().ok()?;
    (body.len() >= length).then(|| (status, serde_json::from_str(body).unwrap()))
}
