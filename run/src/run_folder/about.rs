//! What `run.json` says about a run.
//!
//! It does not know what else is in the run's folder.

use serde::Serialize;
use serde_json::{Value, json};

use crate::config::RunSection;

/// The content of `run.json`: program, machine and command of the run, and who samples, if servers
/// do.
pub(super) fn about(run: &RunSection, config: &impl Serialize) -> Value {
    let git = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output().ok();
    let commit = git
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let mut about = json!({
        "name": run.name,
        "seed": run.seed,
        "joust": env!("CARGO_PKG_VERSION"),
        "git_commit": commit,
        "libtorch": joust_engine::ffi::libtorch_version(),
        "threads": run.threads,
        "processors": n_processors(),
        "command": std::env::args().collect::<Vec<_>>(),
    });
    if let Some(sampler) = sampler(config) {
        about["sampler"] = sampler;
    }
    about
}

/// The servers that sample; none in other runs.
fn sampler(config: &impl Serialize) -> Option<Value> {
    let config = serde_json::to_value(config).unwrap_or_default();
    let rollout = &config["rollout"];
    let kind = rollout["kind"].as_str().filter(|kind| *kind != "engine")?;
    Some(json!({"kind": kind, "urls": rollout["servers"]["urls"]}))
}

/// Number of processors of this machine.
pub(super) fn n_processors() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}
