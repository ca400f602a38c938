//! The recorded requests: every operation of the reward server, as a server of an earlier program
//! answered, played again over a socket. `tests/wire/record.py` made the record.
//!
//! Statuses, headers, numbers, names and structure are compared as they are. The words of errors
//! may change; where they stand is named in `compare`, and how many there are is counted.

pub(crate) mod compare;
mod player;
mod stub;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::binary::{arg, root};
use crate::serving::Server;
use compare::Comparison;
use player::Player;

/// The record's size: requests, and words of errors in their answers.
const RECORDED: (usize, usize) = (437, 260);

fn folder() -> PathBuf {
    root().join("tests/wire")
}

/// The recorded steps, in their order.
fn steps() -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join("recorded.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The config of a recorded server: the settings of `SERVERS` in `tests/wire/cases.py`, by the keys
/// of the current program.
fn config(server: &str, dir: &Path, stub: &str) -> String {
    let rule = "[reward.judge]\nkind = \"rule\"\n[serve]\n".to_owned();
    let stub = format!(
        "[reward.judge]\nkind = \"http\"\ntemperature = 0.5\nmax_thinking_tokens = 160\n\
         urls = [\"{stub}\"]\nmodel = \"stub\"\ntries = 1\ntimeout_s = 60\n\
         [serve]\n"
    );
    let three = "group_size = 3\ncollect_s = 0.5\n";
    match server {
        "rule" => rule + "group_size = 3\ncollect_s = 300\n",
        "fail" => rule + three,
        "mask" => rule + three + "incomplete = \"mask\"\n",
        "partial" => rule + three + "incomplete = \"partial\"\n",
        "tokens" => {
            let tokens = crate::binary::file(dir, "tokens", "first-token\nsecond-token\n");
            rule + &format!("collect_s = 0.5\ntoken_file = \"{tokens}\"\n")
        }
        "one_cohort" => rule + "group_size = 2\ncollect_s = 300\nmax_cohorts = 1\n",
        "stub" => stub + "group_size = 2\ncollect_s = 300\n",
        "one_group" => stub + "collect_s = 300\nqueue_capacity = 1\n",
        other => panic!("no such server: {other}"),
    }
}

#[test]
fn recorded_requests_are_answered_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let stub = stub::start();
    let mut running: Option<(String, Server, Player)> = None;
    let mut comparison = Comparison::default();
    let mut n_requests = 0;
    for step in steps() {
        let name = step["server"].as_str().unwrap();
        if running.as_ref().is_none_or(|(other, ..)| other != name) {
            let config = config(name, dir.path(), &stub);
            let path = crate::binary::file(dir.path(), &format!("{name}.toml"), &config);
            let server = Server::with_config(Path::new(&path), &[]);
            let player = Player::new(&server.address, &stub);
            running = Some((name.to_owned(), server, player));
        }
        let (_, _, player) = running.as_mut().unwrap();
        for (at, answer) in player.play(&step).iter().enumerate() {
            let place = format!("{name}, {}, {at}", step["name"].as_str().unwrap());
            comparison.add(&place, &step["exchanges"][at]["answer"], answer);
            n_requests += 1;
        }
    }
    assert!(comparison.differences.is_empty(), "{}", comparison.differences.join("\n"));
    assert_eq!((n_requests, comparison.n_words), RECORDED);
}

#[test]
fn recorded_answers_with_one_change_are_told_apart() {
    let steps = steps();
    let answers = steps.iter().flat_map(|step| step["exchanges"].as_array().unwrap());
    let mut n_changed = 0;
    for answer in answers.map(|exchange| &exchange["answer"]) {
        for (pointer, value) in [
            ("/status", json!(299)),
            ("/headers/content-type", json!("text/plain")),
            ("/headers/retry-after", json!("9")),
            ("/json/rewards/0", json!(0.123)),
            ("/json/matches/0/votes_a", json!(9)),
            ("/json/results/0/relevance_score", json!(0.123)),
            ("/json/data/0/score", json!(0.123)),
            ("/json/reward", json!(0.123)),
            ("/json/choices/0/message/content", json!("another text")),
            ("/json/error", json!(null)),
            ("/lines/0/rewards/0", json!(null)),
        ] {
            let mut changed = answer.clone();
            let is_other = |at: &&mut Value| **at != value;
            let Some(at) = changed.pointer_mut(pointer).filter(is_other) else { continue };
            *at = value;
            let mut comparison = Comparison::default();
            comparison.add("", answer, &changed);
            assert_eq!(comparison.differences.len(), 1, "{pointer} {answer}");
            assert!(comparison.differences[0].starts_with(&format!("{pointer}: ")));
            n_changed += 1;
        }
        let mut comparison = Comparison::default();
        comparison.add("", answer, answer);
        assert_eq!(comparison.differences, Vec::<String>::new());
    }
    assert!(n_changed > 600, "{n_changed}");
}

#[test]
fn openapi_document_has_the_recorded_structure() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("rule", dir.path(), "http://127.0.0.1:9/v1");
    let path = crate::binary::file(dir.path(), "rule.toml", &config);
    let server = Server::with_config(Path::new(&path), &[]);
    let (status, mut document) = server.request("GET /openapi.json", "");
    assert_eq!(status, 200);
    strip_words(&mut document, false);
    let recorded = arg(&folder().join("openapi.json"));
    let recorded: Value = serde_json::from_slice(&std::fs::read(recorded).unwrap()).unwrap();
    let mut comparison = Comparison::default();
    comparison.add("", &recorded, &document);
    assert!(comparison.differences.is_empty(), "{}", comparison.differences.join("\n"));
}

/// Takes descriptions and summaries out of a document; members of `properties` are names, not
/// words.
fn strip_words(value: &mut Value, are_names: bool) {
    match value {
        Value::Object(members) => {
            if !are_names {
                members.retain(|name, _| name != "description" && name != "summary");
            }
            let has_names = |name: &str| !are_names && name == "properties";
            members.iter_mut().for_each(|(name, value)| strip_words(value, has_names(name)));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| strip_words(value, false)),
        _ => {}
    }
}
