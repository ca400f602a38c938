//! Judges behind servers, as commands use them: over TLS, and with nobody there.

use std::path::Path;

use serde_json::json;

use crate::binary::{arg, file, joust, json_lines, root, told};
use crate::golden;
use crate::serving::Server;

const QUICKSTART: &str = "configs/quickstart.toml";

fn pairs() -> String {
    let config = joust_data::TaskConfig {
        split: joust_data::Split::Eval,
        ..joust_data::TaskConfig::default()
    };
    let pair = |idx| {
        let pair = joust_data::judge_pair(&config, joust_schema::seed::Seed::new(5), idx);
        let end = "<|im_end|></s>[/INST]";
        json!({"prompt": pair.question, "completion_a": pair.answer_first,
               "completion_b": pair.answer_second + if idx == 0 { end } else { "" }})
    };
    (0..6).map(|idx| pair(idx).to_string()).collect::<Vec<_>>().join("\n")
}

/// Runs `joust judge` on the pairs of a folder: two greedy votes each.
fn judge(dir: &Path, name: &str, settings: &[&str]) -> std::process::Command {
    let input = file(dir, "pairs.jsonl", &pairs());
    let output = arg(&dir.join(name));
    let common = ["judge", QUICKSTART, "--input", &input, "--output", &output, "--votes", "2"];
    let sampling = ["reward.judge.temperature=0", "reward.judge.max_thinking_tokens=300"];
    joust(&[&common[..], &sampling[..], settings].concat())
}

#[test]
fn judge_behind_tls_votes_as_the_judge_in_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let tls = |name: &str| arg(&golden::path("tls").join(name));
    let (cert, key) = (tls("cert.pem"), tls("key.pem"));
    let (cert, key) = (format!("serve.tls_cert={cert}"), format!("serve.tls_key={key}"));
    let server = Server::with_config(&root().join(QUICKSTART), &[&cert, &key]);
    let urls = format!("reward.judge.urls=[\"https://{}/v1\"]", server.address);
    let http =
        ["reward.judge.kind=http", &urls, "reward.judge.model=nano-rrm", "reward.judge.outage_s=0"];

    let stranger = judge(dir.path(), "stranger", &[&http[..], &["reward.judge.tries=1"]].concat())
        .env_remove("SSL_CERT_FILE")
        .output()
        .unwrap();
    assert_eq!(stranger.status.code(), Some(1), "{}", told(&stranger));
    let stranger = String::from_utf8(stranger.stderr).unwrap();
    assert!(
        stranger.contains("none of 12 votes came") && stranger.contains("certificate"),
        "{stranger}"
    );

    let known =
        judge(dir.path(), "http", &http).env("SSL_CERT_FILE", tls("authority.pem")).output();
    let known = known.unwrap();
    assert!(known.status.success(), "{}", told(&known));
    let engine = judge(dir.path(), "engine", &[]).output().unwrap();
    assert!(engine.status.success(), "{}", told(&engine));
    let verdicts =
        |name: &str| std::fs::read_to_string(dir.path().join(name).join("verdicts.jsonl")).unwrap();
    assert_eq!(verdicts("http"), verdicts("engine"));
    let n_valid =
        json_lines(&verdicts("http")).iter().filter(|row| row["votes_invalid"] == 0).count();
    assert!(n_valid >= 5, "{}", verdicts("http"));
}

#[test]
fn commands_without_any_vote_end_with_exit_code_1_and_the_first_reason() {
    let dir = tempfile::tempdir().unwrap();
    // the discard port, where nobody listens
    let nobody = [
        "reward.judge.kind=http",
        "reward.judge.urls=[\"http://127.0.0.1:9/v1\"]",
        "reward.judge.model=rrm",
        "reward.judge.tries=2",
        "reward.judge.outage_s=0",
    ];
    let wanted = |output: std::process::Output, n_votes: usize| {
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        let error = String::from_utf8(output.stderr).unwrap();
        let reason = format!("error: none of {n_votes} votes came: no vote after 2 calls; ");
        // after what the log says of the server
        let last = error.lines().last().unwrap_or_default();
        assert!(last.starts_with(&reason), "{error}");
        assert!(error.contains("127.0.0.1:9") && error.contains("refused"), "{error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let told = wanted(judge(dir.path(), "judge", &nobody).output().unwrap(), 12);
    assert!(told.contains("12 of 12 votes have no reply of the judge; the first: "), "{told}");
    assert!(dir.path().join("judge/votes.parquet").exists(), "the reasons are kept");
    let summary = judge(dir.path(), "json", &[&nobody[..], &["--json"]].concat()).output().unwrap();
    let summary: serde_json::Value = serde_json::from_str(&wanted(summary, 12)).unwrap();
    assert_eq!((&summary["failed_votes"], &summary["cut_off_votes"]), (&json!(12), &json!(0)));
    assert!(summary["first_failure"].as_str().unwrap().contains("refused"), "{summary}");

    let group = json!({"prompt": "2+2?", "completions": ["4", "5"]}).to_string();
    let input = file(dir.path(), "groups.jsonl", &group);
    let output = arg(&dir.path().join("score"));
    let score = ["score", QUICKSTART, "--input", &input, "--output", &output];
    let votes = ["reward.tournament.kind=round_robin", "reward.tournament.votes=1"];
    let told = wanted(joust(&[&score[..], &nobody[..], &votes[..]].concat()).output().unwrap(), 2);
    assert!(told.contains("2 completions without a reward"), "{told}");
    assert!(dir.path().join("score/rewards.jsonl").exists());
}

#[test]
fn votes_that_are_cut_off_are_counted_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let output =
        judge(dir.path(), "cut", &["reward.judge.max_thinking_tokens=3"]).output().unwrap();
    // no vote has a verdict
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let error = String::from_utf8(output.stderr).unwrap();
    let wanted = "error: none of 12 votes has a verdict: 12 were cut off";
    assert!(error.contains(wanted), "{error}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("12 of 12 votes were cut off: reward.judge.max_thinking_tokens"),
        "{said}"
    );
    let votes = dir.path().join("cut/votes.parquet");
    let votes = joust_schema::parquet::read::<joust_schema::tables::Vote>(&votes).unwrap();
    assert!(votes.iter().all(|vote| vote.cut_off == Some(true)));
}
