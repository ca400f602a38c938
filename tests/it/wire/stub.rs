//! A judge's server, as `tests/wire/record.py` has it: of two answers the one with more letters
//! `a` wins, the call's seed decides ties. Knows nothing of the program under test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

/// Starts the server and returns its base address; it ends with the process.
pub(super) fn start() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    format!("http://{address}/v1")
}

/// Answers the calls of a connection until it ends.
fn serve(stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        if body.is_empty() {
            // a look at the models, which it does not list
            writer.write_all(b"HTTP/1.1 404 Status\r\ncontent-length: 0\r\n\r\n").ok()?;
            continue;
        }
        let body: Value = serde_json::from_slice(&body).ok()?;
        let messages = body["messages"].as_array()?;
        let said: String = messages.iter().filter_map(|turn| turn["content"].as_str()).collect();
        if said.contains("[[hold]]") {
            // until the client gives up
            reader.read_to_end(&mut Vec::new()).ok()?;
            return None;
        }
        let status = [400, 500].into_iter().find(|status| said.contains(&format!("[[{status}]]")));
        let answer = match status {
            Some(_) => json!({"error": "as asked"}),
            None => completion(&body, &said)?,
        };
        let (status, answer) = (status.unwrap_or(200), answer.to_string());
        let head = format!(
            "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            answer.len()
        );
        writer.write_all(head.as_bytes()).ok()?;
        writer.write_all(answer.as_bytes()).ok()?;
    }
}

fn completion(body: &Value, said: &str) -> Option<Value> {
    let last = body["messages"].as_array()?.last()?["content"].as_str()?;
    let reason = if said.contains("[[long]]") { "length" } else { "stop" };
    let text = match last.split_once("### Assistant 1\n\n") {
        Some((_, answers)) => vote(answers, body["seed"].as_i64()?, last.contains("[[mute]]"))?,
        None => {
            let settings = ["temperature", "top_p", "max_tokens", "seed", "stop"];
            let settings: Vec<&Value> = settings.iter().map(|key| &body[key]).collect();
            format!("{last} {}", json!(settings))
        }
    };
    let choice =
        json!({"message": {"role": "assistant", "content": text}, "finish_reason": reason});
    Some(json!({
        "choices": [choice],
        "usage": {"prompt_tokens": said.len(), "completion_tokens": text.len()},
    }))
}

fn vote(answers: &str, seed: i64, is_mute: bool) -> Option<String> {
    let (first, second) = answers.split_once("\n\n\n### Assistant 2\n\n")?;
    let second = second.split("\n\n## Analysis").next()?;
    let count = |text: &str| text.matches('a').count() as i64;
    let lead = count(first) - count(second);
    let place = match lead {
        0 => 1 + seed % 2,
        _ => 1 + i64::from(lead < 0),
    };
    let verdict = match is_mute {
        true => "I cannot say.".to_owned(),
        false => format!("\\boxed{{Assistant {place}}}"),
    };
    Some(format!("<think>lead {lead}</think> {verdict}"))
}
