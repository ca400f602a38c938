//! Runs of several processes on the CPU, started with a launcher's variables: what one process
//! computes, they compute together, and any of them may stop or die.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::binary::{arg, file, joust, json_lines, refuse_command, succeed};
use crate::train::same;

/// The processes of one run. What they write to standard error goes to files.
pub(crate) struct Ranks {
    pub(crate) children: Vec<Child>,
    logs: Vec<PathBuf>,
}

impl Ranks {
    /// Starts a process for each list of arguments.
    pub(crate) fn start(dir: &Path, args_of_ranks: &[Vec<String>]) -> Self {
        Self::start_with(dir, args_of_ranks, |_, args| joust(args))
    }

    /// As [`Ranks::start`], with commands that are made of the rank and its arguments.
    pub(crate) fn start_with(
        dir: &Path,
        args_of_ranks: &[Vec<String>],
        command: impl Fn(usize, &[String]) -> Command,
    ) -> Self {
        let n = args_of_ranks.len();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        drop(listener);
        let (mut children, mut logs) = (Vec::new(), Vec::new());
        for (rank, args) in args_of_ranks.iter().enumerate() {
            let log = dir.join(format!("rank-{rank}-{port}.log"));
            let mut command = command(rank, args);
            for (name, value) in [
                ("RANK", rank.to_string()),
                ("WORLD_SIZE", n.to_string()),
                ("LOCAL_RANK", rank.to_string()),
                ("LOCAL_WORLD_SIZE", n.to_string()),
                ("MASTER_ADDR", "127.0.0.1".to_owned()),
                ("MASTER_PORT", port.clone()),
            ] {
                command.env(name, value);
            }
            command.stdout(Stdio::piped()).stderr(std::fs::File::create(&log).unwrap());
            children.push(command.spawn().unwrap());
            logs.push(log);
        }
        Self { children, logs }
    }

    pub(crate) fn said(&self, rank: usize) -> String {
        std::fs::read_to_string(&self.logs[rank]).unwrap()
    }

    /// Waits until the first rank has said something.
    pub(crate) fn wait_for(&mut self, wanted: &str) {
        let end = Instant::now() + Duration::from_secs(120);
        while !self.said(0).contains(wanted) {
            assert!(self.children[0].try_wait().unwrap().is_none(), "{}", self.said(0));
            assert!(Instant::now() < end, "{}", self.said(0));
            std::thread::yield_now();
        }
    }

    pub(crate) fn send(&self, rank: usize, signal: &str) {
        let pid = self.children[rank].id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Exit codes, once all have ended.
    pub(crate) fn end(&mut self) -> Vec<Option<i32>> {
        let end = Instant::now() + Duration::from_secs(120);
        while self.children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
            assert!(Instant::now() < end, "{}\n{}", self.said(0), self.said(1));
            std::thread::yield_now();
        }
        self.children.iter_mut().map(|child| child.wait().unwrap().code()).collect()
    }

    /// Runs to the end, where only the first rank has anything to say.
    pub(crate) fn succeed(dir: &Path, args: &[String], n: usize) {
        let mut ranks = Self::start(dir, &vec![args.to_vec(); n]);
        let codes = ranks.end();
        assert!(codes.iter().all(|code| *code == Some(0)), "{codes:?}\n{}", ranks.said(0));
        for rank in 1..n {
            let mut printed = String::new();
            let stdout = ranks.children[rank].stdout.as_mut().unwrap();
            stdout.read_to_string(&mut printed).unwrap();
            assert_eq!((printed, ranks.said(rank)), (String::new(), String::new()));
        }
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A run of four steps of five prompts.
pub(crate) fn args(dir: &Path, name: &str, more: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = [
        "train",
        "configs/quickstart.toml",
        "train.steps=4",
        "train.prompts_per_step=5",
        "rollout.group_size=6",
        "rollout.temperature=1.6",
        "rollout.max_completion_length=40",
        "eval.every=2",
        "eval.max_prompts=7",
        // the recorded log-probabilities depend on earlier cached prefixes in their last bits
        "rollout.engine.prefix_cache=false",
    ]
    .map(str::to_owned)
    .into();
    args.extend([format!("run.output_dir={}", arg(dir)), format!("run.name={name}")]);
    args.extend(more.iter().map(|&more| more.to_owned()));
    args
}

pub(crate) fn metrics(dir: &Path, name: &str) -> Vec<Value> {
    json_lines(&std::fs::read_to_string(dir.join(name).join("metrics.jsonl")).unwrap())
}

/// Asserts that a number of every line is the same but for last digits.
pub(crate) fn near(a: &[Value], b: &[Value], names: &[&str]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        for name in names {
            let [a, b] = [a, b].map(|line| line.get(name).map(|it| it.as_f64().unwrap()));
            let gap = a.unwrap_or_default() - b.unwrap_or_default();
            let most = 1e-5 * a.unwrap_or_default().abs().max(1.0);
            assert!(a.is_some() == b.is_some() && gap.abs() < most, "{name}: {a:?}, {b:?}");
        }
    }
}

#[test]
fn ranks_learn_what_one_process_learns_and_twice_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let by_rule = ["reward.kind=correct", "trainer.loss.kl.weight=0.01", "train.max_refills=1"];
    succeed(&args(dir, "alone", &by_rule));
    Ranks::succeed(dir, &args(dir, "three", &by_rule), 3);
    let again = dir.join("again");
    Ranks::succeed(dir, &args(&again, "three", &by_rule), 3);
    same(&dir.join("three"), &again.join("three"));
    let names = [
        "loss",
        "grad_norm",
        "kl",
        "entropy",
        "reward",
        "accuracy",
        "eval/accuracy",
        "groups/refilled",
        "num_tokens",
        "sampling/sampling_logp_difference/max",
    ];
    near(&metrics(dir, "alone"), &metrics(dir, "three"), &names);
}

#[test]
fn ranks_learn_the_same_with_more_or_less_of_the_model_in_parts_and_go_on_with_another_stage() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let common = [
        "reward.kind=correct",
        "trainer.loss.kl.weight=0.01",
        "trainer.learner.working_dtype=bf16",
        "trainer.learner.checkpoint_activations=true",
        "trainer.learner.optim.schedule.kind=constant",
        "checkpoint.every=2",
        "checkpoint.keep_last=0",
    ];
    let at = |folder: &str, shard: &str, more: &[&str]| {
        let shard = format!("trainer.learner.shard={shard}");
        args(&dir.join(folder), "run", &[&common[..], &[&shard], more].concat())
    };
    let saved = |folder: &str| {
        let step = dir.join(folder).join("run/checkpoints/step_00004");
        let of_ranks = |rank: usize| {
            let shard = format!("trainer_state/shard-0000{rank}-model-00001-of-00001.safetensors");
            [format!("model-0000{rank}-of-00002.safetensors"), shard]
        };
        let read = |name: &String| std::fs::read(step.join(name)).unwrap();
        [1, 2].map(of_ranks).as_flattened().iter().map(read).collect::<Vec<_>>()
    };
    for shard in ["zero1", "zero2", "zero3"] {
        Ranks::succeed(dir, &at(shard, shard, &[]), 2);
    }
    assert!(saved("zero1") == saved("zero2") && saved("zero1") == saved("zero3"));
    // a run in between which the stage changes, and a single process at the end
    Ranks::succeed(dir, &at("changed", "zero3", &["train.steps=2"]), 2);
    Ranks::succeed(dir, &at("changed", "zero2", &["--resume"]), 2);
    assert!(saved("changed") == saved("zero1"));
    succeed(&at("changed", "zero3", &["--resume", "train.steps=5"]));
}

#[test]
fn ranks_rate_the_groups_of_a_step_together_as_one_process_does() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let short = ["train.steps=3", "eval.every=0"];
    succeed(&args(dir, "alone", &short));
    Ranks::succeed(dir, &args(dir, "two", &short), 2);
    let names = [
        "loss",
        "grad_norm",
        "reward",
        "reward_std",
        "judge/position_bias",
        "judge/length_slope",
        "judge/votes",
    ];
    near(&metrics(dir, "alone"), &metrics(dir, "two"), &names);
}

#[test]
fn ranks_go_on_after_one_was_stopped_or_killed_and_in_another_number() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let saved = ["checkpoint.every=1"];
    Ranks::succeed(dir, &args(dir, "whole", &saved), 2);
    let broken = dir.join("broken");
    let resumed = [&saved[..], &["--resume"]].concat();

    // a signal to one of them stops all after the step
    let mut ranks = Ranks::start(dir, &vec![args(&broken, "whole", &saved); 2]);
    ranks.wait_for("\n1/4 ");
    ranks.send(1, "-INT");
    let codes = ranks.end();
    assert_eq!(codes, [Some(143), Some(130)], "{}", ranks.said(0));
    assert!(ranks.said(0).contains("which is saved. Go on with: "), "{}", ranks.said(0));
    assert_eq!(ranks.said(1), "");

    // one dies: the other says so at once
    let mut ranks = Ranks::start(dir, &vec![args(&broken, "whole", &resumed); 2]);
    ranks.wait_for("Going on after step ");
    ranks.send(1, "-KILL");
    let codes = ranks.end();
    assert!(codes[0] != Some(0), "{codes:?}");
    let said = ranks.said(0);
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    let wanted = "error: rank 1 is gone: ";
    assert!(matches!(&errors[..], [error] if error.starts_with(wanted)), "{said}");

    Ranks::succeed(dir, &args(&broken, "whole", &resumed), 2);
    let weights = |dir: &Path| {
        let step = dir.join("whole/checkpoints/step_00004");
        [1, 2].map(|n| {
            let shard = format!("trainer_state/shard-{n:05}-model-00001-of-00001.safetensors");
            let names = [format!("model-{n:05}-of-00002.safetensors"), shard];
            names.map(|name| std::fs::read(step.join(name)).unwrap())
        })
    };
    assert!(weights(dir) == weights(&broken));

    // one process goes on with what two have made, and two with what one has made
    let longer = [&resumed[..], &["train.steps=5"]].concat();
    succeed(&args(&broken, "whole", &longer));
    let longer = [&resumed[..], &["train.steps=6"]].concat();
    Ranks::succeed(dir, &args(&broken, "whole", &longer), 2);
    assert_eq!(metrics(&broken, "whole").last().unwrap()["step"], 6);
}

#[test]
fn ranks_learn_texts_and_preferences_as_one_process_does() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let rows = (0..12).map(|n| {
        let (right, wrong) = (n + 40, n + 3);
        format!(
            "{{\"prompt\": \"What is {n} + 40?\", \"completion\": \"It is {right}.\", \
             \"chosen\": \"It is {right}.\", \"rejected\": \"No idea, {wrong}\"}}\n"
        )
    });
    let data = file(dir, "rows.jsonl", &rows.collect::<String>());
    for (command, names) in [
        ("sft", &["loss", "grad_norm", "mean_token_accuracy", "eval/loss"][..]),
        ("dpo", &["loss", "grad_norm", "rewards/margins", "eval/loss"][..]),
    ] {
        let args = |name: &str| -> Vec<String> {
            [command, "trainer.steps=3", "trainer.batch_size=5", "eval.every=1"]
                .map(str::to_owned)
                .into_iter()
                .chain([
                    format!("data.path={data}"),
                    format!("eval.path={data}"),
                    "model.path=data/models/nano-policy".to_owned(),
                    format!("run.output_dir={}", arg(dir)),
                    format!("run.name={command}-{name}"),
                ])
                .collect()
        };
        succeed(&args("alone"));
        Ranks::succeed(dir, &args("two"), 2);
        let of = |name: &str| metrics(dir, &format!("{command}-{name}"));
        near(&of("alone"), &of("two"), names);
    }
}

#[test]
fn ranks_of_different_configs_and_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let row = |n: u32| format!("{{\"prompt\": \"What is {n} + 1?\", \"answer\": {}}}\n", n + 1);
    let own = format!("prompts.path={}", file(dir, "own.jsonl", &(row(1) + &row(2))));
    for (more, wanted) in
        [("trainer.learner.optim.lr=0.5", "trainer.learner.optim.lr"), (&own[..], "prompts.path")]
    {
        let mut ranks = Ranks::start(dir, &[args(dir, "r", &[]), args(dir, "r", &[more])]);
        assert_eq!(ranks.end(), [Some(1), Some(2)]);
        let said = [ranks.said(0), ranks.said(1)];
        let reason = "config and files differ from those of rank 0: ";
        assert!(said[1].starts_with(&format!("error: rank 1: {reason}")), "{said:?}");
        assert!(said[1].contains(wanted), "{said:?}");
        assert!(said[0].starts_with(&format!("error: rank 1 has failed: {reason}")), "{said:?}");
    }
}

#[test]
fn a_stop_while_other_ranks_have_not_come_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let args = args(dir.path(), "r", &[]);
    let mut ranks = Ranks::start(dir.path(), &[args.clone(), args]);
    ranks.send(1, "-KILL");
    let end = Instant::now() + Duration::from_secs(60);
    // the program listens to signals
    let tasks = format!("/proc/{}/task", ranks.children[0].id());
    let listens = || {
        let tasks = std::fs::read_dir(&tasks).into_iter().flatten().flatten();
        let names = tasks.map(|task| std::fs::read_to_string(task.path().join("comm")));
        names.flatten().any(|name| name.trim() == "signals")
    };
    while !listens() {
        assert!(Instant::now() < end, "{}", ranks.said(0));
        std::thread::yield_now();
    }
    ranks.send(0, "-TERM");
    while ranks.children[0].try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "{}", ranks.said(0));
        std::thread::yield_now();
    }
    assert_eq!(ranks.children[0].wait().unwrap().code(), Some(143), "{}", ranks.said(0));
}

#[test]
fn a_place_among_ranks_that_makes_no_sense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = joust(&args(dir.path(), "r", &[]));
    for (name, value) in [("RANK", "2"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")] {
        command.env(name, value);
    }
    let error = refuse_command(&command);
    let wanted = "error: environment variable RANK is `2`, wanted a number from 0 to 1";
    assert!(error.starts_with(wanted), "{error}");
}
