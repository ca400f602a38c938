//! Bad input: one line of error that names the place and the remedy, exit code 2, nothing written.

use std::path::Path;

use crate::binary::{arg, file, joust, not_run, refuse, refuse_command, root};
use crate::golden::{self, copy_files};

const QUICKSTART: &str = "configs/quickstart.toml";
const TINY: &str = "tests/golden/models/tiny-qwen2";

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

fn check(args: &[&str], wanted: &[&str]) {
    let message = refuse(args);
    for part in wanted {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn configs_are_refused_by_key_and_file() {
    let dir = tempfile::tempdir().unwrap();
    let output_dir = format!("run.output_dir={}", dir.path().display());
    let bad = |text: &str| file(dir.path(), "bad.toml", text);
    let cases: [(&str, &[&str]); 6] = [
        (
            "[trainer.learner.optim]\nlearning_rate = 1.0",
            &["trainer.learner.optim.learning_rate is an unknown key"],
        ),
        ("[rollout]\ngroup_size = \"many\"", &["rollout.group_size"]),
        ("[reward.tournament]\nvotes = 0", &["reward.tournament.votes is 0, wanted at least 1"]),
        (
            "[reward.tournament]\nkind = \"swis\"",
            &["reward.tournament.kind is \"swis\"", "did you mean \"swiss\"?"],
        ),
        ("[run\n", &["bad.toml"]),
        (
            "[policy]\npath = \"no/such/model\"",
            &["policy.path: no/such/model does not exist", "model folder"],
        ),
    ];
    for (text, wanted) in cases {
        check(&["train", QUICKSTART, &bad(text), &output_dir], wanted);
    }
    let meant = ["trainer.lr is an unknown key; did you mean trainer.learner.optim.lr?"];
    check(&["train", QUICKSTART, "trainer.lr=1", &output_dir], &meant);
    check(&["train", "configs/no-such.toml"], &["configs/no-such.toml"]);
    check(&["train", QUICKSTART, "prompts.path=no/such.jsonl", &output_dir], &["no/such.jsonl"]);
    let no_tokens = ["train", QUICKSTART, "reward.judge.engine.step_tokens=0", &output_dir];
    check(&no_tokens, &["reward.judge.engine.step_tokens is 0, wanted at least 1"]);
    let renamed = ["train", QUICKSTART, "rollout.max_batch=4", &output_dir];
    check(&renamed, &["rollout.max_batch has a new name: rollout.engine.max_batch"]);
    let other_kind = ["reward.judge.kind=rule", "reward.judge.dump=x", &output_dir];
    let message = refuse(&[&["train", QUICKSTART], &other_kind[..]].concat());
    let wanted = "reward.judge.dump is a key of reward.judge.kind = \"replay\"";
    assert!(message.contains(wanted), "{message}");
    // all problems at once: bounds of keys, and rules between keys
    let several = [
        "rollout.group_size=4000000000",
        "rollout.workers=100000",
        "rollout.temperature=1e-300",
        "reward.judge.top_p=0",
        "reward.max_failed=1.5",
        "train.prompts_per_step=4000000000",
        "trainer.loss.kl.weight=inf",
        "trainer.loss.surrogate.high=inf",
        "trainer.learner.optim.lr=1e30",
        "trainer.learner.optim.weight_decay=inf",
        "trainer.learner.optim.eps=inf",
        "trainer.learner.optim.max_grad_norm=nan",
        "trainer.learner.optim.schedule.min_ratio=-5",
        "eval.temperature=-1",
        "trainer.learner.optim.schedule.warmup_updates=100000",
        "run.name=../escape",
    ];
    let clip = "trainer.loss.surrogate.kind=clip";
    let message = refuse(&[&["train", QUICKSTART, &output_dir, clip], &several[..]].concat());
    for key in several.map(|text| text.split_once('=').unwrap().0) {
        let n = message.matches(&format!("{key} is ")).count();
        assert_eq!(n, 1, "{key} is there {n} times: {message}");
    }
    let sft = ["trainer.learner.optim.schedule.min_ratio=50", "run.name=", "trainer.steps=5"];
    let message = refuse(&[&["sft", "configs/nano-policy.toml", &output_dir], &sft[..]].concat());
    for wanted in ["min_ratio is 50", "run.name is \"\"", "warmup_updates is 100, wanted at most 5"]
    {
        assert!(message.contains(wanted), "{wanted} is not in {message}");
    }
    for name in [".", "..", "a/b", "/tmp/a", ".hidden", "a\\b"] {
        check(&["train", QUICKSTART, &output_dir, &format!("run.name={name}")], &["run.name is"]);
    }
    // an override that is written like an option
    let dashed = ["train", QUICKSTART, "--train.steps=0", &output_dir];
    check(&dashed, &["the command line: train.steps is 0, wanted at least 1"]);
    let without_value = ["train", QUICKSTART, "--train.steps", "3"];
    check(&without_value, &["--train.steps: a key is set by train.steps=VALUE"]);
    assert_eq!(entries(dir.path()), 1, "no run folder was made");
}

#[test]
fn broken_model_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = file(dir.path(), "p.jsonl", "{\"prompt\":\"a\"}");
    let generate = |model: &str, wanted: &[&str]| {
        check(&["generate", "--model", model, "--input", &prompts], wanted);
    };
    let copy = |name: &str| {
        let to = dir.path().join(name);
        copy_files(&golden::path("models/tiny-llama"), &to);
        to
    };
    let model = copy("cut");
    let weights = model.join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    generate(&arg(&model), &["model.safetensors"]);
    std::fs::write(&weights, b"\xff\xff\xff\xff\xff\xff\xff\xff{}").unwrap();
    generate(&arg(&model), &["model.safetensors"]);
    std::fs::remove_file(&weights).unwrap();
    generate(&arg(&model), &["safetensors"]);

    let model = copy("config");
    let text = std::fs::read_to_string(model.join("config.json")).unwrap();
    let config = model.join("config.json");
    std::fs::write(&config, text.replace("\"hidden_size\"", "\"hidden_sise\"")).unwrap();
    generate(&arg(&model), &["config.json", "hidden_size"]);
    std::fs::write(&config, text.replace("\"llama\"", "\"gpt2\"")).unwrap();
    generate(&arg(&model), &["gpt2", "not supported"]);
    std::fs::write(&config, "{").unwrap();
    generate(&arg(&model), &["config.json", "invalid JSON"]);
    let model = copy("tokenizer");
    std::fs::write(model.join("tokenizer.json"), "{}").unwrap();
    generate(&arg(&model), &["tokenizer.json"]);

    for (name, bytes) in
        [("a.gguf", &b"GGUF"[..]), ("b.gguf", b"nonsense, and a little more of it")]
    {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        generate(&arg(&path), &[name]);
    }
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    generate(&arg(&empty), &["no model in this folder; wanted config.json or a .gguf file"]);
    generate("no/such/model", &["no/such/model"]);
}

#[test]
fn missing_judges_are_refused_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let groups = file(dir.path(), "g.jsonl", "{\"prompt\":\"a\",\"completions\":[\"b\"]}");
    let out = arg(&dir.path().join("out"));
    let empty = arg(dir.path());
    let engine = |model: &str| format!("[reward.judge]\nkind = \"engine\"\nmodel = {model:?}\n");
    let cases: [(String, &[&str]); 4] = [
        (engine("no/such"), &["reward.judge.model: no/such does not exist", "GGUF file"]),
        (engine(&empty), &["reward.judge.model: ", "no model in this folder"]),
        (
            "[reward.judge]\nkind = \"replay\"\ndump = \"no/such\"\n".to_owned(),
            &["reward.judge.dump: no/such does not exist", "folder of a dump"],
        ),
        (
            "[reward.judge]\nkind = \"http\"\nurls = [\"http://127.0.0.1:9/v1\"]\n\
             model = \"rrm\"\ntokenizer = \"no/such\"\n"
                .to_owned(),
            &["reward.judge.tokenizer: no/such does not exist", "model folder"],
        ),
    ];
    for (text, wanted) in cases {
        let config = file(dir.path(), "judge.toml", &text);
        check(&["serve", &config, "serve.port=0"], wanted);
        check(&["score", &config, "--input", &groups, "--output", &out], wanted);
    }
}

#[test]
fn prompts_that_do_not_fit_are_refused_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{{\"prompt\":\"a\"}}\n{{\"prompt\":\"{}\"}}", "long ".repeat(4000));
    let prompts = file(dir.path(), "p.jsonl", &long);
    let wanted = ["p.jsonl:2", "tokens, the context holds", "shorten it"];
    check(&["generate", "--model", TINY, "--input", &prompts], &wanted);
    let prompts = file(dir.path(), "p.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":");
    check(&["generate", "--model", TINY, "--input", &prompts], &["p.jsonl:2: invalid JSON"]);
    let prompts = file(dir.path(), "p.jsonl", "{\"prompt\":\"a\"}");
    let bad = ["generate", "--model", TINY, "--input", &prompts, "--top-p", "0"];
    check(&bad, &["top_p is 0, wanted a number in (0, 1]"]);
}

#[test]
fn groups_and_pairs_are_refused_by_line_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = arg(&dir.path().join("out"));
    let cases = [
        ("{\"prompt\":\"a\",\"completions\":[]}", ":1: completions is empty"),
        (
            "{\"prompt\":\"a\",\"completions\":[\"b\"]}\n\n{\"completions\":[\"b\"]}",
            ":3: column `prompt` is missing (there are: completions)",
        ),
        ("{\"prompt\":\"\",\"completions\":[\"b\"]}", ":1: column `prompt` is empty"),
        ("{\"prompt\":\"a\",", ":1: invalid JSON"),
        (
            "{\"messages\":[{\"role\":\"hacker\",\"content\":\"a\"}],\"completions\":[\"b\"]}",
            ":1: column `messages` has the role \"hacker\" in message 1, wanted system, \
             developer, user",
        ),
        (
            "{\"prompt\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}],\
             \"completions\":[\"b\"]}",
            ":1: column `prompt` message 1: a part of content has type \"image\", wanted parts of \
             text",
        ),
        (
            "{\"prompt\":\"a\",\"completions\":[[{\"role\":\"tool\",\"content\":\"4\"}]]}",
            ":1: column `completions` a completion of messages has none of the role `assistant`",
        ),
        (
            "{\"prompt\":\"a\",\"completions\":[\"b\"],\"group_id\":\"x\"}\n\
             {\"prompt\":\"c\",\"completions\":[\"b\"],\"group_id\":\"x\"}",
            ":2: group_id `x` is on line 1 already",
        ),
    ];
    for (text, wanted) in cases {
        let input = file(dir.path(), "groups.jsonl", text);
        check(
            &["score", QUICKSTART, "--input", &input, "--output", &output],
            &["groups.jsonl", wanted],
        );
    }
    let input = file(dir.path(), "pairs.jsonl", "{\"prompt\":\"a\",\"completion_a\":\"b\"}");
    check(
        &["judge", QUICKSTART, "--input", &input, "--output", &output],
        &["pairs.jsonl:1: column `completion_b` is missing"],
    );
    let blank = "{\"prompt\":[{\"role\":\"user\",\"content\":null}],\"completion_a\":\"b\",\
                 \"completion_b\":\"c\"}";
    let input = file(dir.path(), "pairs.jsonl", blank);
    check(
        &["judge", QUICKSTART, "--input", &input, "--output", &output],
        &["pairs.jsonl:1: column `prompt` has a blank message of the user (message 1)"],
    );
    assert!(!Path::new(&output).exists());
}

#[test]
fn runs_that_cannot_learn_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output_dir = format!("run.output_dir={}", dir.path().display());
    let texts = [
        "{\"prompt\":\"1+1?\"}",
        "{\"prompt\":\"1+1?\",\"answer\":null}",
        "{\"prompt\":\"1+1?\",\"answer\":\"2\"}\n{\"prompt\":\"2+2?\"}",
        "{\"prompt\":\"1+1?\",\"anwser\":\"2\"}",
    ];
    for text in texts {
        let prompts = file(dir.path(), "p.jsonl", text);
        let path = format!("prompts.path={prompts}");
        for kind in ["reward.kind=correct", "reward.judge.kind=rule"] {
            let args = ["train", QUICKSTART, &output_dir, &path, kind];
            check(&args, &["p.jsonl: 1 of ", "have no answer", "prompts.answer_column"]);
        }
    }
    let misspelt = ["train", QUICKSTART, &output_dir, "reward.kind=correct"];
    let misspelt = [&misspelt[..], &["prompts.answer_column=anwser"]].concat();
    check(&misspelt, &["arithmetic-train.jsonl", "have no answer", "`anwser`"]);
    assert_eq!(entries(dir.path()), 1, "no run folder was made");
}

#[test]
fn exports_never_replace_inputs() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("policy");
    copy_files(&root().join("data/models/nano-policy"), &model);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&model, &link).unwrap();
    let output_dir = format!("run.output_dir={}", arg(&dir.path().join("outputs")));
    let (policy, inside) = (format!("policy.path={}", arg(&model)), model.join("tuned"));
    let weights = std::fs::read(model.join("model.safetensors")).unwrap();
    for export in [&model, &link, &inside, dir.path()] {
        let export = format!("export.path={}", arg(export));
        check(
            &["train", QUICKSTART, &output_dir, &policy, &export],
            &["export.path", "policy.path"],
        );
        let model = policy.replace("policy.path", "model.path");
        let sft = ["sft", "configs/nano-rrm-2-any-answer.toml", &output_dir, &model, &export];
        check(&sft, &["export.path", "model.path"]);
    }
    assert_eq!(std::fs::read(model.join("model.safetensors")).unwrap(), weights);
    let judge = ["train", QUICKSTART, &output_dir, "export.path=data/models/nano-rrm"];
    check(&judge, &["export.path data/models/nano-rrm", "reward.judge.model"]);
}

#[test]
fn run_folder_is_never_overwritten_by_accident() {
    let dir = tempfile::tempdir().unwrap();
    let output_dir = format!("run.output_dir={}", dir.path().display());
    std::fs::create_dir(dir.path().join("quickstart")).unwrap();
    std::fs::write(dir.path().join("quickstart/notes.txt"), "mine").unwrap();
    check(&["train", QUICKSTART, &output_dir], &["is there already", "--resume", "--clean"]);
    check(
        &["train", QUICKSTART, &output_dir, "--clean"],
        &["--clean deletes only folders of runs"],
    );
    let kept = std::fs::read_to_string(dir.path().join("quickstart/notes.txt")).unwrap();
    assert_eq!(kept, "mine");
}

#[test]
fn missing_device_is_refused_by_name() {
    if joust_engine::device::cuda_available() {
        not_run("this machine has a GPU");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let prompts = file(dir.path(), "p.jsonl", "{\"prompt\":\"a\"}");
    let args = ["generate", "--model", TINY, "--input", &prompts, "--device", "cuda"];
    check(&args, &["finds no CUDA device"]);
}

#[test]
fn fp8_keys_and_values_are_refused_without_a_gpu() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = file(dir.path(), "prompts.jsonl", "{\"prompt\": \"1 + 1 =\"}\n");
    let model = "data/models/nano-policy";
    let generate = ["generate", "--model", model, "--input", &prompts, "--device", "cpu"];
    let error = refuse(&[&generate[..], &["--kv-dtype", "fp8"]].concat());
    assert!(error.contains("kv_dtype fp8") && error.contains("GPU"), "{error}");
}

/// A place that takes no file, whoever asks.
const READ_ONLY: &str = "/proc/joust-output";

#[test]
fn outputs_that_cannot_be_written_are_refused_before_models_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = file(dir.path(), "p.jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}");
    let (folder, wanted) = (arg(dir.path()), ["--output cannot be written: ", READ_ONLY]);
    for command in ["generate", "logprobs"] {
        let model = ["--model", "no/such/model"];
        let args = [&[command, "--input", &prompts, "--output", READ_ONLY], &model[..]].concat();
        check(&args, &wanted);
        let args = [&[command, "--input", &prompts, "--output", &folder], &model[..]].concat();
        check(&args, &["--output cannot be written: ", "is a folder, wanted a file"]);
    }
    let groups = file(dir.path(), "g.jsonl", "{\"prompt\":\"a\",\"completions\":[\"b\",\"c\"]}");
    let pairs = "{\"prompt\":\"a\",\"completion_a\":\"b\",\"completion_b\":\"c\"}";
    let pairs = file(dir.path(), "pairs.jsonl", pairs);
    let taken = dir.path().join("taken");
    let taken_arg = arg(&taken);
    for name in ["votes.parquet", "kept"] {
        std::fs::create_dir_all(taken.join(name)).unwrap();
    }
    for (command, input) in [("score", &groups), ("judge", &pairs)] {
        let judge = "reward.judge.model=no/such/model";
        let command = [command, QUICKSTART, judge, "--input", input, "--output"];
        check(&[&command[..], &[READ_ONLY]].concat(), &wanted);
        // an existing folder in which a name is taken
        let args = [&command[..], &[taken_arg.as_str()]].concat();
        check(&args, &["--output cannot be written: ", "votes.parquet: is a folder"]);
    }
    assert_eq!(entries(&taken), 2, "nothing is left of the trials");
    let (place, export) =
        (format!("run.output_dir={}", arg(dir.path())), format!("export.path={READ_ONLY}"));
    check(&["train", QUICKSTART, &place, &export, "train.steps=3"], &[READ_ONLY]);
}

#[test]
fn tasks_without_problems_are_refused() {
    let wanted = "digits is 2, and no problem of these settings (op, split)";
    for kind in ["questions", "answers", "pairs"] {
        check(&["data", kind, "--digits", "2", "--op", "mul"], &["--digits", wanted]);
    }
    let dir = tempfile::tempdir().unwrap();
    let place = format!("run.output_dir={}", arg(dir.path()));
    let sft = ["sft", "configs/nano-policy.toml", &place];
    let task = ["data.arithmetic.digits=2", "data.arithmetic.op=mul"];
    check(&[&sft[..], &task].concat(), &["data.arithmetic.", wanted]);
}

#[test]
fn tokens_that_are_no_text_are_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "rule.toml", "[reward.judge]\nkind = \"rule\"\n");
    let mut command = joust(&["serve", &config, "serve.port=0"]);
    command.env("JOUST_TOKENS", std::ffi::OsStr::from_bytes(b"secret\xff"));
    let message = refuse_command(&command);
    assert!(message.contains("JOUST_TOKENS is not UTF-8 text"), "{message}");
}

#[test]
fn group_sizes_that_no_group_could_have_are_refused_at_start() {
    let size = ["serve.group_size is 1030, wanted at least 2 and at most 1024"];
    check(&["serve", QUICKSTART, "serve.group_size=1030"], &size);
    let round_robin = "reward.tournament.kind=\"round_robin\"";
    let wanted = [
        "serve.group_size is 1024, which reward.tournament does not allow: ",
        "523776 matches",
        "262144 are the limit",
    ];
    check(&["serve", QUICKSTART, "serve.group_size=1024", round_robin], &wanted);
}
