//! Files of preference pairs as people have them.

use joust_schema::rows;

use super::*;

/// Prompt, chosen and rejected completion of each row.
fn rows_of(text: &str) -> Result<Vec<[String; 3]>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.jsonl");
    std::fs::write(&path, text.replace('\n', " ")).unwrap();
    let columns = form::columns(None, &PairRow::COLUMNS);
    let rows = rows::read_all(&path, &columns, PairRow::of);
    let rows = rows.map_err(|error| error.to_string())?;
    let texts = |row: PairRow| [row.prompt.question(), row.chosen, row.rejected];
    Ok(rows.into_iter().map(texts).collect())
}

#[test]
fn pair_rows_are_read_in_every_form_of_trl() {
    let user = r#"{"role": "user", "content": "2+3?"}"#;
    let right = r#"{"role": "assistant", "content": "5"}"#;
    let wrong = r#"{"role": "assistant", "content": "6"}"#;
    for row in [
        r#"{"prompt": "2+3?", "chosen": "5", "rejected": "6"}"#.to_owned(),
        // of `joust dump pairs`
        r#"{"prompt": "2+3?", "chosen": "5", "rejected": "6", "chosen_reward": 0.9}"#.to_owned(),
        format!(r#"{{"prompt": [{user}], "chosen": [{right}], "rejected": [{wrong}]}}"#),
        format!(r#"{{"prompt": [{user}], "chosen": "5", "rejected": "6"}}"#),
        format!(r#"{{"prompt": {:?}, "chosen": "5", "rejected": "6"}}"#, format!("[{user}]")),
        format!(r#"{{"chosen": [{user}, {right}], "rejected": [{user}, {wrong}]}}"#),
        // of ultrafeedback_binarized: the prompt is in the chats, too
        format!(
            r#"{{"prompt": "2+3?", "chosen": [{user}, {right}], "rejected": [{user}, {wrong}]}}"#
        ),
        format!(
            r#"{{"chosen": {:?}, "rejected": {:?}}}"#,
            format!("[{user}, {right}]"),
            format!("[{user}, {wrong}]")
        ),
        format!(r#"{{"messages": [{user}], "chosen": "5", "rejected": [{wrong}]}}"#),
        // one message, as the documentation of data files says
        format!(r#"{{"prompt": "2+3?", "chosen": {right}, "rejected": {wrong}}}"#),
        format!(r#"{{"prompt": [{user}], "chosen": {right}, "rejected": "6"}}"#),
        // of LLaMA-Factory
        r#"{"conversations": [{"from": "human", "value": "2+3?"}],
            "chosen": {"from": "gpt", "value": "5"}, "rejected": {"from": "gpt", "value": "6"}}"#
            .to_owned(),
        r#"{"instruction": "2+3?", "input": "", "chosen": "5", "rejected": "6"}"#.to_owned(),
        r#"{"chosen": [{"from": "human", "value": "2+3?"}, {"from": "gpt", "value": "5"}],
            "rejected": [{"from": "human", "value": "2+3?"}, {"from": "gpt", "value": "6"}]}"#
            .to_owned(),
    ] {
        let wanted = ["2+3?", "5", "6"].map(str::to_owned);
        assert_eq!(rows_of(&row).unwrap(), [wanted], "{row}");
    }
    // of hh-rlhf: the blank belongs to the completions, as in TRL
    let row =
        r#"{"chosen": "Human: hi Assistant: good day", "rejected": "Human: hi Assistant: go"}"#;
    let wanted = ["Human: hi Assistant: go", "od day", ""].map(str::to_owned);
    assert_eq!(rows_of(row).unwrap(), [wanted]);
    let row = r#"{"chosen": "Q: é A: yes", "rejected": "Q: é A: no"}"#;
    assert_eq!(rows_of(row).unwrap(), [["Q: é A:", " yes", " no"].map(str::to_owned)]);
}

#[test]
fn pair_rows_are_refused_by_line_and_column() {
    let turn = |role: &str, text: &str| format!(r#"{{"role": "{role}", "content": "{text}"}}"#);
    let (user, right) = (turn("user", "a"), turn("assistant", "b"));
    for (row, wanted) in [
        (r#"{"prompt": "a", "chosen": "b"}"#.to_owned(), "column `rejected` is missing"),
        (r#"{"prompt": "a", "completion": "b"}"#.to_owned(), "column `chosen` is missing"),
        (
            r#"{"chosen": "b", "rejected": "c"}"#.to_owned(),
            "`chosen` has no beginning in common with `rejected`",
        ),
        (
            format!(r#"{{"chosen": [{user}, {right}], "rejected": [{right}, {right}]}}"#),
            "`chosen` has no beginning in common with `rejected`",
        ),
        (
            format!(
                r#"{{"chosen": [{user}, {right}, {user}, {right}],
                "rejected": [{user}, {user}, {user}, {right}]}}"#
            ),
            "column `chosen` has 3 messages, wanted one of the assistant",
        ),
        (
            format!(r#"{{"prompt": [{user}, {right}], "chosen": "b", "rejected": "c"}}"#),
            "column `prompt` ends with the assistant's turn (message 2)",
        ),
        // completions of several turns behind the prompt of a column
        (
            format!(
                r#"{{"prompt": [{user}], "chosen": [{right}, {user}, {right}],
                "rejected": [{right}, {user}, {user}]}}"#
            ),
            "column `chosen` has 3 messages, wanted one of the assistant",
        ),
        (
            format!(
                r#"{{"chosen": [{user}, {right}, {right}], "rejected": [{user}, {right}, {user}]}}"#
            ),
            "column `chosen` has message 2 of the assistant in common with `rejected`",
        ),
        (
            r#"{"prompt": "  ", "chosen": "b", "rejected": "c"}"#.to_owned(),
            "column `prompt` is blank",
        ),
        (
            r#"{"prompt": "", "chosen": "b", "rejected": "c"}"#.to_owned(),
            "column `prompt` is empty",
        ),
        (
            r#"{"prompt": [], "chosen": "b", "rejected": "c"}"#.to_owned(),
            "column `prompt` is empty",
        ),
        (
            format!(
                r#"{{"prompt": "", "chosen": [{user}, {right}], "rejected": [{user}, {user}]}}"#
            ),
            "column `prompt` is empty",
        ),
        (
            r#"{"prompt": null, "chosen": "b", "rejected": "c"}"#.to_owned(),
            "column `prompt` is null, and `chosen` has no beginning in common with `rejected`",
        ),
        (
            r#"{"prompt": "a", "chosen": 3, "rejected": "c"}"#.to_owned(),
            "column `chosen` is a number, wanted a text or one message of the assistant",
        ),
        (
            format!(r#"{{"prompt": "a", "chosen": {user}, "rejected": "c"}}"#),
            "column `chosen` is a message of the role `user`, wanted one of the assistant",
        ),
        (
            r#"{"question": "a", "answer": "b"}"#.to_owned(),
            "column `chosen` is missing (there are: question, answer); wanted `chosen` and \
             `rejected` with `prompt` (or `messages`, ShareGPT's `conversations`, Alpaca's \
             `instruction`), or alone: two chats or texts that begin with the prompt; give the \
             columns these names",
        ),
    ] {
        let message = rows_of(&row).unwrap_err();
        assert!(message.contains("t.jsonl:1") && message.contains(wanted), "{row}: {message}");
    }
}
