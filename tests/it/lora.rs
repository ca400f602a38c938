//! Runs that train adapters in place of weights: what they leave, and that they go on.

use std::path::Path;

use serde_json::Value;

use crate::binary::{arg, file, json_lines, refuse, succeed};

const LORA: &str = "trainer.learner.lora={ r = 8, lora_alpha = 16 }";

fn metrics(dir: &Path, run: &str) -> Vec<Value> {
    json_lines(&std::fs::read_to_string(dir.join(run).join("metrics.jsonl")).unwrap())
}

fn same_files(a: &Path, b: &Path, names: &[&str]) {
    for name in names {
        let read = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
        assert!(read(a) == read(b), "{name} differs");
    }
}

#[test]
fn training_of_adapters_leaves_a_peft_folder_and_a_merged_model_and_can_be_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let place = format!("run.output_dir={}", arg(dir.path()));
    let run = |name: &str, more: &[&str]| {
        let (name, export) = (
            format!("run.name={name}"),
            format!("export.path={}", arg(&dir.path().join(format!("{name}-model")))),
        );
        let plain = ["train", "configs/quickstart.toml", LORA, &place, &name, &export];
        let small = [
            "train.prompts_per_step=4",
            "rollout.temperature=1.4",
            "trainer.learner.optim.lr=1e-3",
            "trainer.learner.optim.schedule={ kind = \"constant\", warmup_updates = 0 }",
            "eval.max_prompts=8",
            "eval.every=0",
        ];
        succeed(&[&plain[..], &small, more].concat());
    };
    run("whole", &["train.steps=4"]);
    run("parts", &["train.steps=2"]);
    std::fs::remove_dir_all(dir.path().join("parts-model")).unwrap();
    run("parts", &["train.steps=4", "--resume"]);
    // engines with weights of their own take the adapters of the checkpoint, too
    let other = ["rollout.engine.quantization=fp8", "rollout.max_completion_length=24"];
    run("whole8", &[&other[..], &["train.steps=3"]].concat());
    run("parts8", &[&other[..], &["train.steps=2"]].concat());
    std::fs::remove_dir_all(dir.path().join("parts8-model")).unwrap();
    run("parts8", &[&other[..], &["train.steps=3", "--resume"]].concat());
    let [whole8, parts8] =
        ["whole8", "parts8"].map(|name| dir.path().join(name).join("checkpoints/step_00003"));
    same_files(&whole8, &parts8, &["adapter_model.safetensors"]);
    let checkpoint = |name: &str| dir.path().join(name).join("checkpoints/step_00004");
    let (whole, parts) = (checkpoint("whole"), checkpoint("parts"));
    let of_adapter = ["adapter_model.safetensors", "adapter_config.json", "tokenizer.json"];
    same_files(&whole, &parts, &of_adapter);
    same_files(&whole, &parts, &["trainer_state/shard-00001-model-00001-of-00001.safetensors"]);
    assert!(!whole.join("config.json").exists() && !whole.join("model.safetensors").exists());
    let [whole, parts] = ["whole", "parts"].map(|name| dir.path().join(format!("{name}-model")));
    same_files(&whole, &parts, &["model.safetensors", "config.json"]);
    // sampled without a merged copy and in the trainer's format, the numbers agree
    for step in metrics(dir.path(), "whole") {
        let Some(off) = step["sampling/sampling_logp_difference/max"].as_f64() else { continue };
        assert!(off < 1e-3, "{step}");
    }
    let prompts = file(dir.path(), "p.jsonl", r#"{"prompt": "What is 17 + 25?"}"#);
    let model = arg(&whole);
    succeed(&["generate", "--model", &model, "--input", &prompts, "--max-tokens", "8"]);
}

#[test]
fn sft_and_dpo_train_adapters_and_a_fresh_model_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let place = format!("run.output_dir={}", arg(dir.path()));
    let rows: Vec<String> = (10..42)
        .map(|n| {
            format!(
                r#"{{"prompt": "What is {n} + 1?", "completion": "The answer is {}.",
                "chosen": "The answer is {}.", "rejected": "The answer is {}."}}"#,
                n + 1,
                n + 1,
                n + 2
            )
            .replace('\n', " ")
        })
        .collect();
    let data = file(dir.path(), "d.jsonl", &rows.join("\n"));
    let common = format!(
        "[model]\npath = \"data/models/nano-policy\"\n[data]\npath = {data:?}\nchat = true\n\
         [trainer]\nsteps = 12\nbatch_size = 16\n[trainer.learner.lora]\nr = 4\n\
         target_modules = [\"q_proj\", \"v_proj\"]\n[trainer.learner.optim]\nlr = 1e-2\n"
    );
    for (verb, better) in [("sft", "mean_token_accuracy"), ("dpo", "rewards/accuracies")] {
        let config = file(dir.path(), &format!("{verb}.toml"), &common);
        let name = format!("run.name={verb}");
        succeed(&[verb, &config, &place, &name]);
        let steps = metrics(dir.path(), verb);
        let number = |at: usize, name: &str| steps[at][name].as_f64().unwrap();
        assert!(number(11, better) > number(0, better), "{verb}: {}", steps[11]);
        assert!(number(11, "loss") < number(0, "loss"), "{verb}: {}", steps[11]);
        let written = dir.path().join(verb).join("checkpoints/step_00012/adapter_config.json");
        let written: Value =
            serde_json::from_str(&std::fs::read_to_string(written).unwrap()).unwrap();
        assert_eq!(written["target_modules"], serde_json::json!(["q_proj", "v_proj"]));
        let base = written["base_model_name_or_path"].as_str().unwrap();
        assert!(Path::new(base).is_absolute() && base.ends_with("data/models/nano-policy"));
    }
    let message = refuse(&["sft", "configs/nano-policy.toml", LORA, &place]);
    assert!(message.contains("trainer.learner.lora is set with model.new"), "{message}");
}
