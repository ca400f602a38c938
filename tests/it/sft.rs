//! `joust sft` as users run it: turns that are learned, held-out examples, epochs.

use std::path::Path;

use serde_json::{Value, json};

use crate::binary::{arg, file, joust, json_lines, refuse, root, succeed};

/// Chats of two questions of the arithmetic task, with their answers.
fn chats(dir: &Path, name: &str, from: usize, n: usize) -> String {
    let text = std::fs::read_to_string(root().join("data/prompts/arithmetic-train.jsonl")).unwrap();
    let said = |role: &str, content: &Value| json!({"role": role, "content": content});
    let turn =
        |row: &Value| [said("user", &row["prompt"]), said("assistant", &row["answer"])].into_iter();
    let rows: Vec<String> = json_lines(&text)[from..from + 2 * n]
        .chunks(2)
        .map(|pair| json!({"messages": pair.iter().flat_map(turn).collect::<Vec<_>>()}).to_string())
        .collect();
    file(dir, name, &rows.join("\n"))
}

/// Arguments of a run on chats, named `name`.
struct Runs {
    dir: tempfile::TempDir,
    data: String,
}

impl Runs {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = format!("data.path={}", chats(dir.path(), "chats.jsonl", 0, 30));
        Self { dir, data }
    }

    fn args(&self, name: &str, more: &[&str]) -> Vec<String> {
        let export = format!("export.path={}", arg(&self.dir.path().join(name).join("model")));
        let mut args: Vec<String> =
            ["sft", "trainer.batch_size=8", "trainer.learner.optim.lr=1e-3"]
                .map(str::to_owned)
                .into();
        args.extend([
            self.data.clone(),
            format!("run.output_dir={}", arg(self.dir.path())),
            format!("run.name={name}"),
            "model.path=data/models/nano-policy".to_owned(),
            export,
        ]);
        args.extend(more.iter().map(|&more| more.to_owned()));
        args
    }

    fn run(&self, name: &str, more: &[&str]) -> String {
        let args = self.args(name, more);
        succeed(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn refused(&self, name: &str, more: &[&str]) -> String {
        let args = self.args(name, more);
        refuse(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn metrics(&self, name: &str) -> Vec<Value> {
        let path = self.dir.path().join(name).join("metrics.jsonl");
        json_lines(&std::fs::read_to_string(path).unwrap())
    }

    fn weights(&self, name: &str) -> Vec<u8> {
        let dir = self.dir.path().join(name).join("model");
        std::fs::read(dir.join("model.safetensors")).unwrap()
    }
}

#[test]
fn sft_of_all_turns_learns_more_tokens_and_measures_held_out_chats() {
    let runs = Runs::new();
    let held_out = format!("eval.path={}", chats(runs.dir.path(), "held-out.jsonl", 100, 12));
    let all = ["trainer.steps=7", "data.trained_turns=all"];
    runs.run("plain", &all);
    runs.run("measured", &[&all[..], &[&held_out, "eval.every=3"]].concat());
    // what is measured is not learned
    assert!(runs.weights("plain") == runs.weights("measured"));
    let steps = runs.metrics("measured");
    let measured: Vec<bool> = steps.iter().map(|step| step.get("eval/loss").is_some()).collect();
    assert_eq!(measured, [false, false, true, false, false, true, true]);
    let number = |at: usize, name: &str| steps[at][name].as_f64().unwrap();
    assert!(number(6, "eval/loss") < number(2, "eval/loss"), "{:?}", steps[6]);
    let accuracy = number(6, "eval/mean_token_accuracy");
    assert!(accuracy > 0.0 && accuracy <= 1.0 && number(6, "eval/skipped_examples") == 0.0);
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    for key in steps[6].as_object().unwrap().keys() {
        assert!(page.contains(&format!("| `{key}` |")), "{key} is not in docs/metrics.md");
    }
    // the last turn alone is the default
    runs.run("last", &["trainer.steps=7", &held_out]);
    let last = runs.metrics("last");
    assert!(last[6].get("eval/loss").is_some() && last[2].get("eval/loss").is_none());
    assert_ne!(last[0]["loss"], steps[0]["loss"]);
    let few = [&held_out[..], "eval.max_examples=2", "trainer.max_length=4", "trainer.steps=1"];
    let message = runs.refused("none", &few);
    assert!(message.contains("eval.path: none of the file's 2 examples fits"), "{message}");
}

#[test]
fn sft_of_epochs_makes_as_many_steps_as_the_data_has_and_resumes_to_the_same_weights() {
    let runs = Runs::new();
    let cosine = "trainer.learner.optim.schedule={ kind = \"cosine\", warmup_updates = 2 }";
    // 30 chats, 8 per step: 1.5 epochs are 45 chats
    runs.run("epochs", &["trainer.epochs=1.5", cosine]);
    runs.run("steps", &["trainer.steps=6", cosine]);
    assert_eq!(runs.metrics("epochs").len(), 6);
    assert!(runs.weights("epochs") == runs.weights("steps"));
    let constant = ["checkpoint.every=2", "data.trained_turns=all"];
    runs.run("whole", &[&constant[..], &["trainer.epochs=1.5"]].concat());
    runs.run("parts", &[&constant[..], &["trainer.epochs=0.8"]].concat());
    assert_eq!(runs.metrics("parts").len(), 3);
    std::fs::remove_dir_all(runs.dir.path().join("parts/model")).unwrap();
    runs.run("parts", &[&constant[..], &["trainer.epochs=1.5", "--resume"]].concat());
    assert!(runs.weights("whole") == runs.weights("parts"));

    let both = runs.refused("both", &["trainer.epochs=1", "trainer.steps=1"]);
    assert!(both.contains("trainer.steps and epochs are both set"), "{both}");
    let none = runs.refused("none", &[]);
    assert!(none.contains("trainer.steps and epochs are missing, wanted one of them"), "{none}");
    let schedule = "trainer.learner.optim.schedule={ kind = \"cosine\", warmup_updates = 7 }";
    let message = runs.refused("warm", &["trainer.epochs=1.5", schedule]);
    assert!(message.contains("warmup_updates is 7, wanted at most 6"), "{message}");
    let task = ["trainer.epochs=1", "data.task=arithmetic_policy"];
    let message = runs.refused("task", &task);
    assert!(message.contains("trainer.epochs is set with data.task"), "{message}");
    assert!(!runs.dir.path().join("warm").exists());
}

/// A handler on a thread that multiplies matrices would overwrite memory: kernels that are compiled
/// at run time use their stack pointer for other things.
#[test]
fn signals_are_handled_by_a_thread_that_does_not_compute() {
    const STOPS: u64 = (1 << (2 - 1)) | (1 << (15 - 1)); // SIGINT and SIGTERM
    let dir = tempfile::tempdir().unwrap();
    let folder = format!("run.output_dir={}", dir.path().display());
    let mut run = joust(&["sft", "configs/nano-policy.toml", &folder, "trainer.steps=1000"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = std::io::BufReader::new(run.stderr.take().unwrap());
    let mut line = String::new();
    // the first line of a step: all threads are there
    while !line.contains("loss") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut told, &mut line).unwrap() > 0, "it ended");
    }
    let tasks = std::fs::read_dir(format!("/proc/{}/task", run.id())).unwrap();
    let mut open = Vec::new();
    for task in tasks {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let blocked = u64::from_str_radix(&field("SigBlk:"), 16).unwrap();
        if blocked & STOPS != STOPS {
            open.push(field("Name:"));
        }
    }
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(open, ["handlers"]);
}
