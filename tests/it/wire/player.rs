//! Plays recorded steps against a running server and makes each answer comparable, as
//! `tests/wire/record.py` does: bodies are read by their content type, and what is new in each call
//! is replaced.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::http::{HttpAnswer, exchange};

const HEADERS: [&str; 5] = ["content-type", "retry-after", "www-authenticate", "location", "allow"];

/// Longest time until a server shows what a request waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server, and what was saved of its answers.
pub(super) struct Player {
    address: String,
    /// Text by name.
    saved: BTreeMap<String, String>,
}

impl Player {
    /// `stub` is the address of the judge's server, which errors show.
    pub(super) fn new(address: &str, stub: &str) -> Self {
        let saved = BTreeMap::from([("stub".to_owned(), stub.to_owned())]);
        Self { address: address.to_owned(), saved }
    }

    /// Plays the requests of a step and returns their answers.
    pub(super) fn play(&mut self, step: &Value) -> Vec<Value> {
        let requests = step["exchanges"].as_array().unwrap();
        let answers: Vec<HttpAnswer> = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for request in requests {
                self.wait_for(&request["after"]);
                let address = &self.address;
                let path = self.filled(request["path"].as_str().unwrap());
                let thread = scope.spawn(move || send(address, request, &path));
                // some requests are answered before the next one is sent
                while request["in_turn"] == true && !thread.is_finished() {
                    std::thread::yield_now();
                }
                threads.push(thread);
            }
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let pairs = requests.iter().zip(answers);
        pairs.map(|(request, answer)| self.comparable(request, answer)).collect()
    }

    /// A text with what was saved in the place of its names.
    fn filled(&self, text: &str) -> String {
        self.saved.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        })
    }

    /// Polls until the server shows a value; at once where nothing is waited for.
    fn wait_for(&self, after: &Value) {
        let Some(path) = after["path"].as_str() else { return };
        let (path, pointer) = (self.filled(path), after["pointer"].as_str().unwrap());
        let since = Instant::now();
        loop {
            let answer = exchange(&self.address, &format!("GET {path}"), &[], b"").unwrap();
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            if body.pointer(pointer) == Some(&after["value"]) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{after} did not happen: {body}");
        }
    }

    /// An answer as it is recorded.
    fn comparable(&mut self, request: &Value, answer: HttpAnswer) -> Value {
        let mut found = content(&answer, request["path"].as_str().unwrap());
        for (name, pointer) in request["save"].as_object().into_iter().flatten() {
            let saved = found["json"].pointer(pointer.as_str().unwrap()).unwrap();
            self.saved.insert(name.clone(), saved.as_str().unwrap().to_owned());
            // how far an accepted job is depends on the moment
            found["json"] = json!({"job_id": found["json"]["job_id"]});
        }
        let kept = HEADERS.iter().filter_map(|name| Some((*name, answer.headers.get(*name)?)));
        found["headers"] = kept.map(|(name, value)| (name.to_owned(), json!(value))).collect();
        found["status"] = json!(answer.status);
        if !answer.is_whole {
            found["is_whole"] = json!(false);
        }
        steady(&mut found, &self.saved);
        found
    }
}

fn send(address: &str, request: &Value, path: &str) -> HttpAnswer {
    let headers = request["headers"].as_object().unwrap().iter();
    let headers: Vec<(&str, &str)> =
        headers.map(|(name, value)| (&name[..], value.as_str().unwrap())).collect();
    let body = match (&request["body"], &request["body_hex"]) {
        (Value::String(text), _) => text.clone().into_bytes(),
        (_, Value::String(digits)) => bytes(digits),
        _ => Vec::new(),
    };
    let method = request["method"].as_str().unwrap();
    exchange(address, &format!("{method} {path}"), &headers, &body).expect("the server answers")
}

fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The body by its content type: JSON, lines, events, names of metrics, text or bytes.
fn content(answer: &HttpAnswer, path: &str) -> Value {
    let kind = answer.headers.get("content-type").map_or("", String::as_str);
    let text = || String::from_utf8(answer.body.clone()).unwrap();
    let json = |text: &str| -> Value { serde_json::from_str(text).expect(text) };
    if kind.starts_with("application/json") {
        return json!({"json": json(&text())});
    }
    if kind.starts_with("application/x-ndjson") {
        let mut lines: Vec<Value> = text().lines().map(json).collect();
        // in the order of the groups, for they are answered as they are judged
        lines.sort_by_key(|line| line["index"].as_u64().unwrap_or(u64::MAX));
        return json!({"lines": lines});
    }
    if kind.starts_with("text/event-stream") {
        let text = text();
        let events =
            text.split("\n\n").filter(|event| !event.trim_matches([':', ' ', '\n']).is_empty());
        let field = |event: &str, name: &str| {
            event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
        };
        let event = |text: &str| {
            let data = field(text, "data: ").unwrap();
            let data = if data == "[DONE]" { json!(data) } else { json(&data) };
            // the events of a streamed chat have no name
            match field(text, "event: ") {
                Some(name) => json!({"event": name, "data": data}),
                None => json!({"data": data}),
            }
        };
        return json!({"events": events.map(event).collect::<Vec<Value>>()});
    }
    if path == "/metrics" && kind.starts_with("application/openmetrics") {
        return json!({"metrics": metrics(&text())});
    }
    if kind.starts_with("text/html") {
        return json!({"html": true});
    }
    if kind.starts_with("application/vnd.apache.arrow") {
        let digits: String = answer.body.iter().map(|byte| format!("{byte:02x}")).collect();
        return json!({"hex": digits});
    }
    json!({"text": text()})
}

/// Types of the metrics and names of their labels; numbers differ, and help is words.
fn metrics(page: &str) -> Vec<String> {
    let mut found = std::collections::BTreeSet::new();
    for line in page.lines() {
        if line.starts_with("# TYPE ") {
            found.insert(line.to_owned());
        } else if !line.starts_with('#') {
            let (name, labels) = line.split_once('{').unwrap_or((line, ""));
            let name = name.split(' ').next().unwrap_or("");
            // a label is a word before `="`
            let starts = labels.split("=\"").filter_map(|part| part.rsplit([',', '{']).next());
            let keys: Vec<&str> = starts.take(labels.matches("=\"").count()).collect();
            found.insert(format!("{name} {}", keys.join(" ")).trim().to_owned());
        }
    }
    found.into_iter().collect()
}

/// Replaces what is new in each call: times, ids made of them, ids of jobs.
fn steady(value: &mut Value, saved: &BTreeMap<String, String>) {
    match value {
        Value::Object(members) => steady_object(members, saved),
        Value::Array(values) => values.iter_mut().for_each(|value| steady(value, saved)),
        Value::String(text) => {
            for (name, value) in saved {
                *text = text.replace(value, &format!("{{{name}}}"));
            }
        }
        _ => {}
    }
}

fn steady_object(members: &mut Map<String, Value>, saved: &BTreeMap<String, String>) {
    members.values_mut().for_each(|value| steady(value, saved));
    if let Some(created) = members.get_mut("created") {
        *created = json!("{time}");
    }
    if let Some(Value::String(id)) = members.get_mut("id")
        && let Some(of) = ["score-", "classify-"].iter().find(|start| id.starts_with(**start))
    {
        *id = format!("{of}{{time}}");
    }
}
