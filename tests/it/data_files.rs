//! Data files of users: every command reads the same formats in the same way.

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;

use crate::binary::{arg, file, joust, json_lines, refuse, succeed, told, within_minutes};

const RULE: &str = "[reward]\nkind = \"correct\"\n";

/// A file of text without annotation beside a column with a time zone.
fn parquet_file(dir: &Path, name: &str, columns: &[(&str, [&str; 2])]) -> String {
    let text = |values: &[&str; 2]| -> ArrayRef {
        Arc::new(BinaryArray::from(values.map(str::as_bytes).to_vec()))
    };
    let times: ArrayRef =
        Arc::new(TimestampMicrosecondArray::from(vec![1, 2]).with_timezone("UTC"));
    let columns = columns.iter().map(|(name, values)| (*name, text(values)));
    let batch = RecordBatch::try_from_iter(columns.chain([("created_at", times)])).unwrap();
    let path = dir.join(name);
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    arg(&path)
}

#[test]
fn score_reads_json_lines_arrays_and_huge_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "rule.toml", RULE);
    let user = |text: &str| format!(r#""messages": [{{"role": "user", "content": "{text}"}}]"#);
    let large = "55555555555555555555555";
    let rows = [
        format!(
            r#"{{"prompt": "a", {}, "group_id": 36893488147419103233, "answer": {large},
                "completions": ["\\boxed{{{large}}}", "\\boxed{{55555555555555555555556}}"]}}"#,
            user("x")
        ),
        format!(
            r#"{{{}, "group_id": "b", "answer": 2.5e+20,
                "completions": ["\\boxed{{250000000000000000000}}", "\\boxed{{20}}"]}}"#,
            user("b")
        ),
        r#"{"prompt": "Solve it.\n<think>", "group_id": "c", "answer": "7",
            "completions": ["So it is 7.", "I am done.</think> It is 7."]}"#
            .to_owned(),
    ]
    .map(|row| row.replace('\n', " "));
    for (name, text) in [
        ("lines.jsonl", format!("\u{feff}{}\r\n", rows.join("\r\n"))),
        ("array.json", format!("[{}]", rows.join(",\n"))),
    ] {
        let input = file(dir.path(), name, &text);
        let output = arg(&dir.path().join("out"));
        succeed(&["score", &config, "--input", &input, "--output", &output]);
        let lines = std::fs::read_to_string(dir.path().join("out/rewards.jsonl")).unwrap();
        let lines = json_lines(&lines);
        let rewards: Vec<&serde_json::Value> = lines.iter().map(|line| &line["rewards"]).collect();
        let first_or_second = |first: f64| serde_json::json!([first, 1.0 - first]);
        let wanted = [first_or_second(1.0), first_or_second(1.0), first_or_second(0.0)];
        assert_eq!(rewards, wanted.iter().collect::<Vec<_>>(), "{name}");
        assert_eq!(lines[0]["group_id"], "36893488147419103233");
    }
}

#[test]
fn rate_and_logprobs_read_parquet_text_without_annotation() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = parquet_file(
        dir.path(),
        "p.parquet",
        &[("prompt", ["1", "2"]), ("completion", ["3", "4"])],
    );
    let model = ["--model", "tests/golden/models/tiny-qwen2"];
    let rows = json_lines(&succeed(&[&["logprobs", "--input", &pairs], &model[..]].concat()));
    assert_eq!(rows.len(), 2);
    let names =
        [("group_id", ["g", "g"]), ("member_a", ["ann", "ann"]), ("member_b", ["bo", "cy"])];
    let matches = parquet_file(dir.path(), "m.parquet", &names);
    let message = refuse(&["rate", "--input", &matches]);
    assert!(message.contains("m.parquet: row 1: column `votes_a` is missing"), "{message}");
}

#[test]
fn answers_that_nobody_compares_and_roles_that_nobody_judges_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "rule.toml", RULE);
    let output = arg(&dir.path().join("out"));
    let row = |answer: &str| {
        let row = r#"{"prompt": [{"role": "user", "content": " "}, {"role": "environment",
            "content": "7"}], "completions": ["7", "8"], "answer": "#;
        file(dir.path(), "p.jsonl", &format!("{}{answer}}}", row.replace('\n', " ")))
    };
    let score = |config: &str, input: &str| {
        ["score", config, "--input", input, "--output", &output].map(str::to_owned)
    };
    fn borrowed(args: &[String]) -> Vec<&str> {
        args.iter().map(String::as_str).collect()
    }
    succeed(&borrowed(&score(&config, &row("7"))));
    let message = refuse(&borrowed(&score(&config, &row(r#"{"value": "7"}"#))));
    assert!(message.contains("column `answer` is an object, wanted a text"), "{message}");
    // with a judge, the answer does not matter, and the roles do
    let judged = "configs/quickstart.toml";
    let message = refuse(&borrowed(&score(judged, &row(r#"{"value": "7"}"#))));
    assert!(message.contains("column `prompt` has a blank message of the user"), "{message}");
    let model = ["--model", "tests/golden/models/tiny-qwen2", "--max-tokens", "1"];
    succeed(&[&["generate", "--input", &row("7")], &model[..]].concat());
}

#[test]
fn generate_renders_the_tools_of_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let chat = r#""messages": [{"role": "user", "content": "2+3?"}]"#;
    let rows = [
        format!("{{{chat}}}"),
        format!(r#"{{{chat}, "tools": [{{"name": "add"}}]}}"#),
        format!(r#"{{{chat}, "chat_template_kwargs": {{"tools": [{{"name": "add"}}]}}}}"#),
    ];
    let input = file(dir.path(), "p.jsonl", &rows.join("\n"));
    let model = ["--model", "tests/golden/models/tiny-qwen2", "--max-tokens", "1"];
    let samples = json_lines(&succeed(&[&["generate", "--input", &input], &model[..]].concat()));
    let prompts: Vec<_> = samples.iter().map(|sample| &sample["prompt_token_ids"]).collect();
    assert_ne!(prompts[0], prompts[1]);
    assert_eq!(prompts[1], prompts[2]);
}

#[test]
fn a_chat_that_has_its_answer_is_no_prompt_of_any_command() {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "rule.toml", RULE);
    let row = r#"{"messages": [{"role": "user", "content": "2+3?"}, {"role": "assistant",
        "content": "It is 5."}], "completions": ["5"], "completion_a": "5", "completion_b": "6",
        "answer": "5"}"#
        .replace('\n', " ");
    let input = file(dir.path(), "p.jsonl", &row);
    let output = arg(&dir.path().join("out"));
    let model = ["--model", "tests/golden/models/tiny-qwen2"];
    let io = ["--input", &input, "--output", &output];
    for command in [
        [&["generate"], &io[..], &model[..]].concat(),
        [&["score", &config], &io[..]].concat(),
        [&["judge", &config], &io[..]].concat(),
    ] {
        let message = refuse(&command);
        let wanted = "p.jsonl:1: column `messages` ends with the assistant's turn (message 2)";
        assert!(message.contains(wanted), "{message}");
    }
}

#[test]
fn files_of_other_formats_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "rule.toml", RULE);
    let csv = file(dir.path(), "g.csv", "prompt,completions\na,b\n");
    let output = arg(&dir.path().join("out"));
    let message = refuse(&["score", &config, "--input", &csv, "--output", &output]);
    assert!(message.contains("g.csv: unknown file type; wanted JSON Lines"), "{message}");
    let empty = file(dir.path(), "g.jsonl", "\n");
    let message = refuse(&["score", &config, "--input", &empty, "--output", &output]);
    assert!(message.contains("g.jsonl: no rows in this file"), "{message}");
}

#[test]
fn score_reads_the_answers_of_verl_and_fails_where_no_row_has_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "rule.toml", RULE);
    let output = arg(&dir.path().join("out"));
    let row = r#"{"prompt": [{"role": "user", "content": "1+6?"}], "completions": ["7", "8"]"#;
    let verl = format!("{row}, \"reward_model\": {{\"ground_truth\": 7}}}}");
    let verl = file(dir.path(), "v.jsonl", &verl);
    succeed(&["score", &config, "--input", &verl, "--output", &output]);
    let lines = std::fs::read_to_string(dir.path().join("out/rewards.jsonl")).unwrap();
    assert_eq!(json_lines(&lines)[0]["rewards"], serde_json::json!([1.0, 0.0]));
    let none = file(dir.path(), "n.jsonl", &format!("{row}}}"));
    let message = refuse(&["score", &config, "--input", &none, "--output", &output]);
    assert!(message.contains("no row has a known answer (column `answer`)"), "{message}");
}

#[test]
fn sft_goes_on_where_no_example_of_a_batch_fits_and_ends_where_none_of_the_file_does() {
    let dir = tempfile::tempdir().unwrap();
    let chat = |answer: &str| {
        let turn = |role: &str, text: &str| format!(r#"{{"role": "{role}", "content": "{text}"}}"#);
        format!(r#"{{"messages": [{}, {}]}}"#, turn("user", "1+2?"), turn("assistant", answer))
    };
    let long = "very long ".repeat(200);
    let run = |name: &str, rows: &[String]| {
        let data = file(dir.path(), &format!("{name}.jsonl"), &rows.join("\n"));
        let text = format!(
            "[run]\nname = \"{name}\"\noutput_dir = {:?}\n\
             [model]\npath = \"tests/golden/models/tiny-qwen2\"\n[data]\npath = {data:?}\n\
             [trainer]\nsteps = 24\nbatch_size = 1\nmax_length = 64\n",
            arg(dir.path())
        );
        file(dir.path(), &format!("{name}.toml"), &text)
    };
    succeed(&["sft", &run("some", &[chat("3"), chat(&long)])]);
    let metrics = std::fs::read_to_string(dir.path().join("some/metrics.jsonl")).unwrap();
    let steps = json_lines(&metrics);
    let n_updates = steps.iter().filter(|step| step.get("loss").is_some()).count();
    let n_skipped: f64 = steps.iter().map(|step| step["skipped_examples"].as_f64().unwrap()).sum();
    assert_eq!((steps.len(), n_updates, n_skipped), (24, 12, 12.0));
    // the schedule follows the steps: a step without an update is one, too
    let last = steps.iter().rfind(|step| step.get("learning_rate").is_some()).unwrap();
    assert!(last["step"].as_u64().unwrap() >= 23);
    let output = joust(&["sft", &run("none", &[chat(&long), chat(&long)])]).output().unwrap();
    let message = told(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("error: data.path: none of the file's 2 examples fits"), "{message}");
    // a run that is over before that has learned nothing either
    let few = run("few", &[chat(&long), chat(&long), chat(&long)]);
    let export = dir.path().join("few-model");
    let export_path = format!("export.path={}", arg(&export));
    for more in [&[][..], &["--resume"]] {
        let args = [&["sft", &few, "trainer.steps=2", &export_path], more].concat();
        let output = joust(&args).output().unwrap();
        let message = told(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("error: none of the run's 2 examples fits"), "{message}");
        assert!(!export.exists());
    }
    // a model that cannot be opened costs no run
    let some = dir.path().join("some.toml").display().to_string();
    refuse(&["sft", &some, "--clean", "model.path=tests/golden/models"]);
    assert!(dir.path().join("some/metrics.jsonl").exists());
}

/// Runs a command with this text on its standard input.
fn with_input(args: &[&str], text: String) -> Output {
    let mut command = within_minutes(&joust(args));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // a command that is refused reads no more
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    output
}

#[test]
fn commands_read_all_rows_of_a_pipe_and_write_into_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = file(dir.path(), "rule.toml", RULE);
    let n_rows = 400;
    let row = |n: usize| format!(r#"{{"prompt": "{n}", "completions": ["{n}"], "answer": {n}}}"#);
    let rows: Vec<String> = (0..n_rows).map(row).collect();
    let output = arg(&dir.path().join("out"));
    let score = ["score", &config, "--input", "/dev/stdin", "--output", &output];
    for text in [rows.join("\n"), format!("[{}]", rows.join(","))] {
        let said = with_input(&score, text);
        assert!(said.status.success(), "{}", told(&said));
        let lines = std::fs::read_to_string(dir.path().join("out/rewards.jsonl")).unwrap();
        assert_eq!(json_lines(&lines).len(), n_rows);
    }
    let pairs = r#"{"prompt": "1", "completion": "2"}"#.to_owned();
    let model = "tests/golden/models/tiny-qwen2";
    let streams =
        ["logprobs", "--model", model, "--input", "/dev/stdin", "--output", "/dev/stdout"];
    let said = with_input(&streams, pairs);
    assert!(said.status.success(), "{}", told(&said));
    assert_eq!(json_lines(&String::from_utf8(said.stdout).unwrap()).len(), 1);
    // a run reads its files again when it is resumed
    let place = format!("run.output_dir={}", dir.path().display());
    let train = ["train", "configs/quickstart.toml", "prompts.path=/dev/stdin", &place];
    let said = with_input(&train, rows.join("\n"));
    assert_eq!(said.status.code(), Some(2), "{}", told(&said));
    assert!(told(&said).contains("prompts.path: /dev/stdin is a pipe"), "{}", told(&said));
}

#[test]
fn sft_refuses_thoughts_that_it_would_not_learn() {
    let dir = tempfile::tempdir().unwrap();
    let row = r#"{"messages": [{"role": "user", "content": "1+2?"},
        {"role": "assistant", "content": "3", "reasoning_content": "one and two"}]}"#;
    let data = file(dir.path(), "d.jsonl", &row.replace('\n', " "));
    let text = format!("[model]\npath = \"data/models/nano-policy\"\n[data]\npath = {data:?}\n");
    let config = file(dir.path(), "c.toml", &text);
    let place = format!("run.output_dir={}", dir.path().display());
    let message = refuse(&["sft", &config, &place, "trainer.steps=2"]);
    let wanted = "d.jsonl:1: column `messages` has a thought in the turn that is learned";
    assert!(message.contains(wanted), "{message}");
}
