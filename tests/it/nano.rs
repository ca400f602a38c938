//! The shipped models have the accuracy and size that data/README.md states.

use joust_data::{Split, TaskConfig};
use joust_schema::seed::Seed;
use serde_json::{Value, json};

use crate::binary::{arg, file, root, succeed};

fn judge(pairs: &[Value], name: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> = pairs.iter().map(Value::to_string).collect();
    let input = file(dir.path(), name, &lines.join("\n"));
    let config = arg(&root().join("configs/quickstart.toml"));
    let output = arg(&dir.path().join("verdicts"));
    let args = [
        "judge",
        &config,
        "--input",
        &input,
        "--output",
        &output,
        "--votes",
        "2",
        "--json",
        "reward.judge.temperature=0",
    ];
    serde_json::from_str(&succeed(&args)).unwrap()
}

/// Held-out pairs by how many of the two answers are right.
fn pairs(n: usize, n_right: usize) -> Vec<Value> {
    let config = TaskConfig { split: Split::Eval, ..TaskConfig::default() };
    (0..)
        .map(|idx| joust_data::judge_pair(&config, Seed::new(77), idx))
        .filter(|pair| usize::from(pair.first_right) + usize::from(pair.second_right) == n_right)
        .take(n)
        .map(|pair| {
            let mut row = json!({
                "prompt": pair.question,
                "completion_a": pair.answer_first,
                "completion_b": pair.answer_second,
            });
            if n_right == 1 {
                row["winner"] = json!(if pair.first_right { "a" } else { "b" });
            }
            row
        })
        .collect()
}

#[test]
fn nano_judge_is_right_in_both_orders() {
    let figures = judge(&pairs(300, 1), "one-right.jsonl");
    for key in ["accuracy_better_first", "accuracy_better_second"] {
        let accuracy = figures[key].as_f64().unwrap();
        assert!(accuracy >= 0.97, "{key} {figures}");
    }
}

#[test]
fn nano_judge_reads_answers_in_unknown_words() {
    let text = std::fs::read_to_string(root().join("data/prompts/judge-unknown-answers.jsonl"));
    let figures = judge(&crate::binary::json_lines(&text.unwrap()), "unknown.jsonl");
    assert!(figures["accuracy"].as_f64().unwrap() >= 0.93, "{figures}");
    assert_eq!(figures["invalid_votes"], 0);
}

#[test]
fn nano_judge_votes_evenly_on_two_right_or_two_wrong_answers() {
    for n_right in [0, 2] {
        let figures = judge(&pairs(100, n_right), "equal.jsonl");
        let n_invalid = figures["invalid_votes"].as_u64().unwrap();
        assert!(n_invalid <= 4, "{n_right} right: {figures}");
        let first = figures["first_share"].as_f64().unwrap();
        assert!((0.2..0.8).contains(&first), "{n_right} right: {figures}");
    }
}

#[test]
fn nano_policy_is_weak_and_nano_models_are_small() {
    let dir = tempfile::tempdir().unwrap();
    let eval = std::fs::read_to_string(root().join("data/prompts/arithmetic-eval.jsonl")).unwrap();
    let rows: Vec<Value> = eval.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let output = arg(&dir.path().join("samples.jsonl"));
    let args = [
        "generate",
        "--model",
        "data/models/nano-policy",
        "--chat",
        "--max-tokens",
        "96",
        "--input",
        "data/prompts/arithmetic-eval.jsonl",
        "--output",
        &output,
    ];
    succeed(&args);
    let samples = std::fs::read_to_string(&output).unwrap();
    let n_right = samples
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|sample| {
            let answer = rows[sample["prompt_idx"].as_u64().unwrap() as usize]["answer"].as_str();
            joust_reward::rule::is_correct(sample["text"].as_str().unwrap(), answer.unwrap())
        })
        .count();
    let accuracy = n_right as f64 / rows.len() as f64;
    assert!((0.30..0.60).contains(&accuracy), "{accuracy}");
    let bytes: u64 = ["nano-policy", "nano-rrm"]
        .iter()
        .flat_map(|name| std::fs::read_dir(root().join("data/models").join(name)).unwrap())
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes < 25_000_000, "{bytes}");
}
