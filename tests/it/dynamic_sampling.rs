//! Runs that replace groups without spread by groups of new prompts: what is trained on, what the
//! files and metrics say, and where the prompts end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use joust_schema::parquet;
use joust_schema::tables::{Reward, Rollout, Vote};

use crate::binary::{joust, succeed, told, within_minutes};
use crate::held_judge::{JudgeServer, Manner};
use crate::stopped::Begun;
use crate::train::{args, metrics, same};

/// A run on known answers: many groups are all right or all wrong.
fn known(dir: &Path, more: &[&str]) -> Vec<String> {
    let small = ["reward.kind=correct", "train.prompts_per_step=4", "eval.max_prompts=2"];
    args(dir, &[&small[..], more].concat())
}

/// The rewards of each group of a step, in the order of the table.
fn groups(run: &Path, step: u64) -> Vec<Vec<Reward>> {
    let path = run.join(format!("step_{step:05}/rewards.parquet"));
    let rows: Vec<Reward> = parquet::read(&path).unwrap();
    rows.chunk_by(|a, b| a.group_id == b.group_id).map(<[Reward]>::to_vec).collect()
}

fn has_spread(group: &[Reward]) -> bool {
    group.iter().any(|row| row.reward != group[0].reward)
}

#[test]
fn groups_without_spread_are_replaced_and_not_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    succeed(&known(dir.path(), &["train.max_refills=3"]));
    let run = dir.path().join("short");
    let mut n_refilled = 0.0;
    for (step, metrics) in metrics(&run).iter().enumerate().skip(1) {
        let number = |name: &str| metrics[name].as_f64().unwrap();
        let groups = groups(&run, step as u64);
        // all groups that were scored are there, under ids that go on
        let ids: Vec<String> = groups.iter().map(|rows| rows[0].group_id.0.clone()).collect();
        let wanted = (0..groups.len()).map(|at| format!("{step:05}-{at:04}"));
        assert_eq!(ids, wanted.collect::<Vec<_>>());
        let path = run.join(format!("step_{step:05}/rollouts.parquet"));
        let rollouts: Vec<Rollout> = parquet::read(&path).unwrap();
        let prompts: BTreeMap<_, _> =
            rollouts.iter().map(|row| (&row.prompt_id.0, &row.group_id.0)).collect();
        assert_eq!((prompts.len(), rollouts.len()), (groups.len(), groups.len() * 4));

        let n_with_spread = groups.iter().filter(|rows| has_spread(rows)).count();
        let n_before = groups[..4].iter().filter(|rows| !has_spread(rows)).count();
        assert_eq!(number("groups/scored"), groups.len() as f64);
        assert_eq!(number("groups/with_spread"), n_with_spread as f64);
        assert_eq!(number("groups/refilled"), groups.len() as f64 - 4.0);
        assert_eq!(number("groups/no_spread_ratio_before_refill"), n_before as f64 / 4.0);
        assert!(n_with_spread == 4 || number("groups/refill_rounds") == 3.0);
        n_refilled += number("groups/refilled");
        // what has spread is trained on, and nothing else, unless nothing has
        let trained = |row: &Reward| row.advantage.is_some();
        for rows in &groups {
            let is_trained = has_spread(rows) || n_with_spread == 0;
            assert!(rows.iter().all(|row| trained(row) == is_trained), "{rows:?}");
        }
        // the metrics of rewards and completions are those of all groups
        let rewards = groups.concat();
        let known: Vec<f64> = rewards.iter().filter_map(|row| row.reward).collect();
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        assert!((number("reward") - mean).abs() < 1e-12);
        assert!((number("accuracy") - mean).abs() < 1e-12, "the reward is the correctness");
        let lengths = rollouts.iter().map(|row| row.completion_token_ids.len() as f64);
        let mean_length = lengths.sum::<f64>() / rollouts.len() as f64;
        assert!((number("completions/mean_length") - mean_length).abs() < 1e-9);
        assert_eq!(number("updates"), if n_with_spread > 0 { 1.0 } else { 0.0 });
        assert_eq!(metrics.contains_key("loss"), n_with_spread > 0);
    }
    assert!(n_refilled > 0.0);
    // without the key, nothing is replaced and all are trained on
    let plain = dir.path().join("plain");
    succeed(&known(&plain, &["train.steps=2"]));
    let first = groups(&plain.join("short"), 1);
    assert_eq!(first.len(), 4);
    assert!(first.concat().iter().all(|row| row.advantage.is_some()));
    assert!(!metrics(&plain.join("short"))[1].contains_key("groups/refilled"));
    // and the first groups of a step are the same with it
    let replaced = groups(&run, 1);
    let rewards = |groups: &[Vec<Reward>]| -> Vec<Option<f64>> {
        groups.concat().iter().map(|row| row.reward).collect()
    };
    assert_eq!(rewards(&replaced[..4]), rewards(&first));
}

#[test]
fn run_with_refills_that_is_killed_ends_in_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (once, killed) = (dir.path().join("once"), dir.path().join("killed"));
    // two rounds of a judge, each with a position bias of its own
    let judged = |dir: &Path, more: &[&str]| {
        let tied = "reward.parts=[{ kind = \"correct\" }, { kind = \"judge\", weight = 0.001 }]";
        let more = [&["train.max_refills=2", "rollout.temperature=0.3", tied][..], more].concat();
        args(dir, &more)
    };
    succeed(&judged(&once, &[]));
    let refilled = metrics(&once.join("short"));
    let refilled = refilled.iter().filter_map(|row| row.get("groups/refilled")?.as_f64());
    assert!(refilled.sum::<f64>() > 0.0);
    let mut child =
        joust(&judged(&killed, &[])).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    while !killed.join("short/checkpoints/step_00002").exists() {
        assert!(Instant::now() < until, "no checkpoint was written");
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it was killed");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let output = within_minutes(&joust(&judged(&killed, &["--resume"]))).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    assert!(told(&output).contains("Going on after step"), "{}", told(&output));
    same(&once.join("short"), &killed.join("short"));
}

#[test]
fn step_that_needs_further_groups_is_given_up_at_a_stop_and_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let server = JudgeServer::start(Manner::Answers);
    let judged = |name: &str, more: &[&str]| {
        // the recorded log-probabilities depend on earlier cached prefixes in their last bits
        let small = ["train.max_refills=2", "rollout.temperature=0.3", "eval.every=0"];
        let small = [&small[..], &["checkpoint.every=0", "rollout.engine.prefix_cache=false"]];
        let server = server.overrides();
        let server: Vec<&str> = server.iter().map(String::as_str).collect();
        args(&dir.path().join(name), &[&small.concat()[..], &server, more].concat())
    };
    succeed(&judged("whole", &[]));
    let whole = dir.path().join("whole/short");
    let votes = |step: u64| -> Vec<Vote> {
        parquet::read(&whole.join(format!("step_{step:05}/votes.parquet"))).unwrap()
    };
    let n_votes = |steps: Range<u64>| steps.map(|step| votes(step).len()).sum::<usize>();
    assert_eq!(server.n_calls(), n_votes(1..5), "each vote is a call");
    // a step whose first round is judged, and not its last one
    let metrics = metrics(&whole);
    let rows = metrics.iter().filter_map(|row| Some((row["step"].as_u64()?, row)));
    let is_first_round = |vote: &Vote| {
        let group = &vote.match_id.0[6..10];
        group.parse::<usize>().unwrap() < 3
    };
    let mut rows = rows.filter(|(step, row)| {
        *step > 1
            && row["groups/refilled"].as_f64() > Some(0.0)
            && votes(*step).iter().any(is_first_round)
    });
    let step = rows.next().expect("a step replaces groups").0;

    let broken = dir.path().join("broken/short");
    server.hold_after(n_votes(1..step));
    let mut run = Begun::new(&judged("broken", &[]));
    server.wait_for_a_held_call();
    run.send("-INT");
    run.wait_for("Stopping after this step; a second signal ends at once.");
    server.set(Manner::Answers);
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains(&format!("Step {step} needs further groups")), "{said}");
    let wanted = format!("Stopped after step {}, which is saved.", step - 1);
    assert!(said.contains(&wanted), "{said}");
    assert!(!broken.join(format!("step_{step:05}")).exists());
    succeed(&judged("broken", &["--resume"]));
    same(&whole, &broken);
}

#[test]
fn prompts_of_a_step_are_not_drawn_again_in_it() {
    let dir = tempfile::tempdir().unwrap();
    // six prompts epoch after epoch, and groups that hardly ever have spread
    let few = ["train.max_refills=9", "prompts.max_prompts=6", "rollout.temperature=0.6"];
    succeed(&known(dir.path(), &few));
    let run = dir.path().join("short");
    for step in 1..=4 {
        let path = run.join(format!("step_{step:05}/rollouts.parquet"));
        let rollouts: Vec<Rollout> = parquet::read(&path).unwrap();
        let prompts: BTreeSet<_> = rollouts.iter().map(|row| &row.prompt_id.0).collect();
        let groups: BTreeSet<_> = rollouts.iter().map(|row| &row.group_id.0).collect();
        assert_eq!(prompts.len(), groups.len(), "step {step}");
        assert!(prompts.len() > 4 || step > 1, "groups are replaced while there are others");
    }
}

#[test]
fn step_that_meets_the_end_of_the_prompts_is_trained_with_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let few = ["train.max_refills=9", "prompts.epochs=1", "prompts.max_prompts=6"];
    let output = within_minutes(&joust(&known(dir.path(), &few))).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    assert!(told(&output).contains("The prompts are used up"), "{}", told(&output));
    let run = dir.path().join("short");
    let n_groups: usize = (1..=2)
        .filter(|step| run.join(format!("step_{step:05}")).exists())
        .map(|step| groups(&run, step).len())
        .sum();
    assert_eq!(n_groups, 6, "each prompt is used once");
}
