//! Prompt files as people have them, their order, and where a cursor leads.

use std::collections::BTreeSet;
use std::path::PathBuf;

use joust_schema::ids::PromptId;
use joust_schema::prompt::{Message, Prompt, PromptUse};
use joust_schema::seed::Seed;

use super::row::PromptRow;
use super::{PromptCursor, PromptSource};
use crate::config::PromptsConfig;

/// A file in a temporary folder, which is deleted with it.
struct File {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

fn file(name: &str, text: &str) -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    File { path, _dir: dir }
}

fn open(file: &File, change: impl FnOnce(&mut PromptsConfig)) -> Result<PromptSource, String> {
    let mut config = PromptsConfig { path: file.path.clone(), ..PromptsConfig::default() };
    change(&mut config);
    PromptSource::open(&config, PromptUse::Judge, Seed::new(3)).map_err(|error| error.to_string())
}

fn texts(source: &mut PromptSource, n: usize) -> Vec<String> {
    source.next(n).into_iter().map(|row| row.prompt.question()).collect()
}

fn ten() -> File {
    let lines: Vec<String> = (0..10).map(|idx| format!("{{\"prompt\":\"p{idx}\"}}")).collect();
    file("p.jsonl", &lines.join("\n"))
}

#[test]
fn open_reads_texts_messages_and_answers() {
    let file = file(
        "p.jsonl",
        r#"{"prompt": "2+2?", "answer": 4, "id": "first"}

{"messages": [{"role": "user", "content": "3+3?"}], "answer": "6"}
{"prompt": [{"role": "user", "content": "5+5?"}], "reward_model": {"ground_truth": "10"}}
{"prompt": "[{\"role\": \"user\", \"content\": \"1+1?\"}]", "answer": null}
{"prompt": null, "messages": [{"role": "user", "content": "7+7?"}]}
"#,
    );
    let source = open(&file, |_| {}).unwrap();
    let rows = source.rows();
    assert_eq!(rows[0].prompt_id.0, "first");
    assert_eq!(rows[0].prompt, Prompt::Text("2+2?".to_owned()));
    assert_eq!(rows[1].prompt, Prompt::Messages(vec![Message::new("user", "3+3?")]));
    let answers: Vec<_> = rows.iter().map(|row| row.answer.as_deref()).collect();
    assert_eq!(answers, [Some("4"), Some("6"), Some("10"), None, None]);
    assert!(matches!(rows[3].prompt, Prompt::Messages(_)));
    assert_eq!(rows[4].prompt, Prompt::Messages(vec![Message::new("user", "7+7?")]));
}

#[test]
fn open_refuses_a_chat_that_has_its_answer() {
    // the columns of OpenR1-Math-220k and NuminaMath-CoT
    let row = r#"{"problem": "2+3?", "messages": [{"role": "user", "content": "2+3?"},
        {"role": "assistant", "content": "It is 5."}], "answer": "5"}"#
        .replace('\n', " ");
    let file = file("p.jsonl", &row);
    let message = open(&file, |_| {}).unwrap_err();
    assert_eq!(
        message.rsplit_once("p.jsonl").unwrap().1,
        ":1: column `messages` ends with the assistant's turn (message 2), so that the answer \
         would be part of the prompt; cut that turn off, or give column `problem` the name \
         `prompt` (`train`: prompts.prompt_column = \"problem\")"
    );
    let source = open(&file, |config| config.prompt_column = "problem".to_owned()).unwrap();
    assert_eq!(source.rows()[0].prompt, Prompt::Text("2+3?".to_owned()));
}

#[test]
fn open_minds_roles_for_judges_and_answers_for_rules_alone() {
    // as templates of Llama 3 and GLM have roles, and TriviaQA answers
    let turn = |role: &str, text: &str| format!(r#"{{"role": "{role}", "content": "{text}"}}"#);
    let chat = [turn("user", " "), turn("assistant", "a"), turn("observation", "b")].join(", ");
    let ipython = [turn("user", "a"), turn("ipython", "b")].join(", ");
    let row = |prompt: &str, answer: &str| {
        file("p.jsonl", &format!(r#"{{"prompt": [{prompt}], "answer": {answer}}}"#))
    };
    let read = |file: &File, purpose: PromptUse| {
        let config = PromptsConfig { path: file.path.clone(), ..PromptsConfig::default() };
        let source = PromptSource::open(&config, purpose, Seed::new(0));
        source.map(|source| source.rows()[0].answer.clone()).map_err(|error| error.to_string())
    };
    let object = r#"{"value": "5"}"#;
    assert_eq!(read(&row(&chat, "5"), PromptUse::Answers), Ok(Some("5".to_owned())));
    let message = read(&row(&chat, "5"), PromptUse::Judge).unwrap_err();
    assert!(message.contains("has a blank message of the user (message 1)"), "{message}");
    for answer in ["5", object] {
        assert!(read(&row(&ipython, answer), PromptUse::Judge).is_ok(), "{answer}");
    }
    let message = read(&row(&ipython, object), PromptUse::Answers).unwrap_err();
    assert!(
        message.ends_with(
            "column `answer` is an object, wanted a text, a number, a truth value or a list of \
             them; set prompts.answer_column to another column"
        ),
        "{message}"
    );
    for purpose in [PromptUse::Answers, PromptUse::Judge] {
        let message = read(&row(&turn("system", " "), "5"), purpose).unwrap_err();
        assert!(message.contains("has no message with a text"), "{message}");
    }
}

#[test]
fn next_unused_passes_over_what_is_used_and_ends_where_nothing_else_is_left() {
    let file = ten();
    let mut source = open(&file, |_| {}).unwrap();
    texts(&mut source, 6);
    // a step of three prompts that goes over the end of the epoch
    let step: Vec<PromptRow> = source.next(3);
    let used: BTreeSet<PromptId> = step.iter().map(|row| row.prompt_id.clone()).collect();
    let others = source.next_unused(5, used.clone());
    let ids: BTreeSet<PromptId> = others.iter().map(|row| row.prompt_id.clone()).collect();
    assert_eq!((others.len(), ids.len()), (5, 5), "each comes once");
    assert!(ids.is_disjoint(&used));
    // one of the first epoch, then those of the second one in its order, without those used
    let mut plain = open(&file, |_| {}).unwrap();
    texts(&mut plain, 9);
    let mut wanted = plain.next(1);
    let last = wanted[0].prompt_id.clone();
    let second = plain.next(10).into_iter();
    wanted.extend(second.filter(|row| !used.contains(&row.prompt_id) && row.prompt_id != last));
    assert_eq!(others, wanted[..5]);
    // the others come to an end, and nothing is used up for the prompts that are used
    let all: BTreeSet<PromptId> = used.union(&ids).cloned().collect();
    assert_eq!(source.next_unused(9, all.clone()).len(), 2);
    let before = source.cursor();
    let ten = source.rows().iter().map(|row| row.prompt_id.clone()).collect();
    assert_eq!((source.next_unused(9, ten), source.cursor()), (Vec::new(), before));
    // and with the epochs
    let mut once = open(&file, |config| config.epochs = 1).unwrap();
    texts(&mut once, 8);
    assert_eq!(once.next_unused(9, all).len(), 0);
    assert_eq!(once.next_unused(9, BTreeSet::new()).len(), 0);
    assert!(once.is_exhausted());
}

#[test]
fn next_shuffles_every_epoch_and_continues_from_a_cursor() {
    let file = ten();
    let mut source = open(&file, |_| {}).unwrap();
    let first: Vec<String> = texts(&mut source, 10);
    let second: Vec<String> = texts(&mut source, 10);
    assert_ne!(first, second, "a new order for every epoch");
    for epoch in [&first, &second] {
        let mut sorted = epoch.clone();
        sorted.sort();
        assert_eq!(sorted, (0..10).map(|idx| format!("p{idx}")).collect::<Vec<_>>());
    }
    let mut half = open(&file, |_| {}).unwrap();
    texts(&mut half, 7);
    let cursor = half.cursor();
    assert_eq!(cursor, PromptCursor { epoch: 0, position: 7 });
    let wanted = texts(&mut half, 8);
    let mut resumed = open(&file, |_| {}).unwrap();
    resumed.seek(cursor).unwrap();
    assert_eq!(texts(&mut resumed, 8), wanted);
    let far = PromptCursor { epoch: 0, position: 10 };
    let message = resumed.seek(far).unwrap_err().to_string();
    assert_eq!(message, "the cursor stands at prompt 10 of an epoch, the file has 10");
}

#[test]
fn next_ends_after_the_last_epoch_and_max_prompts() {
    let file = ten();
    let change = |config: &mut PromptsConfig| {
        config.shuffle = false;
        config.epochs = 2;
        config.max_prompts = 3;
    };
    let mut source = open(&file, change).unwrap();
    assert_eq!(texts(&mut source, 100), ["p0", "p1", "p2", "p0", "p1", "p2"]);
    assert!(source.next(1).is_empty());
}

#[test]
fn open_gives_the_same_prompts_for_parquet_and_json_lines() {
    use joust_schema::tables::Rollout;
    // any table with a column `prompt` serves
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.parquet");
    let rows: Vec<Rollout> = ["a", "b"].map(rollout).to_vec();
    joust_schema::parquet::write(&path, &rows).unwrap();
    let mut parquet = open(&File { path, _dir: dir }, |config| config.shuffle = false).unwrap();
    let lines = file(
        "p.jsonl",
        "{\"prompt\":\"a\",\"prompt_id\":\"a\"}\n{\"prompt\":\"b\",\"prompt_id\":\"b\"}\n",
    );
    let mut lines = open(&lines, |config| config.shuffle = false).unwrap();
    assert_eq!(parquet.rows()[1].prompt_id, lines.rows()[1].prompt_id);
    assert_eq!(texts(&mut parquet, 2), texts(&mut lines, 2));
}

#[test]
fn open_keeps_all_digits_of_ids_and_answers() {
    let file = file(
        "p.jsonl",
        "{\"prompt\":\"a\",\"id\":36893488147419103233,\"answer\":98765432109876543210987}\n\
         {\"prompt\":\"b\",\"id\":36893488147419103234,\"answer\":[1e-9, true]}\n\
         {\"prompt\":\"c\",\"id\":7,\"answer\":[\"c\"],\"messages\":[]}",
    );
    let source = open(&file, |_| {}).unwrap();
    let ids: Vec<&str> = source.rows().iter().map(|row| row.prompt_id.0.as_str()).collect();
    assert_eq!(ids, ["36893488147419103233", "36893488147419103234", "7"]);
    let answers: Vec<_> = source.rows().iter().map(|row| row.answer.as_deref().unwrap()).collect();
    assert_eq!(answers, ["98765432109876543210987", "[\"1e-9\",\"true\"]", "c"]);
}

#[test]
fn open_takes_ids_from_the_configured_column_or_from_none() {
    let file = file(
        "p.jsonl",
        "{\"prompt\":\"a\",\"id\":1,\"uid\":\"x\"}\n{\"prompt\":\"b\",\"id\":1,\"uid\":\"y\"}",
    );
    let ids = |column: &str| -> Result<Vec<String>, String> {
        let source = open(&file, |config| config.id_column = column.to_owned().into())?;
        Ok(source.rows().iter().map(|row| row.prompt_id.0.clone()).collect())
    };
    assert_eq!(ids("uid").unwrap(), ["x", "y"]);
    let made = ids("none").unwrap();
    assert!(made[0] != made[1] && made[0].len() == 16);
    assert!(ids("auto").unwrap_err().contains("p.jsonl:2: prompt id `1` is on line 1 already"));
    assert!(
        ids("key").unwrap_err().contains("column `key` is missing (there are: prompt, id, uid)")
    );
}

#[test]
fn open_reads_no_more_than_max_prompts() {
    let file = file("p.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\nbroken");
    let source = open(&file, |config| config.max_prompts = 2).unwrap();
    assert_eq!(source.rows().len(), 2);
}

fn rollout(text: &str) -> joust_schema::tables::Rollout {
    use joust_schema::ids::{Member, PolicyVersion};
    joust_schema::tables::Rollout {
        step: 0,
        group_id: text.into(),
        member: Member(0),
        prompt_id: text.into(),
        policy_version: PolicyVersion(0),
        prompt: text.to_owned(),
        completion: String::new(),
        prompt_token_ids: Vec::new(),
        completion_token_ids: Vec::new(),
        completion_logprobs: Vec::new(),
        behaviour_logprobs: None,
        finish_reason: joust_schema::tables::FinishReason::Stop,
        seed: 0,
    }
}

#[test]
fn open_names_the_line_of_an_unusable_prompt() {
    let cases = [
        ("p.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":", "p.jsonl:2: invalid JSON"),
        (
            "p.jsonl",
            "{\"question\":\"a\"}",
            "p.jsonl:1: column `prompt` is missing (there are: question); set \
             prompts.prompt_column",
        ),
        ("p.jsonl", "{\"prompt\":7}", "a text or a list of chat messages"),
        (
            "p.jsonl",
            "{\"prompt\":null}",
            "p.jsonl:1: column `prompt` is null; set prompts.prompt_column",
        ),
        ("p.jsonl", "{\"prompt\":\"\"}", "p.jsonl:1: column `prompt` is empty"),
        ("p.jsonl", "{\"prompt\":\" \\n\"}", "p.jsonl:1: column `prompt` is "),
        ("p.jsonl", "{\"prompt\":[{\"role\":7}]}", "p.jsonl:1: column `prompt` "),
        (
            "p.jsonl",
            "{\"prompt\":[\"a\"]}",
            "p.jsonl:1: column `prompt` message 1: invalid type: string \"a\", expected a chat \
             message",
        ),
        (
            "p.json",
            "[{\"prompt\":\"a\"},{\"prompt\":\"\"}]",
            "p.json: row 2: column `prompt` is empty",
        ),
        ("p.jsonl", "{\"prompt\":\"a\",\"id\":[1]}", "p.jsonl:1: column `id` is a list, wanted"),
        (
            "p.jsonl",
            "{\"prompt\":[{\"role\":\"hacker\",\"content\":\"a\"}]}",
            "p.jsonl:1: column `prompt` has the role \"hacker\" in message 1",
        ),
        (
            "p.jsonl",
            "{\"prompt\":\"[{\\\"role\\\": \\\"user\\\", \\\"content\\\": 7}]\"}",
            "p.jsonl:1: column `prompt` holds a chat: message 1: invalid type: integer `7`",
        ),
        (
            "p.jsonl",
            "{\"prompt\":\"a\",\"id\":\"x\"}\n{\"prompt\":\"b\",\"id\":\"x\"}",
            "p.jsonl:2: prompt id `x` is on line 1 already; ids are unique: set prompts.id_column",
        ),
        ("p.jsonl", "\n", "p.jsonl: no prompts in this file"),
        ("p.csv", "prompt\na", "p.csv: unknown file type"),
        ("p.parquet", "no", "p.parquet: "),
    ];
    for (name, text, wanted) in cases {
        let message = open(&file(name, text), |_| {}).unwrap_err();
        assert!(message.contains(wanted), "{text:?}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
    // an answer matters only where it is compared
    let row = file("p.jsonl", "{\"prompt\":\"a\",\"answer\":{\"value\":1}}");
    assert!(open(&row, |_| {}).is_ok());
    let config = PromptsConfig { path: row.path.clone(), ..PromptsConfig::default() };
    let compared = PromptSource::open(&config, PromptUse::Answers, Seed::new(0));
    let message = compared.unwrap_err().to_string();
    let wanted = "p.jsonl:1: column `answer` is an object, wanted a text, a number";
    assert!(message.contains(wanted), "{message}");
    let missing = PromptsConfig { path: "no/such.jsonl".into(), ..PromptsConfig::default() };
    let message =
        PromptSource::open(&missing, PromptUse::Judge, Seed::new(0)).unwrap_err().to_string();
    assert!(message.starts_with("no/such.jsonl: No such file"), "{message}");
}
