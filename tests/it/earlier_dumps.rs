//! Dumps of an earlier program, read by this one: shown, turned into preferences and ratings, and
//! replayed. `tests/golden/make_dumps.py` made them and recorded what that program read.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::binary::{arg, json_lines, root, succeed};
use crate::golden::{self, copy_files};
use crate::serving::Server;
use crate::wire::compare::Comparison;

const DUMPS: &str = "dumps-0528abc";

/// A recorded command with its paths below the folder of the dumps.
fn command(recorded: &Value) -> Vec<String> {
    let words = recorded["command"].as_array().unwrap().iter();
    let is_path = |word: &str| golden::path(DUMPS).join(word).exists();
    words
        .map(|word| word.as_str().unwrap())
        .map(|word| match is_path(word) {
            true => arg(&golden::path(DUMPS).join(word)),
            false => word.to_owned(),
        })
        .collect()
}

#[test]
fn earlier_dumps_are_read_by_every_command_as_they_were() {
    let recorded = golden::read(&format!("{DUMPS}/read.json"));
    let recorded = recorded.as_object().unwrap();
    assert_eq!(recorded.len(), 10);
    for (name, recorded) in recorded {
        let wanted = recorded["output"].as_array().unwrap();
        assert!(!wanted.is_empty(), "{name}");
        assert_eq!(&json_lines(&succeed(&command(recorded))), wanted, "{name}");
    }
}

/// Votes of every pair of members that met, whoever of the two is named first.
fn votes_of_pairs(dump: &Path) -> BTreeMap<String, [i64; 2]> {
    let file = arg(&dump.join("matches.parquet"));
    let rows = json_lines(&succeed(&["dump", "show", &file, "--rows", "0", "--json"]));
    let of_row = |row: &Value| {
        let number = |name: &str| row[name].as_i64().unwrap();
        let (a, b) =
            ((number("member_a"), number("votes_a")), (number("member_b"), number("votes_b")));
        let (low, high) = (a.min(b), a.max(b));
        (format!("{} {} {}", row["group_id"], low.0, high.0), [low.1, high.1])
    };
    rows.iter().map(of_row).collect()
}

#[test]
fn earlier_votes_are_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let config = arg(&root().join("configs/quickstart.toml"));
    let dumps = golden::path(DUMPS);
    let (input, output) = (arg(&dumps.join("groups.jsonl")), arg(&dir.path().join("again")));
    let replay = format!("reward.judge.dump={}", dumps.join("score").display());
    // that program drew by the line of a group, and fitted the position bias to each group alone:
    // the members meet in other rounds and other orders, and each vote counts as it was cast
    succeed(&[
        "score",
        &config,
        "--input",
        &input,
        "--output",
        &output,
        "reward.judge.kind=replay",
        &replay,
        "reward.tournament.kind=round_robin",
        "reward.rating.method=win_rate",
        "run.seed=3",
    ]);
    let (again, recorded) = (dir.path().join("again"), dumps.join("score"));
    assert_eq!(votes_of_pairs(&again), votes_of_pairs(&recorded));
    let read = |folder: &Path| {
        let lines = std::fs::read_to_string(folder.join("rewards.jsonl")).unwrap();
        let of_line = |line: &Value| (line["group_id"].clone(), line["statuses"].clone());
        json_lines(&lines).iter().map(of_line).collect::<Vec<_>>()
    };
    assert_eq!(read(&again), read(&recorded));
}

#[test]
fn earlier_serve_dump_is_continued() {
    let dir = tempfile::tempdir().unwrap();
    let dumps = golden::path(DUMPS);
    let serve = dir.path().join("serve");
    std::fs::create_dir(&serve).unwrap();
    for entry in std::fs::read_dir(dumps.join("serve")).unwrap() {
        let path = entry.unwrap().path();
        let to = serve.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_files(&path, &to),
            false => drop(std::fs::copy(&path, &to).unwrap()),
        }
    }
    let n_before = sets(&serve);
    let mut server = Server::start(&[
        &format!("serve.dump={}", serve.display()),
        "reward.judge.kind=rule",
        "reward.tournament.kind=round_robin",
        "run.seed=3",
    ]);
    let groups = std::fs::read_to_string(dumps.join("groups.jsonl")).unwrap();
    let answers = std::fs::read_to_string(dumps.join("answers.jsonl")).unwrap();
    for (group, wanted) in groups.lines().zip(json_lines(&answers)) {
        let (status, seen) = server.request("POST /v1/score_group", group);
        assert_eq!(status, 200);
        // its matches are drawn as before; ratings moved with the prior of the position term, and a
        // slope on lengths was not measured
        let mut comparison = Comparison::default();
        comparison.add("", &wanted, &seen);
        let mut differences = comparison.differences;
        // where all answers are equal, no vote gave an error of 0
        differences.retain(|text| !text.contains("rating_stderr: recorded Number(0.0), seen Null"));
        let moved = [
            "position_bias",
            "length_slope: recorded None",
            "/rating:",
            "/rating_stderr:",
            "/win_rate:",
            "/rewards/",
        ];
        differences.retain(|text| !moved.iter().any(|part| text.contains(part)));
        let rewards = |answer: &Value| -> Vec<f64> {
            answer["rewards"].as_array().unwrap().iter().filter_map(Value::as_f64).collect()
        };
        for (recorded, seen) in rewards(&wanted).into_iter().zip(rewards(&seen)) {
            assert!((recorded - seen).abs() < 0.05, "{recorded} {seen}");
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
    server.stop();
    assert!(sets(&serve) >= n_before);
}

/// Number of sets in a dump.
fn sets(dump: &Path) -> usize {
    let names = std::fs::read_dir(dump).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("set_")).count()
}
