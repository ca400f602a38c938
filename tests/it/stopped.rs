//! Runs that are stopped: by signals, by a judge that fails, by a second start. Nothing is lost,
//! and the run that goes on ends in the same bytes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::binary::{arg, file, joust, told};
use crate::held_judge::{JudgeServer, Manner};
use crate::train::same;

/// A run of four steps with a judge behind a server; it saves at its end only.
fn args(dir: &Path, server: &JudgeServer, more: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = ["train", "configs/quickstart.toml", "run.name=r", "eval.every=0"]
        .into_iter()
        .chain([
            "train.steps=4",
            "train.prompts_per_step=3",
            "rollout.group_size=6",
            "rollout.temperature=1.6",
        ])
        .chain(["rollout.max_completion_length=40", "eval.max_prompts=4", "checkpoint.every=0"])
        // the recorded log-probabilities depend on earlier cached prefixes in their last bits
        .chain(["rollout.engine.prefix_cache=false"])
        .map(str::to_owned)
        .collect();
    args.push(format!("run.output_dir={}", dir.display()));
    args.extend(server.overrides());
    args.extend(more.iter().map(|&text| text.to_owned()));
    args
}

/// A command in the background, with what it says.
pub(crate) struct Begun {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Begun {
    pub(crate) fn new(args: &[String]) -> Self {
        let mut command = joust(args);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        Self { child, said }
    }

    pub(crate) fn send(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Reads until a line has `wanted`.
    pub(crate) fn wait_for(&mut self, wanted: &str) {
        let mut line = String::new();
        while !line.contains(wanted) {
            line.clear();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "it ended without {wanted:?}");
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Exit code, and what was said to the end.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn output(args: &[String]) -> Output {
    joust(args).output().unwrap()
}

#[test]
fn a_run_that_is_stopped_and_fails_ends_in_the_bytes_of_an_unbroken_run() {
    let dir = tempfile::tempdir().unwrap();
    let server = JudgeServer::start(Manner::Answers);
    let whole = output(&args(&dir.path().join("whole"), &server, &[]));
    assert!(whole.status.success(), "{}", told(&whole));
    let n_calls = server.n_calls();
    assert!(n_calls > 8, "{n_calls}");

    // stopped in the second half of its votes
    let broken = dir.path().join("broken");
    server.hold_after(n_calls / 2);
    let mut run = Begun::new(&args(&broken, &server, &[]));
    server.wait_for_a_held_call();
    run.send("-INT");
    run.wait_for("Stopping after this step; a second signal ends at once.");
    assert!(run.child.try_wait().unwrap().is_none(), "the step is not over");
    server.set(Manner::Answers);
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("Go on with: joust train configs/quickstart.toml"), "{said}");
    assert!(said.trim_end().ends_with("--resume"), "{said}");
    let stopped = said.split("Stopped after step ").nth(1).unwrap();
    let stopped: u32 = stopped.split(',').next().unwrap().parse().unwrap();
    assert!((1..4).contains(&stopped), "{said}");
    let saved = |step: u32| broken.join(format!("r/checkpoints/step_{step:05}")).exists();
    assert!(saved(stopped));

    // the judge refuses all: the step is not counted, and repeated later
    server.set(Manner::Refuses);
    let failed = output(&args(&broken, &server, &["--resume"]));
    assert_eq!(failed.status.code(), Some(1), "{}", told(&failed));
    let wanted = [&format!("step {}: ", stopped + 1)[..], "the judge is ill", "reward.max_failed"];
    for part in wanted {
        assert!(told(&failed).contains(part), "{part}: {}", told(&failed));
    }
    assert!(saved(stopped) && !broken.join(format!("r/step_{:05}", stopped + 1)).exists());

    server.set(Manner::Answers);
    let resumed = output(&args(&broken, &server, &["--resume"]));
    assert!(resumed.status.success(), "{}", told(&resumed));
    same(&dir.path().join("whole/r"), &broken.join("r"));
    assert!(!saved(stopped), "an interim checkpoint goes when there is a newer one");
}

#[test]
fn a_stop_breaks_off_an_evaluation_which_the_next_start_repeats() {
    let dir = tempfile::tempdir().unwrap();
    let server = JudgeServer::start(Manner::Answers);
    // an evaluation takes longer than a step
    let more = ["train.steps=3", "eval.every=2", "eval.max_prompts=64", "eval.samples=8"];
    let whole = output(&args(&dir.path().join("whole"), &server, &more));
    assert!(whole.status.success(), "{}", told(&whole));

    let broken = dir.path().join("broken");
    let evaluated = |step: u64| {
        let text = std::fs::read_to_string(broken.join("r/metrics.jsonl")).unwrap_or_default();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.any(|line| line["step"] == step && line["eval/accuracy"].is_number())
    };
    let run = Begun::new(&args(&broken, &server, &more));
    let end = Instant::now() + Duration::from_secs(120);
    while !broken.join("r/step_00002").exists() {
        assert!(Instant::now() < end, "the second step is never over");
        std::thread::sleep(Duration::from_millis(1));
    }
    run.send("-TERM");
    let (code, said) = run.end();
    assert_eq!(code, Some(143), "{said}");
    assert!(said.contains("Stopped after step 2, which is saved."), "{said}");
    assert!(evaluated(0) && !evaluated(2), "{said}");
    // the second start is stopped in the same evaluation
    let more = [&more[..], &["--resume"]].concat();
    let mut run = Begun::new(&args(&broken, &server, &more));
    run.wait_for("Going on after step 2.");
    run.send("-INT");
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(!evaluated(2), "{said}");
    let resumed = output(&args(&broken, &server, &more));
    assert!(resumed.status.success(), "{}", told(&resumed));
    assert!(evaluated(2) && evaluated(3));
    same(&dir.path().join("whole/r"), &broken.join("r"));
}

#[test]
fn a_run_folder_has_one_writer_and_a_second_signal_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = JudgeServer::start(Manner::Holds);
    let mut run = Begun::new(&args(dir.path(), &server, &[]));
    server.wait_for_a_held_call();
    let names = || {
        let entries = std::fs::read_dir(dir.path().join("r")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let holder = format!("process {} ", run.child.id());
    for more in [&[][..], &["--resume"], &["--clean"], &["train.steps=9"]] {
        let second = output(&args(dir.path(), &server, more));
        assert_eq!(second.status.code(), Some(2), "{}", told(&second));
        assert!(told(&second).contains(&holder), "{holder}: {}", told(&second));
    }
    let sft = ["sft", "configs/nano-policy.toml", "run.name=r", "--clean"].map(str::to_owned);
    let place = format!("run.output_dir={}", dir.path().display());
    let second = output(&[&sft[..], &[place]].concat());
    assert_eq!(second.status.code(), Some(2), "{}", told(&second));
    assert!(told(&second).contains(&holder), "{}", told(&second));
    assert_eq!(names(), before);

    run.send("-INT");
    run.wait_for("a second signal ends at once");
    run.send("-TERM");
    let (code, said) = run.end();
    assert_eq!(code, Some(143), "{said}");
    // the lock has ended with its process, and a run without steps is in nobody's way
    server.set(Manner::Answers);
    let again = output(&args(dir.path(), &server, &["train.steps=2"]));
    assert!(again.status.success(), "{}", told(&again));
}

#[test]
fn a_killed_run_releases_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let server = JudgeServer::start(Manner::Holds);
    let mut run = Begun::new(&args(dir.path(), &server, &[]));
    server.wait_for_a_held_call();
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    server.set(Manner::Answers);
    let again = output(&args(dir.path(), &server, &["--resume", "train.steps=2"]));
    assert!(again.status.success(), "{}", told(&again));
}

#[test]
fn sft_stops_at_a_signal_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let args = |name: &str, more: &[&str]| -> Vec<String> {
        let place = format!("run.output_dir={}", dir.path().display());
        let mut args: Vec<String> = ["sft", "configs/nano-rrm-2-any-answer.toml"]
            .into_iter()
            .chain(["model.path=data/models/nano-policy", "data.task=arithmetic_policy"])
            .chain(["trainer.batch_size=2", "trainer.learner.compute_dtype=f32"])
            .chain(["trainer.learner.optim.schedule.kind=constant"])
            .chain(["trainer.learner.optim.schedule.warmup_updates=0"])
            .map(str::to_owned)
            .collect();
        args.extend([
            place,
            format!("run.name={name}"),
            "export.path=".to_owned() + &arg(&dir.path().join(format!("{name}-model"))),
        ]);
        args.extend(more.iter().map(|&text| text.to_owned()));
        args
    };
    let run = Begun::new(&args("a", &["trainer.steps=100000"]));
    let metrics = dir.path().join("a/metrics.jsonl");
    let end = Instant::now() + Duration::from_secs(120);
    while std::fs::read_to_string(&metrics).unwrap_or_default().lines().count() < 3 {
        assert!(Instant::now() < end, "no step was made");
        std::thread::yield_now();
    }
    // a closed terminal asks for an end, too, unless the program was started to outlive it
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let (signal, wanted) = match ignored.trim().ends_with(['1', '3', '5', '7', '9', 'b', 'd', 'f'])
    {
        true => ("-TERM", 143),
        false => ("-HUP", 129),
    };
    run.send(signal);
    let (code, said) = run.end();
    assert_eq!(code, Some(wanted), "{said}");
    let step: u64 = said
        .split("Stopped after step ")
        .nth(1)
        .unwrap()
        .split(',')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(dir.path().join(format!("a/checkpoints/step_{step:05}")).exists(), "{said}");
    assert!(!dir.path().join("a-model").exists(), "the run is not at its end");
    let n_steps = format!("trainer.steps={}", step + 2);
    let resumed = output(&args("a", &[&n_steps, "--resume"]));
    assert!(resumed.status.success(), "{}", told(&resumed));
    let whole = output(&args("b", &[&n_steps]));
    assert!(whole.status.success(), "{}", told(&whole));
    let weights = |name: &str| std::fs::read(dir.path().join(name).join("model.safetensors"));
    assert!(weights("a-model").unwrap() == weights("b-model").unwrap());
}

#[test]
fn score_and_judge_end_with_a_last_line_at_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let groups = file(
        dir.path(),
        "groups.jsonl",
        "{\"prompt\":\"1+1?\",\"completions\":[\"It is 2.\",\"It is 3.\"]}",
    );
    let pairs = file(
        dir.path(),
        "pairs.jsonl",
        "{\"prompt\":\"1+1?\",\"completion_a\":\"It is 2.\",\"completion_b\":\"It is 3.\"}",
    );
    for (command, input, signal, wanted) in
        [("score", &groups, "-TERM", 143), ("judge", &pairs, "-INT", 130)]
    {
        let server = JudgeServer::start(Manner::Holds);
        let out = arg(&dir.path().join(command));
        let mut args: Vec<String> = [command, "configs/quickstart.toml", "--input", input]
            .into_iter()
            .chain(["--output", &out])
            .map(str::to_owned)
            .collect();
        args.extend(server.overrides());
        let run = Begun::new(&args);
        server.wait_for_a_held_call();
        run.send(signal);
        let (code, said) = run.end();
        assert_eq!(code, Some(wanted), "{said}");
        assert!(said.contains(&format!("the results are not in {out}")), "{said}");
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
    }
}
