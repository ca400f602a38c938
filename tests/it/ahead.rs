//! Runs that sample steps ahead of the one that they train on.

use std::path::Path;

use joust_schema::parquet;
use joust_schema::tables::Rollout;

use crate::binary::{file, refuse, succeed};
use crate::ranks::{self, Ranks};
use crate::train::{args, metrics, same};

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

#[test]
fn steps_ahead_are_of_the_policy_of_that_many_steps_before_and_repeat_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let by_rule = ["reward.kind=correct", "train.steps=5", "rollout.temperature=1.6"];
    let run = |name: &str, more: &[&str]| {
        let folder = dir.path().join(name);
        succeed(&args(&folder, &[&by_rule[..], more].concat()));
        folder.join("short")
    };
    let frozen = run("frozen", &["trainer.learner.optim.lr=0"]);
    let two = run("two", &["train.ahead=2"]);
    for (step, version) in [(1, 0), (2, 0), (3, 0), (4, 1), (5, 2)] {
        assert_eq!(versions(&two, step), [version], "step {step}");
        let is_first = texts(&two, step) == texts(&frozen, step);
        assert_eq!(is_first, version == 0, "step {step}");
    }
    let behind = |name: &str| -> Vec<f64> {
        metrics(&two).iter().map(|line| line[name].as_f64().unwrap()).collect()
    };
    assert_eq!(behind("sampling/updates_behind"), [0.0, 1.0, 2.0, 2.0, 2.0]);
    same(&two, &run("again", &["train.ahead=2"]));
    let zero = run("zero", &[]);
    same(&zero, &run("none", &["train.ahead=0"]));
    assert!(metrics(&zero).iter().all(|line| !line.contains_key("sampling/updates_behind")));
}

#[test]
fn run_that_goes_on_samples_the_steps_under_way_anew_and_leaves_no_prompt_out() {
    let dir = tempfile::tempdir().unwrap();
    let more =
        ["reward.kind=correct", "train.ahead=1", "trainer.learner.optim.schedule.kind=constant"];
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
    assert_eq!(metrics(&parts).len(), 4);
}

#[test]
fn failure_of_a_step_ahead_loses_none_of_the_steps_before() {
    let dir = tempfile::tempdir().unwrap();
    // answers the groups of two steps, and ends
    let program = file(
        dir.path(),
        "reward.py",
        "import json, sys\n\
         for n, line in zip(range(6), sys.stdin):\n    \
         group = json.loads(line)\n    \
         rewards = [float(len(text) % 3) for text in group['completions']]\n    \
         print(json.dumps({'id': group['id'], 'rewards': rewards}), flush=True)\n",
    );
    let parts =
        format!("reward.parts=[{{ kind = \"command\", run = [\"python3\", \"{program}\"] }}]");
    let more = [&parts[..], "train.ahead=1", "checkpoint.every=0", "eval.every=0"];
    let error = refuse(&args(dir.path(), &more));
    assert!(error.contains("command"), "{error}");
    let run = dir.path().join("short");
    let n_steps = metrics(&run).len();
    assert!(n_steps >= 2, "{n_steps}");
    assert!(run.join(format!("checkpoints/step_{n_steps:05}")).exists(), "{error}");
    let right = ["reward.parts=[{kind=\"length\", goal=20}]", "--resume"];
    let error = refuse(&args(dir.path(), &[&right[..], &["train.ahead=1"]].concat()));
    assert!(error.contains("reward.parts"), "{error}");
    succeed(&args(dir.path(), &[&more[..], &["--resume"]].concat()));
    assert_eq!(metrics(&run).len(), 4);
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
