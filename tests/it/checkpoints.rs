//! Checkpoints of several ranks: torch loads them, any number of ranks goes on with them, and none
//! is left of a rank that cannot write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use joust_engine::weights::{self, Shards, WeightMap};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::binary::{arg, joust, not_run, root, succeed, told};
use crate::full_disk::limited;
use crate::ranks::{Ranks, args, metrics};

/// A short run of the quickstart that is not measured, with more arguments.
fn short(dir: &Path, name: &str, steps: u32, more: &[&str]) -> Vec<String> {
    let steps = format!("train.steps={steps}");
    let warmup = "trainer.learner.optim.schedule.warmup_updates=0";
    let short = ["eval.every=0", "eval.max_prompts=1", warmup, &steps];
    args(dir, name, &[&short[..], more].concat())
}

fn step(dir: &Path, name: &str, step: u32) -> PathBuf {
    dir.join(name).join(format!("checkpoints/step_{step:05}"))
}

/// The names of a folder's files, its subfolders' included.
fn files(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match path.is_dir() {
            true => names.extend(files(&path).iter().map(|file| format!("{name}/{file}"))),
            false => names.push(name),
        }
    }
    names.sort();
    names
}

/// The running means as a resumed run reads them, in one piece each.
fn means(step: &Path) -> WeightMap {
    let shards = Shards::open_folder(&step.join("trainer_state")).unwrap();
    let whole = |(name, n_values): (String, usize)| {
        let values = Tensor::full([n_values as i64], f64::NAN, (Kind::Float, Device::Cpu));
        shards.read(&name, n_values, 0..n_values, &values).unwrap();
        (name, values)
    };
    shards.lengths().map(|(name, n)| (name.to_owned(), n)).map(whole).collect()
}

#[test]
fn torch_loads_the_shards_and_the_model_of_any_number_of_ranks() {
    let python = root().join(".venv/bin/python");
    let has_safetensors = Command::new(&python).args(["-c", "import safetensors, numpy"]).output();
    if !has_safetensors.is_ok_and(|output| output.status.success()) {
        not_run("safetensors is not in .venv; `make test` installs it");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for n in 1..=3 {
        let name = format!("of-{n}");
        let more = ["reward.kind=correct", "checkpoint.every=1"];
        let args = short(dir, &name, 2, &more);
        match n {
            1 => drop(succeed(&args)),
            n => Ranks::succeed(dir, &args, n),
        }
        let step = step(dir, &name, 2);
        let means = means(&step);
        assert!(means.values().any(|it| it.abs().max().double_value(&[]) > 0.0));
        let whole = dir.join(format!("{name}.safetensors"));
        weights::write_file(&whole, &means).unwrap();
        let output = Command::new(&python)
            .args(["-B", "tests/it/checkpoints/torch_loads.py", &arg(&step), &arg(&whole)])
            .arg(dir.join(format!("{name}-consolidated")))
            .current_dir(root())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", told(&output));
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&result["n_tensors"], &result["n_pieces"]), (&means.len().into(), &n.into()));
        if result["transformers"].is_null() {
            not_run("transformers is not in .venv: the model's folder was not loaded by it");
        }
        let shards = (1..=n).map(|n| format!("trainer_state/shard-{n:05}-model-00001-of-00001"));
        let mut wanted: Vec<String> = shards.map(|name| name + ".safetensors").collect();
        wanted.push("trainer_state/state.json".to_owned());
        match n {
            1 => wanted.push("model.safetensors".to_owned()),
            n => {
                wanted.push("model.safetensors.index.json".to_owned());
                wanted.extend((1..=n).map(|i| format!("model-{i:05}-of-{n:05}.safetensors")));
            }
        }
        wanted.extend(
            ["config", "generation_config", "tokenizer", "tokenizer_config"]
                .map(|name| format!("{name}.json")),
        );
        wanted.sort();
        let mut found = files(&step);
        found.retain(|name| !name.ends_with(".py"));
        assert_eq!(found, wanted);
    }
}

#[test]
fn other_numbers_of_ranks_go_on_with_the_same_state() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let more = ["reward.kind=correct", "checkpoint.every=1", "--resume"];
    let mut before = BTreeMap::new();
    for (at, n) in [2, 3, 1, 2].into_iter().enumerate() {
        let args = short(dir, "run", at as u32 + 1, &more);
        match n {
            1 => drop(succeed(&args)),
            n => Ranks::succeed(dir, &args, n),
        }
        let step = step(dir, "run", at as u32 + 1);
        let means = means(&step);
        assert_eq!(files(&step).iter().filter(|name| name.contains("/shard-")).count(), n);
        assert!(before.is_empty() || means.keys().eq(before.keys()));
        before = means;
    }
    assert_eq!(metrics(dir, "run").last().unwrap()["step"], 4);
}

#[test]
fn a_checkpoint_with_one_file_of_means_goes_on_as_one_with_shards() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let by_rule = ["reward.kind=correct"];
    for name in ["new", "old"] {
        succeed(&short(dir, name, 2, &by_rule));
    }
    // as earlier versions wrote it
    let state_dir = step(dir, "old", 2).join("trainer_state");
    let means = means(&step(dir, "old", 2));
    for file in files(&state_dir).iter().filter(|name| name.starts_with("shard-")) {
        std::fs::remove_file(state_dir.join(file)).unwrap();
    }
    weights::write_file(&state_dir.join("optimizer.safetensors"), &means).unwrap();
    let more = [&by_rule[..], &["--resume"]].concat();
    for name in ["new", "old"] {
        succeed(&short(dir, name, 3, &more));
    }
    let [new, old] = ["new", "old"].map(|name| step(dir, name, 3));
    assert_eq!(files(&new), files(&old));
    for file in files(&new).iter().filter(|name| name.ends_with(".safetensors")) {
        assert!(std::fs::read(new.join(file)).unwrap() == std::fs::read(old.join(file)).unwrap());
    }
}

#[test]
fn a_missing_shard_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let by_rule = ["reward.kind=correct"];
    Ranks::succeed(dir, &short(dir, "run", 1, &by_rule), 2);
    let shard = "trainer_state/shard-00002-model-00001-of-00001.safetensors";
    std::fs::remove_file(step(dir, "run", 1).join(shard)).unwrap();
    let args = short(dir, "run", 2, &[&by_rule[..], &["--resume"]].concat());
    let output = joust(&args).output().unwrap();
    let text = told(&output);
    assert!(
        output.status.code() == Some(2) && text.contains("step_00001 cannot be used"),
        "{text}"
    );
    assert!(text.contains("exp_avg.model.embed_tokens.weight"), "{text}");
}

#[test]
fn nothing_is_left_of_a_checkpoint_that_one_rank_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let args = short(dir, "run", 2, &["reward.kind=correct", "checkpoint.every=1"]);
    // room for logs, and not for weights
    let mut ranks = Ranks::start_with(dir, &vec![args.clone(); 3], |rank, args| match rank {
        1 => limited(400, &args.iter().map(String::as_str).collect::<Vec<_>>()),
        _ => joust(args),
    });
    let codes = ranks.end();
    let said: Vec<String> = (0..3).map(|rank| ranks.said(rank)).collect();
    assert_eq!(codes, [Some(1); 3], "{said:?}");
    let checkpoints = dir.join("run/checkpoints");
    assert_eq!(files(&checkpoints), [""; 0], "{said:?}");
    assert!(said[1].starts_with("error: rank 1: "), "{said:?}");
    for rank in [0, 2] {
        let wanted = "error: rank 1 has failed: ";
        let errors: Vec<&str> =
            said[rank].lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(matches!(&errors[..], [line] if line.starts_with(wanted)), "{said:?}");
        let reason = said[1].trim_end().strip_prefix("error: rank 1: ").unwrap();
        assert!(errors[0].ends_with(reason), "{said:?}");
    }
    // with room it goes on
    Ranks::succeed(dir, &[&args[..], &["--resume".to_owned()]].concat(), 3);
}
