//! Files of examples as people have them.

use joust_schema::rows;

use super::*;

fn read(text: &str, trained: TrainedTurns) -> Result<Vec<FileRow>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.jsonl");
    std::fs::write(&path, text).unwrap();
    let rows = rows::read_all(&path, &FileRow::COLUMNS, |row| FileRow::of(row, trained));
    rows.map_err(|error| error.to_string())
}

fn rows_of(text: &str) -> Result<Vec<(String, String)>, String> {
    let completion = |row: FileRow| match row.learned {
        Learned::Completion { prompt, completion } => (prompt.question(), completion),
        Learned::Turns { turns, .. } => panic!("turns {turns:?}"),
    };
    Ok(read(text, TrainedTurns::Last)?.into_iter().map(completion).collect())
}

#[test]
fn file_rows_hold_texts_messages_or_a_chat_alone() {
    let user = r#"{"role": "user", "content": "2+3?"}"#;
    let assistant = r#"{"role": "assistant", "content": "5"}"#;
    for row in [
        r#"{"prompt": "2+3?", "completion": "5"}"#.to_owned(),
        format!(r#"{{"prompt": [{user}], "completion": [{assistant}]}}"#),
        format!(r#"{{"prompt": [{user}], "completion": "5"}}"#),
        format!(r#"{{"messages": [{user}, {assistant}]}}"#),
        format!(r#"{{"messages": [{user}], "completion": "5"}}"#),
        format!(r#"{{"prompt": null, "messages": [{user}], "completion": "5"}}"#),
        // chats as JSON text, as tables keep them
        format!(r#"{{"prompt": {:?}, "completion": "5"}}"#, format!("[{user}]")),
        format!(r#"{{"messages": {:?}}}"#, format!("[{user}, {assistant}]")),
        format!(r#"{{"prompt": "2+3?", "messages": [{user}, {assistant}], "completion": "5"}}"#),
        // the prompt of a data set that has its chat beside it
        format!(r#"{{"prompt": "2+3?", "messages": [{user}, {assistant}]}}"#),
        format!(r#"[{{"messages": [{user}, {assistant}], "source": "x"}}]"#),
    ] {
        assert_eq!(rows_of(&row).unwrap(), [("2+3?".to_owned(), "5".to_owned())], "{row}");
    }
}

#[test]
fn file_rows_are_refused_by_line_and_column() {
    let user = r#"{"role": "user", "content": "a"}"#;
    for (row, wanted) in [
        (r#"{"prompt": "a"}"#.to_owned(), "column `completion` is missing (there are: prompt)"),
        (r#"{"completion": "a"}"#.to_owned(), "column `prompt` is missing"),
        (r#"{"prompt": "a", "completion": ""}"#.to_owned(), "`completion` has no text to learn"),
        (
            format!(
                r#"{{"completion": "b", "messages": [{user},
                {{"role": "assistant", "content": "b"}}]}}"#
            )
            .replace('\n', " "),
            "column `messages` ends with the assistant's turn (message 2)",
        ),
        (format!(r#"{{"messages": [{user}]}}"#), "ends with a turn of `user`, wanted one of the"),
        (
            r#"{"messages": [{"role": "assistant", "content": "a"}]}"#.to_owned(),
            "column `messages` has no turns before the assistant's",
        ),
        (
            format!(r#"{{"prompt": "a", "completion": [{user}]}}"#),
            "column `completion` is a message of the role `user`, wanted one of the assistant",
        ),
        (
            format!(r#"{{"prompt": "a", "completion": [{user}, {user}]}}"#),
            "column `completion` has 2 messages, wanted one of the assistant",
        ),
        (
            format!(
                r#"{{"messages": [{user}, {{"role": "assistant", "content": "b",
                "reasoning_content": "c"}}]}}"#
            )
            .replace('\n', " "),
            "column `messages` has a thought in the turn that is learned (`reasoning_content`)",
        ),
        (
            r#"{"prompt": "a", "completion": [{"role": "assistant", "content": "b",
                "thinking": "c"}]}"#
                .replace('\n', " "),
            "column `completion` has a thought in the turn that is learned (`thinking`)",
        ),
        (
            format!(
                r#"{{"messages": [{user}, {{"role": "assistant", "content": [
                {{"type": "thinking", "thinking": "c"}}, {{"type": "text", "text": "b"}}]}}]}}"#
            )
            .replace('\n', " "),
            "column `messages` has a thought in the turn that is learned (parts of `content`)",
        ),
        (
            format!(
                r#"{{"messages": [{user}, {{"role": "assistant", "content": "b", "weight": 0}}]}}"#
            ),
            "column `messages` has `weight` 0 on the turn that is learned",
        ),
        (
            r#"{"prompt": "a", "completion": [{"role": "assistant", "content": "b", "weight": 0}]}"#
                .to_owned(),
            "column `completion` has `weight` 0 on the turn that is learned",
        ),
    ] {
        let message = rows_of(&row).unwrap_err();
        assert!(message.contains("t.jsonl:1: ") && message.contains(wanted), "{message}");
    }
}

#[test]
fn file_rows_hold_all_turns_of_the_assistant_that_have_a_weight() {
    let said = |role: &str, more: &str| format!(r#"{{"role": "{role}", {more}}}"#);
    let user = said("user", r#""content": "a""#);
    let five = said("assistant", r#""content": "5""#);
    let ignored = said("assistant", r#""content": "5", "weight": 0"#);
    let thought = said("assistant", r#""content": "", "reasoning_content": "hm""#);
    let call = said("assistant", r#""content": null, "tool_calls": [{"name": "add"}]"#);
    let silent = said("assistant", r#""content": """#);
    let of = |messages: &[&String]| {
        let messages: Vec<&str> = messages.iter().map(|message| &message[..]).collect();
        let row = format!(r#"{{"messages": [{}]}}"#, messages.join(", "));
        match read(&row, TrainedTurns::All)?.remove(0).learned {
            Learned::Turns { turns, messages: all } => {
                assert_eq!(all.len(), messages.len());
                Ok(turns)
            }
            Learned::Completion { completion, .. } => Err(completion),
        }
    };
    assert_eq!(of(&[&user, &five, &user, &five]), Ok(vec![1, 3]));
    assert_eq!(of(&[&user, &ignored, &user, &five, &user]), Ok(vec![3]));
    assert_eq!(of(&[&user, &call, &user, &thought]), Ok(vec![1, 3]));
    let message = of(&[&user, &ignored, &user]).unwrap_err();
    assert!(message.contains("`messages` has no turn of the assistant to learn"), "{message}");
    let message = of(&[&user, &five, &user, &silent]).unwrap_err();
    assert!(message.contains("t.jsonl:1: column `messages` has no text to learn in message 4"));
    let parts = said("assistant", r#""content": [{"type": "thinking", "thinking": "c"}]"#);
    let message = of(&[&user, &parts]).unwrap_err();
    assert!(message.contains("has a thought in parts of `content` (message 2)"), "{message}");
    // a completion of its own is what is learned, whatever the turns
    let row = format!(r#"{{"messages": [{user}], "completion": "5"}}"#);
    let rows = read(&row, TrainedTurns::All).unwrap();
    assert!(matches!(rows[0].learned, Learned::Completion { .. }));
}
