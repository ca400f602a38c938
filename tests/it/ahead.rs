//! Runs that sample steps ahead of the one that they train on.

use std::path::Path;

use joust_schema::parquet;
use joust_schema::tables::Rollout;

use crate::binary::{file, joust, succeed, told};
use crate::ranks::{self, Ranks};
use crate::train::{args, metrics, same};

/// Groups differ, so that every step has an update.
const SPREAD: &str = "rollout.temperature=2.0";

fn rollouts(run: &Path, step: u64) -> Vec<Rollout> {
    parquet::read(&run.join(format!("step_{step:05}/rollouts.parquet"))).unwrap()
}

/// The prompts and completions of a step.
fn texts(run: &Path, step: u64) -> Vec<(String, Vec<i32>)> {
    let rows = rollouts(run, step).into_iter();
    rows.map(|row| (row.prompt_id.to_string(), row.completion_token_ids)).collect()
}

fn versions(run: &Path, step: u64) -> Vec<i64> {
    let mut versions: Vec<i64> =
        rollouts(run, step).iter().map(|row| row.policy_version.0).collect();
    versions.dedup();
    versions
}

fn n_steps(run: &Path) -> usize {
    metrics(run).iter().filter(|line| line.contains_key("num_tokens")).count()
}

/// A part of the reward that differs within every group. It answers as many groups, and no more
/// while the file that it leaves then is there.
fn hashed(dir: &Path, n_groups: usize) -> String {
    let gone = file(dir, "gone", "");
    std::fs::remove_file(&gone).unwrap();
    let program = file(
        dir,
        "reward.py",
        &format!(
            "import json, os, sys\n\
             for n, line in zip(range({n_groups}), sys.stdin):\n    \
             assert not os.path.exists('{gone}')\n    \
             group = json.loads(line)\n    \
             texts = [json.dumps(text) for text in group['completions']]\n    \
             rewards = [float(sum(map(ord, text)) % 97) for text in texts]\n    \
             print(json.dumps({{'id': group['id'], 'rewards': rewards}}), flush=True)\n    \
             n + 1 < {n_groups} or open('{gone}', 'w').close()\n"
        ),
    );
    format!("reward.parts=[{{ kind = \"command\", run = [\"python3\", \"{program}\"] }}]")
}

#[test]
fn steps_ahead_are_of_the_policy_of_that_many_steps_before_and_repeat_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let part = hashed(dir.path(), 1000);
    let run = |name: &str, more: &[&str]| {
        let folder = dir.path().join(name);
        succeed(&args(&folder, &[&[&part, "train.steps=5", SPREAD], more].concat()));
        folder.join("short")
    };
    let frozen = run("frozen", &["trainer.learner.optim.lr=1e-12"]);
    let two = run("two", &["train.ahead=2"]);
    for (step, version) in [(1, 0), (2, 0), (3, 0), (4, 1), (5, 2)] {
        assert_eq!(versions(&two, step), [version], "step {step}");
        let is_first = texts(&two, step) == texts(&frozen, step);
        assert!(is_first || version > 0, "step {step}");
    }
    let behind = |name: &str| -> Vec<f64> {
        metrics(&two).iter().filter_map(|line| line.get(name)?.as_f64()).collect()
    };
    assert_eq!(behind("sampling/updates_behind"), [0.0, 1.0, 2.0, 2.0, 2.0]);
    same(&two, &run("again", &["train.ahead=2"]));
    let zero = run("zero", &[]);
    assert!(texts(&two, 5) != texts(&zero, 5));
    assert!(metrics(&zero).iter().all(|line| !line.contains_key("sampling/updates_behind")));
}

#[test]
fn run_that_goes_on_samples_the_steps_under_way_anew_and_leaves_no_prompt_out() {
    let dir = tempfile::tempdir().unwrap();
    let part = hashed(dir.path(), 1000);
    let more = [&part[..], SPREAD, "train.ahead=1", "trainer.learner.optim.schedule.kind=constant"];
    let whole = dir.path().join("whole");
    succeed(&args(&whole, &more));
    let parts = dir.path().join("parts");
    succeed(&args(&parts, &[&more[..], &["train.steps=2"]].concat()));
    succeed(&args(&parts, &[&more[..], &["--resume"]].concat()));
    let [whole, parts] = [whole, parts].map(|it| it.join("short"));
    let prompts =
        |run: &Path, step| texts(run, step).into_iter().map(|it| it.0).collect::<Vec<_>>();
    for step in 1..=4 {
        assert_eq!(prompts(&whole, step), prompts(&parts, step), "step {step}");
    }
    assert_eq!([3, 4].map(|step| versions(&whole, step)), [[1], [2]]);
    assert_eq!([3, 4].map(|step| versions(&parts, step)), [[2], [2]]);
    assert_eq!(n_steps(&parts), 4);
}

#[test]
fn failure_of_a_step_ahead_loses_none_of_the_steps_before() {
    let dir = tempfile::tempdir().unwrap();
    let part = hashed(dir.path(), 6);
    let more = [&part[..], SPREAD, "train.ahead=1", "checkpoint.every=0", "eval.every=2"];
    let output = joust(&args(dir.path(), &more)).output().unwrap();
    let error = told(&output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("step 3: part `command`"), "{error}");
    let run = dir.path().join("short");
    assert_eq!(n_steps(&run), 2, "{error}");
    assert!(run.join("checkpoints/step_00002").exists(), "{error}");
    std::fs::remove_file(dir.path().join("gone")).unwrap();
    succeed(&args(dir.path(), &[&more[..], &["--resume"]].concat()));
    assert_eq!(n_steps(&run), 4);
}

#[test]
fn ranks_sample_ahead_together() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let more = ["reward.kind=correct", "train.ahead=1", "train.max_refills=1"];
    succeed(&ranks::args(dir, "alone", &more));
    Ranks::succeed(dir, &ranks::args(dir, "two", &more), 2);
    let names = ["loss", "grad_norm", "reward", "eval/accuracy", "groups/refilled", "num_tokens"];
    ranks::near(&ranks::metrics(dir, "alone"), &ranks::metrics(dir, "two"), &names);
}
