//! `joust bench server`: its clients get an answer for every request.

use serde_json::{Value, json};

use crate::binary::succeed;

#[test]
fn bench_server_measures_latency_and_overhead() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("groups.jsonl");
    let group = |n: u64| {
        let completions = [format!("The answer is {n}."), "The answer is 0.".to_owned()];
        json!({ "prompt": format!("{n} + 0?"), "completions": completions, "answer": n })
            .to_string()
    };
    std::fs::write(&input, [group(1), group(2)].join("\n")).unwrap();
    let input = input.to_string_lossy();
    let config = ["configs/quickstart.toml", "reward.judge.kind=rule", "serve.group_size=4"];
    let load = ["--rate", "40", "--seconds", "1", "--turns", "1", "--input", &input];
    let line = succeed(&[&["bench", "server"][..], &config, &load].concat());
    let figures: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&figures["requests"], &figures["failed"]), (&json!(40), &json!(0)), "{line}");
    assert!(figures["p50_ms"].as_f64() > Some(0.0), "{line}");
    assert_eq!(figures["costs"]["groups"], 2, "{line}");
}
