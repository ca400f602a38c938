//! Rows of examples and pairs as people have them: each is learned, or refused in one line that
//! names the key, the file, the row, the column and the remedy, in JSON Lines as in Parquet.

use std::path::Path;
use std::sync::Arc;

use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema;
use parquet::arrow::ArrowWriter;

use crate::binary::{arg, file, joust, root, told};
use crate::golden::copy_files;

const QWEN2: &str = "tests/golden/models/tiny-qwen2";
/// Its template refuses a chat that does not begin with the user.
const LLAMA3: &str = "tests/golden/models/tiny-llama3";

/// The rows of a file of JSON Lines as a table.
fn as_parquet(dir: &Path, rows: &str) -> String {
    let (schema, _) = infer_json_schema(rows.as_bytes(), None).unwrap();
    let schema = Arc::new(schema);
    let reader = ReaderBuilder::new(Arc::clone(&schema)).build(rows.as_bytes()).unwrap();
    let path = dir.join("t.parquet");
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), schema, None).unwrap();
    for batch in reader {
        writer.write(&batch.unwrap()).unwrap();
    }
    writer.close().unwrap();
    arg(&path)
}

/// Learns from a file in one step: nothing, or the one line of error.
fn learn(command: &str, dir: &Path, model: &str, data: &str, more: &[&str]) -> Result<(), String> {
    let args = [
        command.to_owned(),
        format!("model.path={model}"),
        format!("data.path={data}"),
        format!("run.output_dir={}", arg(&dir.join("outputs"))),
        "trainer.steps=1".to_owned(),
        "trainer.batch_size=1".to_owned(),
        "--clean".to_owned(),
    ];
    let more = more.iter().map(|&more| more.to_owned());
    let output = joust(&args.into_iter().chain(more).collect::<Vec<_>>()).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    let error = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = error.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 1, "{error}");
    Err(lines[0].to_owned())
}

/// A row, and what is wrong with it, behind its place. Its columns are in the order of their names,
/// as they are in tables that are made of rows, where the order is told.
struct Case {
    command: &'static str,
    model: &'static str,
    row: &'static str,
    wanted: Result<(), &'static str>,
    /// Whether a table can hold such a row.
    in_tables: bool,
}

const fn sft(row: &'static str, wanted: Result<(), &'static str>) -> Case {
    Case { command: "sft", model: QWEN2, row, wanted, in_tables: true }
}

const fn dpo(row: &'static str, wanted: Result<(), &'static str>) -> Case {
    Case { command: "dpo", model: QWEN2, row, wanted, in_tables: true }
}

const CASES: [Case; 34] = [
    sft(r#"{"prompt": "2+3?", "completion": {"role": "assistant", "content": "5"}}"#, Ok(())),
    sft(
        r#"{"conversations": [{"from": "human", "value": "2+3?"}, {"from": "gpt", "value": "5"}]}"#,
        Ok(()),
    ),
    sft(r#"{"instruction": "Add.", "input": "2, 3", "output": "5"}"#, Ok(())),
    // tools are called before the turn that is learned
    sft(
        r#"{"messages": [{"role": "user", "content": "2+3?"}, {"role": "assistant",
            "content": null, "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]},
            {"role": "tool", "content": "5"}, {"role": "assistant", "content": "5"}]}"#,
        Ok(()),
    ),
    sft(
        r#"{"messages": [{"role": "user", "content": "Grüße, 世界 👋"},
            {"role": "assistant", "content": "Ça va 🙂"}], "id": 7, "meta": {"tags": ["a"]}}"#,
        Ok(()),
    ),
    sft(
        r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "2+3?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "5"}]}]}"#,
        Ok(()),
    ),
    sft(
        r#"{"messages": [{"role": "assistant", "content": "Hi"}, {"role": "user",
            "content": "2+3?"}, {"role": "assistant", "content": "5"}]}"#,
        Ok(()),
    ),
    sft(
        r#"{"messages": [{"role": "system", "content": "Be brief."},
            {"role": "assistant", "content": "Hi"}]}"#,
        Ok(()),
    ),
    Case {
        model: LLAMA3,
        ..sft(
            r#"{"messages": [{"role": "assistant", "content": "Hi"}, {"role": "user",
                "content": "2+3?"}, {"role": "assistant", "content": "5"}]}"#,
            Err(
                "the chat template refuses a chat that begins with a turn of the assistant (a chat \
                 begins with the user): begin it with a turn of the user, or leave that turn out",
            ),
        )
    },
    Case {
        model: LLAMA3,
        ..sft(
            r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "system",
                "content": "Be kind."}, {"role": "assistant", "content": "Hi"}]}"#,
            Err("the chat template refuses a chat without a turn of the user (a chat begins with \
                 the user): give the instruction as a turn of the user"),
        )
    },
    sft(
        r#"{"messages": [{"role": "user", "content": "2+3?"}, {"role": "assistant",
            "content": null, "tool_calls": [{"function": {"name": "add", "arguments": "{}"}}]}]}"#,
        Err("column `messages` calls tools in the turn that is learned, and only text can be \
             learned"),
    ),
    sft(
        r#"{"messages": [{"role": "user", "content": "2+3?"}, {"role": "assistant",
            "content": null}]}"#,
        Err("column `messages` has no text to learn"),
    ),
    sft(
        r#"{"messages": [{"role": "user", "content": "2+3?"}, {"role": "assistant",
            "content": ""}]}"#,
        Err("column `messages` has no text to learn"),
    ),
    sft(
        r#"{"messages": [{"role": "system", "content": "Be brief."}]}"#,
        Err("column `messages` ends with a turn of `system`, wanted one of the assistant"),
    ),
    sft(
        r#"{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "u"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]}]}"#,
        Err("column `messages` message 1: a part of content has type \"image_url\", wanted parts \
             of text"),
    ),
    sft(
        r#"{"prompt": "2+3?", "completion": 5}"#,
        Err("column `completion` is a number, wanted a text or one message of the assistant"),
    ),
    sft(
        r#"{"prompt": 23, "completion": "5"}"#,
        Err("column `prompt` is a number, wanted a text or a list of chat messages"),
    ),
    sft(
        r#"{"instruction": "Double.", "input": 23, "output": "46"}"#,
        Err("column `input` is a number, wanted a text"),
    ),
    sft(
        r#"{"instruction": "Double.", "history": "none", "output": "46"}"#,
        Err("column `history` is a text, wanted a list of pairs of texts"),
    ),
    sft(
        r#"{"messages": [{"role": "user", "content": 23}, {"role": "assistant", "content": 5}]}"#,
        Err(
            "column `messages` message 1: invalid type: integer `23`, expected content as a text, \
             a list of parts or null",
        ),
    ),
    sft(
        r#"{"messages": "[{'role': 'user', 'content': '2+3?'}]"}"#,
        Err("column `messages` is a chat as Python prints it, which is no JSON; write it by \
             json.dumps"),
    ),
    sft(
        r#"{"text": "Human: 2+3? Assistant: 5"}"#,
        Err("column `completion` is missing (there are: text); wanted `prompt` (or `messages`) \
             with `completion`, `messages` or ShareGPT's `conversations` alone, or Alpaca's \
             `instruction` and `output`; split `text` into the part that is given and the part \
             that is learned"),
    ),
    sft(
        r#"{"answer": "5", "question": "2+3?"}"#,
        Err("column `completion` is missing (there are: answer, question); wanted `prompt`"),
    ),
    sft(
        r#"{"conversations": [{"from": "narrator", "value": "2+3?"}]}"#,
        Err("column `conversations` turn 1 has the speaker \"narrator\", wanted human, user"),
    ),
    sft(r#"{"prompt": "2+3?", "completion": ""}"#, Err("column `completion` has no text to learn")),
    Case {
        in_tables: false,
        ..sft(
            r#"{"prompt": "2+3?", "prompt": "2+4?", "completion": "5"}"#,
            Err("column `prompt` occurs twice"),
        )
    },
    dpo(
        r#"{"prompt": "2+3?", "chosen": {"role": "assistant", "content": "5"},
            "rejected": {"role": "assistant", "content": "6"}}"#,
        Ok(()),
    ),
    dpo(
        r#"{"conversations": [{"from": "human", "value": "2+3?"}],
            "chosen": {"from": "gpt", "value": "5"}, "rejected": {"from": "gpt", "value": "6"}}"#,
        Ok(()),
    ),
    dpo(r#"{"instruction": "2+3?", "input": "", "chosen": "5", "rejected": "6"}"#, Ok(())),
    dpo(r#"{"prompt": "", "chosen": "5", "rejected": "6"}"#, Err("column `prompt` is empty")),
    dpo(
        r#"{"prompt": "2+3?", "chosen": {"role": "user", "content": "5"}, "rejected": "6"}"#,
        Err("column `chosen` is a message of the role `user`, wanted one of the assistant"),
    ),
    dpo(
        r#"{"prompt": "2+3?", "chosen": "5", "rejected": 6}"#,
        Err("column `rejected` is a number, wanted a text or one message of the assistant"),
    ),
    dpo(
        r#"{"bad": "6", "good": "5", "question": "2+3?"}"#,
        Err("column `chosen` is missing (there are: bad, good, question); wanted `chosen` and \
             `rejected` with `prompt`"),
    ),
    dpo(
        r#"{"completion": "5", "label": true, "prompt": "2+3?"}"#,
        Err("column `chosen` is missing (there are: completion, label, prompt); wanted"),
    ),
];

#[test]
fn rows_of_people_are_learned_or_refused_by_place_and_column() {
    let dir = tempfile::tempdir().unwrap();
    for Case { command, model, row, wanted, in_tables } in CASES {
        let row = row.replace('\n', " ");
        // as Windows writes it
        let lines = file(dir.path(), "t.jsonl", &format!("\u{feff}{row}\r\n"));
        let table = in_tables.then(|| as_parquet(dir.path(), &row));
        let places = [(Some(lines), ":1: "), (table, ": row 1: ")];
        for (path, place) in places {
            let Some(path) = path else { continue };
            let seen = learn(command, dir.path(), model, &path, &[]);
            match wanted {
                Ok(()) => assert_eq!(seen, Ok(()), "{row}"),
                Err(wanted) => {
                    let wanted = format!("error: data.path: {path}{place}{wanted}");
                    let message = seen.expect_err(&row);
                    assert!(message.starts_with(&wanted), "{message}, wanted {wanted}");
                }
            }
        }
    }
}

#[test]
fn files_of_examples_are_checked_by_key_before_the_model_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let row = r#"{"prompt": "2+3?", "completion": "5"}"#;
    let rows = file(dir.path(), "rows.jsonl", row);
    let gzip = dir.path().join("rows.jsonl.gz");
    std::fs::write(&gzip, b"\x1f\x8b\x08\x00").unwrap();
    let (gzip, folder) = (arg(&gzip), arg(dir.path()));
    let missing = arg(&dir.path().join("none.jsonl"));
    let empty = file(dir.path(), "empty.jsonl", "\n");
    let text = file(dir.path(), "rows.csv", "prompt,completion\na,b\n");
    // weights that cannot be read: only the files beside them are
    let model = dir.path().join("model");
    copy_files(&root().join(QWEN2), &model);
    std::fs::write(model.join("model.safetensors"), b"no weights").unwrap();
    let model = arg(&model);
    for (path, wanted) in [
        (&missing[..], "none.jsonl does not exist; set the key to the path of a file"),
        (&empty, "empty.jsonl: no examples in this file"),
        (&folder, "is a folder, wanted a file"),
        (&gzip, "rows.jsonl.gz: is compressed by gzip; decompress it first"),
        (&text, "rows.csv: unknown file type; wanted JSON Lines, a JSON array or Parquet"),
    ] {
        for command in ["sft", "dpo"] {
            let message = learn(command, dir.path(), &model, path, &[]).unwrap_err();
            let begins = message.starts_with("error: data.path: ");
            assert!(begins && message.contains(wanted), "{message}, wanted {wanted}");
        }
        let held_out = format!("eval.path={path}");
        let message = learn("sft", dir.path(), &model, &rows, &[&held_out]).unwrap_err();
        let begins = message.starts_with("error: eval.path: ");
        assert!(begins && message.contains(wanted), "{message}, wanted {wanted}");
    }
    let message = learn("sft", dir.path(), &model, "", &[]).unwrap_err();
    assert_eq!(message, "error: data.path is empty, wanted the path of a file");
    // with rows that can be learned, the weights are what is wrong
    let message = learn("sft", dir.path(), &model, &rows, &[]).unwrap_err();
    assert!(message.contains("model.safetensors"), "{message}");
}

#[test]
fn of_held_out_examples_only_the_first_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let good = r#"{"prompt": "2+3?", "completion": "5"}"#;
    let pair = r#"{"prompt": "2+3?", "chosen": "5", "rejected": "6"}"#;
    for (command, good) in [("sft", good), ("dpo", pair)] {
        let data = file(dir.path(), "data.jsonl", good);
        let bad = format!("{good}\n{good}\n{{\"prompt\": 3}}\nno JSON\n");
        let held_out = format!("eval.path={}", file(dir.path(), "held-out.jsonl", &bad));
        let learn = |more: &[&str]| learn(command, dir.path(), QWEN2, &data, more);
        assert_eq!(learn(&[&held_out, "eval.max_examples=2"]), Ok(()));
        let message = learn(&[&held_out, "eval.max_examples=3"]).unwrap_err();
        assert!(message.contains("error: eval.path: ") && message.contains(".jsonl:3: column"));
    }
}

#[test]
fn examples_that_do_not_fit_are_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let row = format!(r#"{{"prompt": "{}", "completion": "5"}}"#, "very long ".repeat(200));
    let wanted = "does not fit: wanted a prompt, a completion, and together at most \
                  trainer.max_length tokens";
    let short = ["trainer.max_length=64", "trainer.batch_size=8", "trainer.steps=4"];
    let one = file(dir.path(), "one.jsonl", &row);
    let message = learn("sft", dir.path(), QWEN2, &one, &short).unwrap_err();
    assert_eq!(message, format!("error: data.path: the file's only example {wanted}"));
    let three = file(dir.path(), "three.jsonl", &[&row[..]; 3].join("\n"));
    let message = learn("sft", dir.path(), QWEN2, &three, &short).unwrap_err();
    assert!(message.starts_with("error: data.path: none of the file's 3 examples fits: wanted"));
    let more = [&short[..], &["trainer.steps=1", "trainer.batch_size=4"]].concat();
    let message = learn("sft", dir.path(), QWEN2, &three, &more).unwrap_err();
    assert!(message.starts_with("error: none of the run's 3 examples fits, so that"), "{message}");
}

#[test]
fn adapters_of_no_projection_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let rows = file(dir.path(), "rows.jsonl", r#"{"prompt": "2+3?", "completion": "5"}"#);
    let none = ["trainer.learner.lora={ target_modules = [] }"];
    let message = learn("sft", dir.path(), QWEN2, &rows, &none).unwrap_err();
    let wanted = "trainer.learner.lora.target_modules is an empty list, wanted at least one of \
                  q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj";
    assert!(message.contains(wanted), "{message}");
}
