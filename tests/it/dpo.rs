//! `joust dpo` as users run it: pairs in, a model out that prefers what they prefer.

use std::path::Path;

use serde_json::{Value, json};

use crate::binary::{arg, file, joust, json_lines, refuse, root, succeed, told};

/// Pairs of the arithmetic task: the known answer is chosen, a wrong one rejected.
fn pairs(dir: &Path) -> String {
    let questions = std::fs::read_to_string(root().join("data/prompts/arithmetic-train.jsonl"));
    let pair = |row: &Value| {
        let answer: i64 = row["answer"].as_str().unwrap().parse().unwrap();
        let said = |number: i64| format!("The answer is {number}.");
        let wrong = said(answer - 10);
        json!({"prompt": row["prompt"], "chosen": said(answer), "rejected": wrong}).to_string()
    };
    let rows: Vec<String> = json_lines(&questions.unwrap())[..96].iter().map(pair).collect();
    file(dir, "pairs.jsonl", &rows.join("\n"))
}

fn args<'a>(name: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    let plain = ["dpo", "configs/dpo.toml", "trainer.batch_size=16", "data.chat=true"];
    let schedule = "trainer.learner.optim.schedule={ kind = \"constant\", warmup_updates = 0 }";
    let names = name.iter().map(String::as_str);
    plain.into_iter().chain([schedule]).chain(names).chain(more.iter().copied()).collect()
}

fn metrics(dir: &Path, run: &str) -> Vec<Value> {
    json_lines(&std::fs::read_to_string(dir.join(run).join("metrics.jsonl")).unwrap())
}

#[test]
fn dpo_learns_preferences_and_a_resumed_run_ends_in_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let data = format!("data.path={}", pairs(dir.path()));
    let place = format!("run.output_dir={}", arg(dir.path()));
    let run = |name: &str| {
        let export = format!("export.path={}", arg(&dir.path().join(name).join("model")));
        vec![data.clone(), place.clone(), format!("run.name={name}"), export]
    };
    let (whole, parts) = (run("whole"), run("parts"));
    // measuring pairs changes nothing of what is learned
    let measured = data.replace("data.path", "eval.path");
    succeed(&args(&whole, &["trainer.steps=30", &measured, "eval.every=20"]));
    let steps = metrics(dir.path(), "whole");
    let number = |at: usize, name: &str| steps[at][name].as_f64().unwrap();
    // the policy is the reference before its first update
    assert!((number(0, "loss") - std::f64::consts::LN_2).abs() < 1e-6);
    assert_eq!(number(0, "rewards/accuracies"), 0.0);
    let last = number(29, "rewards/accuracies");
    assert!(last > 0.8 && number(29, "loss") < 0.5, "{last}");
    assert!(number(29, "rewards/margins") > 0.2, "{}", steps[29]);

    let measured: Vec<usize> =
        (0..30).filter(|&at| steps[at].get("eval/loss").is_some()).map(|at| at + 1).collect();
    assert_eq!(measured, [20, 30]);
    assert!(number(29, "eval/rewards/accuracies") > 0.8, "{}", steps[29]);
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    for key in steps[29].as_object().unwrap().keys() {
        assert!(page.contains(&format!("| `{key}` |")), "{key} is not in docs/metrics.md");
    }
    assert!(number(29, "eval/rewards/margins") > number(19, "eval/rewards/margins"));

    // 96 pairs, 16 per step: two epochs
    succeed(&args(&parts, &["trainer.epochs=2"]));
    assert_eq!(metrics(dir.path(), "parts").len(), 12);
    std::fs::remove_dir_all(dir.path().join("parts/model")).unwrap();
    succeed(&args(&parts, &["trainer.epochs=5", "--resume"]));
    let weights =
        |name: &str| std::fs::read(dir.path().join(name).join("model/model.safetensors")).unwrap();
    assert!(weights("whole") == weights("parts"));
    assert!(dir.path().join("whole/model/tokenizer.json").exists());
}

#[test]
fn dpo_refreshes_its_reference_and_a_resumed_run_ends_in_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let data = format!("data.path={}", pairs(dir.path()));
    let place = format!("run.output_dir={}", arg(dir.path()));
    let sync = "trainer.sync_ref_model={ every = 2, mixup_alpha = 0.6 }";
    let run = |name: &str, more: &[&str]| {
        let export = format!("export.path={}", arg(&dir.path().join(name).join("model")));
        let name = format!("run.name={name}");
        succeed(&args(&[data.clone(), place.clone(), name, export], more));
    };
    run("plain", &["trainer.steps=6"]);
    run("whole", &["trainer.steps=6", sync]);
    run("parts", &["trainer.steps=3", sync]);
    std::fs::remove_dir_all(dir.path().join("parts/model")).unwrap();
    run("parts", &["trainer.steps=6", sync, "--resume"]);
    let weights =
        |name: &str| std::fs::read(dir.path().join(name).join("model/model.safetensors")).unwrap();
    assert!(weights("whole") == weights("parts"));
    assert!(weights("whole") != weights("plain"));
    // nearer to the policy, the reference gives smaller rewards
    let margin = |run: &str| metrics(dir.path(), run)[5]["rewards/margins"].as_f64().unwrap();
    assert!(margin("whole").abs() < margin("plain").abs());
    let adapters = [sync, "trainer.learner.lora={ r = 2 }"];
    let message = refuse(&args(&[data, place], &adapters));
    assert!(message.contains("sync_ref_model is set with learner.lora"), "{message}");
}

#[test]
fn dpo_measures_held_out_pairs_against_the_reference_that_a_step_has_refreshed() {
    // as TRL, whose refresh is a callback at the end of the step, before the evaluation
    let dir = tempfile::tempdir().unwrap();
    let data = format!("data.path={}", pairs(dir.path()));
    let measured = data.replace("data.path", "eval.path");
    let place = format!("run.output_dir={}", arg(dir.path()));
    let whole = "trainer.sync_ref_model={ every = 2, mixup_alpha = 1.0 }";
    let more = ["run.name=r", "trainer.steps=4", "eval.every=1", &measured, whole];
    succeed(&args(&[data, place], &more));
    for (step, row) in (1..).zip(metrics(dir.path(), "r")) {
        let number = |name: &str| row[name].as_f64().unwrap();
        let distance = (number("eval/loss") - std::f64::consts::LN_2).abs();
        // a refreshed reference is the policy itself
        let is_refreshed = step % 2 == 0;
        assert_eq!(distance < 1e-7, is_refreshed, "step {step}: {distance}");
        assert_eq!(number("eval/rewards/margins").abs() < 1e-7, is_refreshed, "{row}");
    }
}

#[test]
fn dpo_refuses_what_is_no_pair_and_runs_that_learn_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let place = format!("run.output_dir={}", arg(dir.path()));
    let data = |name: &str, text: &str| format!("data.path={}", file(dir.path(), name, text));
    let sft = data("sft.jsonl", r#"{"prompt": "1+1?", "completion": "2"}"#);
    let message = refuse(&args(&[place.clone(), sft], &[]));
    assert!(message.contains("sft.jsonl:1: column `chosen` is missing"), "{message}");
    let row = r#"{"prompt": "1+1?", "chosen": "2", "rejected": "3"}"#;
    let one = data("one.jsonl", row);
    let message = refuse(&args(&[place.clone(), one.clone()], &["trainer.beta=0"]));
    assert!(message.contains("trainer.beta"), "{message}");
    // a name of the loss in `joust train`
    let message = refuse(&args(&[place.clone(), one.clone()], &["trainer.loss_type=ipo"]));
    assert!(message.contains("trainer.loss_type is an unknown key"), "{message}");
    let rendered = data("rendered.jsonl", &row.replace("1+1?", "<｜User｜>1+1?<｜Assistant｜>"));
    let message = refuse(&args(&[place.clone(), rendered], &[]));
    let wanted = "rendered.jsonl:1: the prompt has the control token `<｜User｜>`";
    assert!(message.contains(wanted), "{message}");
    let other = "model.reference=tests/golden/models/tiny-llama";
    let message = refuse(&args(&[place.clone(), one], &[other]));
    assert!(message.contains("the reference has 300 tokens"), "{message}");
    let equal = data("equal.jsonl", &row.replace('3', "2"));
    let output = joust(&args(&[place, equal], &["trainer.steps=4"])).output().unwrap();
    let message = told(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("wanted a prompt, two completions that differ"), "{message}");
}
