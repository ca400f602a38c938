//! Runs whose policy is sampled on servers: they learn as with engines, go on after a kill, and
//! outlive wrong answers, servers that die and servers that come back.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use joust_schema::tables::Rollout;
use serde_json::{Map, Value};

use crate::binary::{joust, refuse, root, succeed, told};
use crate::policy_server::{Faults, PolicyServer};
use crate::ranks::Ranks;
use crate::stopped::Begun;
use crate::train::metrics;

/// A run of five steps that is judged by known answers.
fn args(dir: &Path, more: &[String]) -> Vec<String> {
    let mut args: Vec<String> = ["train", "configs/quickstart.toml", "run.name=r"]
        .into_iter()
        .chain(["train.steps=5", "train.prompts_per_step=8", "reward.judge.kind=rule"])
        .chain(["rollout.max_completion_length=40", "rollout.engine.max_batch=64"])
        .chain(["eval.max_prompts=24", "eval.every=0"])
        .chain(["checkpoint.every=1", "checkpoint.keep_last=2"])
        .map(str::to_owned)
        .collect();
    args.push(format!("run.output_dir={}", dir.display()));
    args.extend_from_slice(more);
    args
}

fn on_servers(kind: &str, servers: &[&PolicyServer]) -> Vec<String> {
    let urls: Vec<String> = servers.iter().map(|server| format!("{:?}", server.url())).collect();
    vec![
        format!("rollout.kind={kind}"),
        format!("rollout.servers.urls=[{}]", urls.join(", ")),
        "rollout.servers.weights_dtype=f32".to_owned(),
    ]
}

fn server() -> PolicyServer {
    PolicyServer::start(&root().join("data/models/nano-policy"), Faults::default())
}

fn with(args: Vec<String>, more: &[&str]) -> Vec<String> {
    args.into_iter().chain(more.iter().map(|&text| text.to_owned())).collect()
}

/// A run in the background that has saved a step.
fn begun(args: &[String], dir: &Path, step: u64) -> Begun {
    await_step(Begun::new(args), dir, step)
}

fn await_step(mut run: Begun, dir: &Path, step: u64) -> Begun {
    let saved = dir.join(format!("r/checkpoints/step_{step:05}"));
    let deadline = Instant::now() + Duration::from_secs(120);
    while !saved.exists() {
        if !run.is_running() {
            panic!("it ended before step {step}: {}", run.end().1);
        }
        assert!(Instant::now() < deadline, "step {step} was not saved");
        std::thread::sleep(Duration::from_millis(2));
    }
    run
}

/// The rows of steps.
fn steps(run: &Path) -> Vec<Map<String, Value>> {
    metrics(run).into_iter().filter(|row| row["step"] != 0).collect()
}

fn mean(rows: &[Map<String, Value>], name: &str) -> f64 {
    rows.iter().map(|row| row[name].as_f64().unwrap()).sum::<f64>() / rows.len() as f64
}

fn sum(rows: &[Map<String, Value>], name: &str) -> f64 {
    mean(rows, name) * rows.len() as f64
}

#[test]
fn a_policy_on_two_servers_learns_as_on_engines_and_goes_on_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let engine = dir.path().join("engine");
    succeed(&args(&engine, &[]));
    let engine = steps(&engine.join("r"));
    for kind in ["vllm", "sglang"] {
        let (first, second) = (server(), server());
        let args = args(&dir.path().join(kind), &on_servers(kind, &[&first, &second]));
        drop(begun(&args, &dir.path().join(kind), 2));
        let output = joust(&with(args, &["--resume"])).output().unwrap();
        assert!(output.status.success(), "{kind}: {}", told(&output));
        assert!(told(&output).contains("Going on after step"), "{kind}: {}", told(&output));
        assert!(told(&output).contains("sampled by 2 "), "{kind}: {}", told(&output));
        let run = dir.path().join(kind).join("r");
        let rows = steps(&run);
        assert_eq!(rows.len(), 5);
        let difference = mean(&rows, "sampling/sampling_logp_difference/mean");
        assert!(difference < 1e-4, "{kind}: {difference}");
        for (name, allowed) in [("accuracy", 0.15), ("completions/mean_length", 4.0)] {
            let (on_servers, on_engine) = (mean(&rows, name), mean(&engine, name));
            let is_near = (on_servers - on_engine).abs() < allowed;
            assert!(is_near, "{kind}: {name} is {on_servers}, with engines {on_engine}");
        }
        let ratio = mean(&rows, "grad_norm") / mean(&engine, "grad_norm");
        assert!((0.5..2.0).contains(&ratio), "{kind}: {ratio} of the engine's gradient norm");
        let route = if kind == "vllm" { "/v1/completions" } else { "/generate" };
        for server in [&first, &second] {
            let n_calls = server.calls().iter().filter(|call| *call == route).count();
            assert!(n_calls > 10, "{kind}: {n_calls} of 64 groups and more");
        }
        for name in ["retries", "bad_answers", "stale_groups", "servers_down"] {
            assert_eq!(sum(&rows, &format!("sampling/{name}")), 0.0, "{kind}: {name}");
        }
        let about = std::fs::read_to_string(run.join("run.json")).unwrap();
        let about: Value = serde_json::from_str(&about).unwrap();
        assert_eq!(about["sampler"]["kind"], kind);
    }
}

#[test]
fn a_policy_on_servers_is_sampled_a_step_ahead_of_training_and_goes_on_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (server(), server());
    let args = with(args(dir.path(), &on_servers("vllm", &[&first, &second])), &["train.ahead=1"]);
    drop(begun(&args, dir.path(), 2));
    let output = joust(&with(args, &["--resume"])).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let run = dir.path().join("r");
    let rows = steps(&run);
    assert_eq!(rows.len(), 5);
    assert_eq!(sum(&rows, "sampling/stale_groups"), 0.0);
    let behind = |row: &Map<String, Value>| row["sampling/updates_behind"].as_f64().unwrap();
    let behind: Vec<f64> = rows.iter().map(behind).collect();
    assert!(behind[4] == 1.0 && behind.iter().all(|n| *n <= 1.0), "{behind:?}");
}

#[test]
fn a_server_that_dies_in_a_run_is_done_without_and_taken_again_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let (first, mut second) = (server(), server());
    let more = ["train.steps=8", "eval.max_prompts=4"];
    let args = with(args(dir.path(), &on_servers("vllm", &[&first, &second])), &more);
    let run = begun(&args, dir.path(), 1);
    second.kill();
    let run = await_step(run, dir.path(), 4);
    second.restart();
    let (code, said) = run.end();
    assert_eq!(code, Some(0), "{said}");
    let rows = steps(&dir.path().join("r"));
    assert_eq!(rows.len(), 8);
    assert!(sum(&rows, "sampling/servers_down") >= 1.0);
    let last = rows.last().unwrap();
    assert_eq!(last["sampling/servers_down"], 0.0, "it is back");
    assert_eq!(second.label(), first.label());
    let difference = mean(&rows, "sampling/sampling_logp_difference/mean");
    assert!(difference < 1e-4, "{difference}");
}

#[test]
fn ranks_sample_from_the_same_servers_and_the_first_gives_them_the_policy() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (server(), server());
    let more = ["train.steps=3", "eval.max_prompts=4", "rollout.temperature=0.8"];
    let args = with(args(dir.path(), &on_servers("vllm", &[&first, &second])), &more);
    Ranks::succeed(dir.path(), &args, 2);
    let run = dir.path().join("r");
    let rows = steps(&run);
    assert_eq!(rows.len(), 3);
    let difference = mean(&rows, "sampling/sampling_logp_difference/mean");
    assert!(difference < 1e-4, "{difference}");
    let n_reloads = first.calls().iter().filter(|call| *call == "/collective_rpc").count();
    assert_eq!(n_reloads, 3 + 3, "the drill, and a version per step");
    // servers tell the numbers of the distribution that was drawn from alone
    let file = run.join("step_00002/rollouts.parquet");
    let rollouts: Vec<Rollout> = joust_schema::parquet::read(&file).unwrap();
    assert_eq!(rollouts.len(), 64);
    for row in rollouts {
        let behaviour = row.behaviour_logprobs.unwrap();
        assert_eq!(behaviour.len(), row.completion_token_ids.len());
        assert!(behaviour.iter().all(|logprob| logprob.is_finite()));
        assert_eq!(row.completion_logprobs.len(), behaviour.len());
        assert!(row.completion_logprobs.iter().all(|logprob| logprob.is_nan()));
    }
}

#[test]
fn wrong_answers_end_a_run_with_their_reason_and_it_goes_on_when_they_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let server = server();
    let more = ["train.steps=9", "eval.max_prompts=1", "rollout.servers.tries=2", "--resume"];
    let args = with(args(dir.path(), &on_servers("vllm", &[&server])), &more);
    let right = Faults::default;
    let wrong = [
        (Faults { one_choice_less: true, ..right() }, "the answer has 7 choices, wanted 8"),
        (Faults { short_logprobs: true, ..right() }, "log-probabilities for"),
        (Faults { nan_logprobs: true, ..right() }, "NaN or Infinity"),
        (Faults { aborts: true, ..right() }, "ended by \"abort\""),
    ];
    for (place, (faults, reason)) in wrong.into_iter().enumerate() {
        let run = begun(&args, dir.path(), 1 + 2 * place as u64);
        *server.faults() = faults;
        let (code, said) = run.end();
        assert_eq!(code, Some(1), "{said}");
        let error = said.lines().find(|line| line.starts_with("error: ")).unwrap();
        assert!(error.contains(reason) && error.contains("rollout.servers"), "{error}");
        *server.faults() = right();
    }
    succeed(&args);
    assert_eq!(steps(&dir.path().join("r")).len(), 9);
}

#[test]
fn a_run_without_servers_waits_then_fails_and_goes_on_and_a_stop_ends_the_wait() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = server();
    let more = ["eval.max_prompts=1", "train.steps=6", "--resume"];
    let args = with(args(dir.path(), &on_servers("vllm", &[&server])), &more);
    let short = with(args.clone(), &["rollout.servers.outage_s=0.5"]);
    let run = begun(&short, dir.path(), 1);
    server.kill();
    let (code, said) = run.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Connection refused"), "{said}");

    server.restart();
    let mut run = Begun::new(&with(args.clone(), &["rollout.servers.outage_s=600"]));
    run.wait_for("Going on after step");
    let step = steps(&dir.path().join("r")).len() as u64;
    let mut run = await_step(run, dir.path(), step + 1);
    server.kill();
    run.wait_for("not up");
    run.send("-INT");
    let stopped = Instant::now();
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(stopped.elapsed() < Duration::from_secs(20), "{said}");

    server.restart();
    succeed(&args);
    assert_eq!(steps(&dir.path().join("r")).len(), 6);
}

#[test]
fn a_step_counts_whose_policy_no_server_takes() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = server();
    let more = ["eval.max_prompts=1", "train.steps=6", "checkpoint.every=0", "--resume"];
    let args = with(args(dir.path(), &on_servers("vllm", &[&server])), &more);
    let mut run = Begun::new(&with(args.clone(), &["rollout.servers.outage_s=0.5"]));
    let log = dir.path().join("r/metrics.jsonl");
    let deadline = Instant::now() + Duration::from_secs(120);
    while std::fs::read_to_string(&log).unwrap_or_default().lines().count() < 2 {
        assert!(run.is_running() && Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
    server.faults().failing_reloads = u32::MAX;
    let (code, said) = run.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("has taken the policy's weights"), "{said}");
    let before = steps(&dir.path().join("r")).len();
    *server.faults() = Faults::default();
    server.restart();
    let output = joust(&args).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let after = format!("Going on after step {}.", before + 1);
    assert!(told(&output).contains(&after), "{after} {}", told(&output));
    let rows = steps(&dir.path().join("r"));
    let numbers: Vec<f64> = rows.iter().map(|row| row["step"].as_f64().unwrap()).collect();
    assert_eq!(numbers, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn settings_that_make_no_sense_with_servers_are_refused_in_a_line_each() {
    let dir = tempfile::tempdir().unwrap();
    let of = |more: &[&str]| {
        let more: Vec<String> = more.iter().map(|&text| text.to_owned()).collect();
        refuse(&args(dir.path(), &more))
    };
    let url = "rollout.servers.urls=[\"http://127.0.0.1:9\"]";
    for (more, wanted) in [
        (&["rollout.kind=vllm"][..], "rollout.servers.urls is empty"),
        (&[url], "rollout.servers.urls has no effect with kind = \"engine\""),
        (&["rollout.kind=vllm", url, "rollout.workers=2"], "rollout.workers is 2, wanted 1"),
        (
            &["rollout.kind=sglang", url, "rollout.engine.dtype=f32"],
            "rollout.engine.dtype has no effect with kind = \"sglang\"",
        ),
    ] {
        let line = of(more);
        assert!(line.contains(wanted), "{line}");
    }
    assert!(!dir.path().join("r").exists());
    let plan = |more: &[&str]| {
        let args = ["doctor", "--train", "configs/quickstart.toml"];
        succeed(&[&args[..], more].concat())
    };
    assert!(plan(&[]).contains("sampling: keys and values"));
    let more = ["rollout.kind=vllm", url, "rollout.engine.max_batch=64"];
    assert!(!plan(&more).contains("sampling: "), "the servers have the memory");
}

#[test]
fn a_server_that_is_not_up_leaves_the_runs_folder_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let url = "rollout.servers.urls=[\"http://127.0.0.1:9\"]";
    let more = ["rollout.kind=vllm", url, "rollout.servers.outage_s=0"];
    let output = joust(&with(args(dir.path(), &[]), &more)).output().unwrap();
    assert!(!output.status.success());
    assert!(told(&output).contains("127.0.0.1:9"), "{}", told(&output));
    let left: Vec<PathBuf> = match std::fs::read_dir(dir.path().join("r")) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    assert_eq!(left, Vec::<PathBuf>::new());
}
