//! Whole runs on the shipped models: they repeat to the byte, and a killed run that is resumed ends
//! with the same bytes as a run that was not killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::binary::{file, joust, succeed, told, within_minutes};

/// A short run: its judge is the nano RRM, or the known answers.
pub(crate) fn args(dir: &Path, more: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = ["train", "configs/quickstart.toml", "run.name=short"]
        .into_iter()
        .chain(["train.steps=4", "train.prompts_per_step=3", "rollout.group_size=4"])
        .chain(["rollout.max_completion_length=40", "eval.max_prompts=12", "eval.every=2"])
        .chain(["checkpoint.every=1", "checkpoint.keep_last=0"])
        .map(str::to_owned)
        .collect();
    args.push(format!("run.output_dir={}", dir.display()));
    args.extend(more.iter().map(|&text| text.to_owned()));
    args
}

/// Name and content of every file of a run that must be the same in each run.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_owned();
            // these hold the run's folder, its start and the times of its steps
            let differs = ["run.json", "metrics.jsonl", "config.toml", "starts.jsonl", ".lock"]
                .iter()
                .any(|skip| name == Path::new(skip));
            match path.is_dir() {
                true => open.push(path),
                false if differs => {}
                false => drop(found.insert(name, std::fs::read(path).unwrap())),
            }
        }
    }
    found
}

/// `metrics.jsonl` without times.
pub(crate) fn metrics(dir: &Path) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str(line).unwrap());
    rows.map(|mut row: serde_json::Map<_, _>| {
        row.retain(|key, _| {
            !key.starts_with("time/") && key != "step_time" && key != "tokens_per_second"
        });
        row
    })
    .collect()
}

pub(crate) fn same(a: &Path, b: &Path) {
    let (a_files, b_files) = (files(a), files(b));
    let only = |files: &BTreeMap<PathBuf, Vec<u8>>, others: &BTreeMap<PathBuf, Vec<u8>>| {
        files.keys().filter(|name| !others.contains_key(*name)).cloned().collect::<Vec<_>>()
    };
    let nothing: Vec<PathBuf> = Vec::new();
    assert_eq!(only(&a_files, &b_files), nothing, "only in {}", a.display());
    assert_eq!(only(&b_files, &a_files), nothing, "only in {}", b.display());
    for (name, content) in &a_files {
        assert!(*content == b_files[name], "{} differs", name.display());
    }
    assert_eq!(metrics(a), metrics(b));
}

#[test]
fn train_gives_the_same_bytes_for_the_same_seed_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| dir.path().join(name);
    for name in ["once", "again"] {
        succeed(&args(&folder(name), &[]));
    }
    same(&folder("once/short"), &folder("again/short"));
    let manifest = joust_schema::manifest::read(&folder("once/short")).unwrap();
    assert_eq!(manifest.len(), 4 * 5);
    for entry in &manifest {
        let content = std::fs::read(folder("once/short").join(&entry.file)).unwrap();
        assert_eq!(blake3::hash(&content).to_hex().to_string(), entry.blake3);
    }

    let mut child = joust(&args(&folder("killed"), &[]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !folder("killed/short/checkpoints/step_00002").exists() {
        assert!(Instant::now() < deadline, "no checkpoint was written");
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it was killed");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // what a kill in the middle of a write leaves
    std::fs::create_dir(folder("killed/short/checkpoints/step_00009.tmp")).unwrap();
    std::fs::write(folder("killed/short/step_00001/votes.parquet.tmp"), "half").unwrap();
    for log in ["manifest.jsonl", "metrics.jsonl"] {
        let path = folder("killed/short").join(log);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"step\": 2, \"fi");
        std::fs::write(&path, text).unwrap();
    }
    let output = joust(&args(&folder("killed"), &["--resume"])).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    assert!(told(&output).contains("Going on after step"), "{}", told(&output));
    std::fs::remove_file(folder("killed/short/step_00001/votes.parquet.tmp")).ok();
    same(&folder("once/short"), &folder("killed/short"));

    // a run is not resumed with another config
    let output = joust(&args(&folder("killed"), &["--resume", "trainer.num_iterations=2"]))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("key `trainer.num_iterations` differs"), "{}", told(&output));
    // a start that is refused leaves no trace
    let starts = || std::fs::read_to_string(folder("killed/short/starts.jsonl")).unwrap();
    let before = starts();
    let output = joust(&args(&folder("killed"), &["--resume", "train.steps=1"])).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert_eq!(starts(), before);
    // it may go on for longer, at another place; its first start and the change are noted
    let first = std::fs::read_to_string(folder("killed/short/run.json")).unwrap();
    std::fs::rename(folder("killed"), folder("moved")).unwrap();
    let longer = joust(&args(&folder("moved"), &["--resume", "train.steps=5"])).output().unwrap();
    assert!(longer.status.success(), "{}", told(&longer));
    assert!(told(&longer).contains("Changed since the last start"), "{}", told(&longer));
    assert!(folder("moved/short/checkpoints/step_00005").exists());
    assert_eq!(std::fs::read_to_string(folder("moved/short/run.json")).unwrap(), first);
    let starts = std::fs::read_to_string(folder("moved/short/starts.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(starts.lines().last().unwrap()).unwrap();
    assert_eq!(last["changes"]["train.steps"], serde_json::json!({"from": 4, "to": 5}));
    assert_eq!(last["resumed_from_step"], 4);
    // the resolved config starts the same run again
    let resolved = folder("once/short/config.toml").display().to_string();
    let output_dir = format!("run.output_dir={}", folder("resolved").display());
    succeed(&["train", &resolved, &output_dir]);
    same(&folder("once/short"), &folder("resolved/short"));
}

#[test]
fn train_stops_at_a_failing_judge_or_masks_its_groups_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("short");
    // no verdict fits into two tokens
    let failing = ["reward.judge.max_thinking_tokens=2", "train.steps=2"];
    let output = joust(&args(dir.path(), &failing)).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    for part in ["step 1: ", "reward.max_failed = 0.5", "no verdict in a vote that says"] {
        assert!(told(&output).contains(part), "{}", told(&output));
    }
    assert!(!run.join("step_00001").exists() && !run.join("checkpoints").exists());
    // the folder does not keep another config from starting
    let going_on = [&failing[..], &["reward.max_failed=1"]].concat();
    let output = joust(&args(dir.path(), &going_on)).output().unwrap();
    // and a run without any update is no success
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("updates 0 spread 0/3 failed "), "{}", told(&output));
    let wanted = "error: no update was made in 2 steps: ";
    assert!(told(&output).contains(wanted), "{}", told(&output));
    let rewards: Vec<joust_schema::tables::Reward> =
        joust_schema::parquet::read(&run.join("step_00001/rewards.parquet")).unwrap();
    let matches: Vec<joust_schema::tables::Match> =
        joust_schema::parquet::read(&run.join("step_00001/matches.parquet")).unwrap();
    assert!(!matches.is_empty());
    for row in &rewards {
        let status = if matches.iter().any(|played| played.group_id == row.group_id) {
            assert_eq!((row.reward, row.advantage), (None, None));
            joust_schema::tables::Status::JudgeFailed
        } else {
            // equal completions are equal without a judge
            assert_eq!((row.reward, row.advantage), (Some(0.5), Some(0.0)));
            joust_schema::tables::Status::Scored
        };
        assert_eq!(row.status, status);
    }
    let last = metrics(&run).pop().unwrap();
    assert_eq!(last["updates"], 0.0);
    assert!(!last.contains_key("loss"), "a step without an update has no loss");
    assert!(last["frac_reward_missing"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_damaged_checkpoint_is_named_with_the_one_to_go_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let small = ["train.steps=2", "train.prompts_per_step=1", "eval.every=0", "eval.max_prompts=1"];
    succeed(&args(dir.path(), &small));
    let more = [&small[1..], &["train.steps=3", "--resume"]].concat();
    let resume = || joust(&args(dir.path(), &more)).output().unwrap();
    let checkpoint = |step: u32| dir.path().join(format!("short/checkpoints/step_{step:05}"));
    for (step, file) in [
        (2, "model.safetensors"),
        (1, "trainer_state/shard-00001-model-00001-of-00001.safetensors"),
    ] {
        let path = checkpoint(step).join(file);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let output = resume();
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        let older = match step {
            2 => format!("goes on from {}", checkpoint(1).display()),
            _ => "there is no older one; start over with --clean".to_owned(),
        };
        let named = format!("checkpoint {} cannot be used: ", checkpoint(step).display());
        for wanted in [named.as_str(), file, older.as_str()] {
            assert!(told(&output).contains(wanted), "{wanted}: {}", told(&output));
        }
        match step {
            2 => std::fs::remove_dir_all(checkpoint(2)).unwrap(),
            _ => std::fs::write(&path, &bytes).unwrap(),
        }
    }
    let output = resume();
    assert!(told(&output).contains("Going on after step 1."), "{}", told(&output));
    assert!(output.status.success() && checkpoint(3).exists(), "{}", told(&output));
}

#[test]
fn train_stops_where_all_completions_are_truncated_and_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let short = ["rollout.max_completion_length=2", "trainer.mask_truncated_completions=true"];
    let output = joust(&args(dir.path(), &short)).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    for part in ["step 1: all ", "rollout.max_completion_length = 2", "--resume"] {
        assert!(told(&output).contains(part), "{}", told(&output));
    }
    assert!(!dir.path().join("short/step_00001").exists());
    // a run that has learned goes on: such a step has no update, and the length may change
    let unlucky = dir.path().join("unlucky");
    let mask = "trainer.mask_truncated_completions=true";
    succeed(&args(&unlucky, &["train.steps=2", mask]));
    let longer = [&short[..], &["train.steps=4", "--resume"]].concat();
    let output = within_minutes(&joust(&args(&unlucky, &longer))).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    assert!(told(&output).contains("All completions were truncated"), "{}", told(&output));
    let steps = metrics(&unlucky.join("short"));
    let updates: Vec<f64> = steps.iter().filter_map(|step| step.get("updates")?.as_f64()).collect();
    assert!(updates.len() == 4 && updates[..2].iter().sum::<f64>() > 0.0, "{updates:?}");
    assert_eq!(updates[2..], [0.0, 0.0]);
    let starts = std::fs::read_to_string(unlucky.join("short/starts.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(starts.lines().last().unwrap()).unwrap();
    let change = &last["changes"]["rollout.max_completion_length"];
    assert_eq!(*change, serde_json::json!({"from": 40, "to": 2}));
    // with such engines no run begins, and none is deleted
    let run = dir.path().join("short");
    succeed(&args(dir.path(), &["train.steps=2"]));
    let before = std::fs::read(run.join("metrics.jsonl")).unwrap();
    let tight = ["--clean", "train.steps=2", "rollout.engine.step_tokens=1"];
    let output = joust(&args(dir.path(), &tight)).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert_eq!(std::fs::read(run.join("metrics.jsonl")).unwrap(), before);
}

#[test]
fn train_tells_of_held_out_prompts_that_cannot_be_sampled_from() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{{\"prompt\": \"{}\", \"answer\": 1}}", "1 + 2 ".repeat(4000));
    let prompts = |name: &str, rows: &[&str]| {
        format!("eval.path={}", file(dir.path(), name, &rows.join("\n")))
    };
    let some = prompts("some.jsonl", &["{\"prompt\": \"1 + 2\", \"answer\": 3}", &long]);
    let rule = ["train.steps=2", "reward.kind=correct"];
    let some = args(&dir.path().join("some"), &[&rule[..], &[&some]].concat());
    let output = within_minutes(&joust(&some)).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let wanted = "Held-out prompts cannot be sampled from and count as wrong";
    assert!(told(&output).contains(wanted), "{}", told(&output));
    let steps = metrics(&dir.path().join("some/short"));
    assert_eq!((&steps[0]["eval/dropped_prompts"], steps.len()), (&serde_json::json!(1.0), 3));
    let none = prompts("none.jsonl", &[&long]);
    let none = args(&dir.path().join("none"), &[&rule[..], &[&none]].concat());
    let output = within_minutes(&joust(&none)).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    let wanted = "error: eval.path: none of 1 held-out prompts can be sampled from";
    assert!(told(&output).contains(wanted), "{}", told(&output));
}

#[test]
fn train_takes_a_rule_as_the_reward_and_documents_every_metric() {
    let dir = tempfile::tempdir().unwrap();
    let more = [
        "reward.kind=correct",
        "trainer.loss.kl.weight=0.01",
        "trainer.num_iterations=2",
        "rollout.workers=2",
    ];
    let text = succeed(&args(dir.path(), &more));
    assert!(text.contains("Accuracy on held-out prompts"), "{text}");
    let page = succeed(&["docs", "--dir", &dir.path().join("docs").display().to_string()]);
    assert!(page.contains("metrics.md"));
    let page = std::fs::read_to_string(dir.path().join("docs/metrics.md")).unwrap();
    let run = dir.path().join("short");
    let raw = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    for line in raw.lines() {
        let row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        for key in row.keys() {
            assert!(page.contains(&format!("| `{key}` |")), "{key} is not in docs/metrics.md");
        }
    }
}

#[test]
fn train_that_makes_no_update_at_all_fails_and_exports_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("exported");
    let export_path = format!("export.path={}", export.display());
    // one token is no answer
    let mute = ["reward.kind=correct", "rollout.max_completion_length=1", "train.steps=2"];
    let mute = [&mute[..], &["eval.every=0", &export_path]].concat();
    let output = within_minutes(&joust(&args(dir.path(), &mute))).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let wanted = "error: no update was made in 2 steps: the rewards of completions in the loss \
                  never differed within a group (in the last step, all of its 12 completions \
                  reached rollout.max_completion_length); the model is not exported; look at";
    assert!(told(&output).contains(wanted), "{}", told(&output));
    assert!(!export.exists() && dir.path().join("short/checkpoints/step_00002").exists());
    // nor is it one to go on at its end; with more tokens it goes on and learns
    let again = [&mute[..], &["--resume"]].concat();
    let output = within_minutes(&joust(&args(dir.path(), &again))).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("no update was made in 2 steps"), "{}", told(&output));
    let longer = [&again[..], &["rollout.max_completion_length=40", "train.steps=6"]].concat();
    let output = within_minutes(&joust(&args(dir.path(), &longer))).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    assert!(export.join("model.safetensors").exists());
    // a run that is over stays so
    let output = within_minutes(&joust(&args(dir.path(), &longer))).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    // of an export that nobody wanted nothing is said, and one step is not "1 steps"
    let mute = ["reward.kind=correct", "rollout.max_completion_length=1", "train.steps=1"];
    let no_warmup = "trainer.learner.optim.schedule.warmup_updates=0";
    let mute = [&mute[..], &["eval.every=0", no_warmup]].concat();
    let output = within_minutes(&joust(&args(&dir.path().join("other"), &mute))).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let wanted = "error: no update was made in 1 step: the rewards of completions";
    assert!(told(&output).contains(wanted), "{}", told(&output));
    assert!(!told(&output).contains("exported"), "{}", told(&output));
}

#[test]
fn train_refreshes_its_reference_and_a_resumed_run_ends_in_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let sync = "trainer.sync_ref_model={ every = 1, mixup_alpha = 0.5 }";
    let plain = ["reward.kind=correct", "trainer.loss.kl.weight=0.1"];
    let refreshed = [&plain[..], &[sync]].concat();
    let folder = |name: &str| dir.path().join(name);
    succeed(&args(&folder("plain"), &plain));
    succeed(&args(&folder("whole"), &refreshed));
    succeed(&args(&folder("parts"), &refreshed));
    let last = |name: &str| metrics(&folder(name).join("short")).pop().unwrap();
    assert!(last("whole")["kl"] != last("plain")["kl"], "{:?}", last("whole"));
    // the newest checkpoint is lost
    std::fs::remove_dir_all(folder("parts/short/checkpoints/step_00004")).unwrap();
    succeed(&args(&folder("parts"), &[&refreshed[..], &["--resume"]].concat()));
    same(&folder("whole/short"), &folder("parts/short"));
    let reference = "short/checkpoints/step_00004/trainer_state/reference.safetensors";
    assert!(folder("whole").join(reference).exists() && !folder("plain").join(reference).exists());
    let output = joust(&args(&folder("none"), &["reward.kind=correct", sync])).output().unwrap();
    assert!(told(&output).contains("wanted loss.kl.weight above 0"), "{}", told(&output));
}
