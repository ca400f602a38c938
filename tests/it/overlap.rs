//! Runs whose groups are scored while others are sampled: they repeat to the byte, whatever comes
//! first, and a stop in the middle of both loses nothing.

use std::path::Path;

use crate::binary::{file, succeed};
use crate::held_judge::{JudgeServer, Manner};
use crate::stopped::Begun;
use crate::train::{args, same};

/// A step in which four completions are sampled at a time, so that the first groups are whole long
/// before the last, and come from two workers in no certain order.
const IN_TURNS: [&str; 5] = [
    "train.steps=2",
    "train.prompts_per_step=8",
    "rollout.workers=2",
    "rollout.engine.max_batch=4",
    "eval.every=0",
];

/// A program whose numbers depend on all that it was asked before.
const REMEMBERS: &str = "import json\n\
                         for n, line in enumerate(open(0)):\n    \
                             q = json.loads(line)\n    \
                             size = len(q['completions'])\n    \
                             rewards = [(37 * n + 11 * at) % 23 for at in range(size)]\n    \
                             print(json.dumps({'id': q['id'], 'rewards': rewards}))\n";

/// Seconds in which each step sampled and scored.
fn overlaps(run: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    rows.filter_map(|row| row["time/overlap_s"].as_f64()).collect()
}

#[test]
fn groups_are_scored_while_others_are_sampled_and_the_bytes_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let server = JudgeServer::start(Manner::Answers);
    let program = file(dir.path(), "remembers.py", REMEMBERS);
    let mine =
        format!("{{ kind = \"command\", name = \"mine\", run = [\"python3\", \"{program}\"] }}");
    let parts = |judge: &str| format!("reward.parts=[{{ kind = \"correct\" }}, {judge}{mine}]");
    let judge_always = parts("{ kind = \"judge\" }, ");
    // the program's numbers are no part of the reward, so that there are ties
    let judge_tied =
        parts("{ kind = \"judge\", when = \"tied\" }, ").replace(" }]", ", weight = 0.0 }]");
    let servers = server.overrides();
    let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
    let rule = ["reward.judge.kind=rule"];
    let mut n_overlapping = 0;
    for (name, more) in [
        ("rule", rule.to_vec()),
        ("program", vec![&*parts("")]),
        ("servers", servers.clone()),
        ("always", [&servers[..], &[&*judge_always]].concat()),
        ("tied", [&rule[..], &[&*judge_tied]].concat()),
    ] {
        let place = |time: &str| dir.path().join(format!("{name}-{time}"));
        for time in ["once", "again"] {
            succeed(&args(&place(time), &[&IN_TURNS[..], &more].concat()));
        }
        let once = place("once").join("short");
        same(&once, &place("again").join("short"));
        let overlaps = overlaps(&once);
        assert_eq!(overlaps.len(), 2, "{name}");
        // a loaded machine may sample a whole step before anything else gets a turn
        n_overlapping += overlaps.iter().filter(|took| **took > 0.0).count();
    }
    assert!(n_overlapping > 0);
    // a judge in this process begins with all groups: its last bits depend on what it has at once
    let engine = dir.path().join("engine");
    succeed(&args(&engine, &IN_TURNS));
    assert_eq!(overlaps(&engine.join("short")), [0.0, 0.0]);
}

#[test]
fn run_that_is_stopped_while_it_samples_and_judges_ends_in_the_bytes_of_an_unbroken_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = JudgeServer::start(Manner::Answers);
    let overrides = server.overrides();
    let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
    let more = [&IN_TURNS[..], &overrides].concat();
    let (whole, broken) = (dir.path().join("whole"), dir.path().join("broken"));
    succeed(&args(&whole, &more));
    // the first vote of the run is held: most of its groups are not sampled yet
    server.hold_after(0);
    let mut run = Begun::new(&args(&broken, &more));
    server.wait_for_a_held_call();
    run.send("-INT");
    run.wait_for("Stopping after this step; a second signal ends at once.");
    server.set(Manner::Answers);
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("Stopped after step 1, which is saved."), "{said}");
    succeed(&args(&broken, &[&more[..], &["--resume"]].concat()));
    same(&whole.join("short"), &broken.join("short"));
}
