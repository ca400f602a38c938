//! Dumps of an earlier program, read by this one: shown, turned into preferences and ratings, and
//! replayed. `tests/golden/make_dumps.py` made them and recorded what that program read.

use std::path::Path;

use serde_json::Value;

use crate::binary::{arg, json_lines, root, succeed};
use crate::golden::{self, copy_files};
use crate::serving::Server;

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

#[test]
fn earlier_votes_are_replayed_into_the_same_rewards() {
    let dir = tempfile::tempdir().unwrap();
    let config = arg(&root().join("configs/quickstart.toml"));
    let dumps = golden::path(DUMPS);
    let (input, output) = (arg(&dumps.join("groups.jsonl")), arg(&dir.path().join("again")));
    let replay = format!("reward.judge.dump={}", dumps.join("score").display());
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
        "run.seed=3",
    ]);
    let read = |folder: &Path| std::fs::read_to_string(folder.join("rewards.jsonl")).unwrap();
    assert_eq!(read(&dir.path().join("again")), read(&dumps.join("score")));
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
        assert_eq!(server.request("POST /v1/score_group", group), (200, wanted));
    }
    server.stop();
    assert!(sets(&serve) >= n_before);
}

/// Number of sets in a dump.
fn sets(dump: &Path) -> usize {
    let names = std::fs::read_dir(dump).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("set_")).count()
}
