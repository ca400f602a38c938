//! Files of examples as people have them.

use joust_schema::rows;

use super::*;

fn read(text: &str, trained: TrainedTurns) -> Result<Vec<FileRow>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.jsonl");
    std::fs::write(&path, text).unwrap();
    let columns = form::columns(None, &FileRow::COLUMNS);
    let rows = rows::read_all(&path, &columns, |row| FileRow::of(row, trained));
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
        // one message, as the documentation of data files says
        format!(r#"{{"prompt": "2+3?", "completion": {assistant}}}"#),
        format!(r#"{{"prompt": [{user}], "completion": {assistant}, "messages": null}}"#),
        // ShareGPT's form
        r#"{"conversations": [{"from": "human", "value": "2+3?"}, {"from": "gpt", "value": "5"}]}"#
            .to_owned(),
        format!(r#"{{"conversations": [{user}, {assistant}], "system": "", "tools": ""}}"#),
        format!(r#"{{"conversations": {:?}}}"#, format!("[{user}, {assistant}]")),
        r#"{"messages": [{"from": "user", "value": "2+3?", "role": null},
            {"from": "assistant", "value": "5", "role": null}]}"#
            .replace('\n', " "),
        r#"{"conversations": [{"from": "human", "value": "2+3?"}],
            "completion": {"from": "gpt", "value": "5"}}"#
            .replace('\n', " "),
        // Alpaca's form
        r#"{"instruction": "2+3?", "input": "", "output": "5", "text": "2+3? 5"}"#.to_owned(),
        r#"{"instruction": "2+3?", "input": null, "output": "5", "history": []}"#.to_owned(),
        r#"{"instruction": "2+3?", "output": "5"}"#.to_owned(),
    ] {
        assert_eq!(rows_of(&row).unwrap(), [("2+3?".to_owned(), "5".to_owned())], "{row}");
    }
}

#[test]
fn other_forms_keep_the_system_the_input_and_earlier_turns() {
    let turns = |row: &str| {
        let Learned::Completion { prompt: Prompt::Messages(messages), completion } =
            read(&row.replace('\n', " "), TrainedTurns::Last).unwrap().remove(0).learned
        else {
            panic!("{row} is no chat")
        };
        let turns = messages.iter().map(|turn| format!("{}: {}", turn.role, turn.content));
        turns.chain([completion]).collect::<Vec<_>>()
    };
    let alpaca = r#"{"instruction": "Add.", "input": "2, 3", "output": "5", "system": "Be brief.",
        "history": [["1+1?", "2"]]}"#;
    let wanted = ["system: Be brief.", "user: 1+1?", "assistant: 2", "user: Add.\n2, 3", "5"];
    assert_eq!(turns(alpaca), wanted);
    let conversation = r#"{"system": "Be brief.", "conversations": [
        {"from": "human", "value": "2+3?"}, {"from": "gpt", "value": ""},
        {"from": "observation", "value": "5"}, {"from": "gpt", "value": "It is 5."}]}"#;
    let wanted = ["system: Be brief.", "user: 2+3?", "assistant: ", "tool: 5", "It is 5."];
    assert_eq!(turns(conversation), wanted);
    // a conversation that has its system's message
    let own = r#"{"system": "Be long.", "conversations": [{"from": "system", "value": "Be brief."},
        {"from": "human", "value": "2+3?"}, {"from": "gpt", "value": "5"}]}"#;
    assert_eq!(turns(own), ["system: Be brief.", "user: 2+3?", "5"]);
    let all = read(&alpaca.replace('\n', " "), TrainedTurns::All).unwrap().remove(0).learned;
    assert!(matches!(all, Learned::Turns { turns, .. } if turns == [2, 4]));
}

#[test]
fn file_rows_are_refused_by_line_and_column() {
    let user = r#"{"role": "user", "content": "a"}"#;
    for (row, wanted) in [
        (r#"{"prompt": "a"}"#.to_owned(), "column `completion` is missing (there are: prompt)"),
        (r#"{"completion": "a"}"#.to_owned(), "column `prompt` is missing"),
        (
            r#"{"text": "a"}"#.to_owned(),
            "column `completion` is missing (there are: text); wanted `prompt` (or `messages`) \
             with `completion`, `messages` or ShareGPT's `conversations` alone, or Alpaca's \
             `instruction` and `output`; split `text` into the part that is given and the part \
             that is learned",
        ),
        (
            r#"{"question": "a", "response": "b"}"#.to_owned(),
            "(there are: question, response); wanted `prompt` (or `messages`) with `completion`, ",
        ),
        (
            r#"{"instruction": "a", "response": "b"}"#.to_owned(),
            "column `output` is missing (there are: instruction, response), and a row with \
             `instruction` needs it or `completion`",
        ),
        (
            r#"{"instruction": "a", "output": "b", "history": [["x", "y"], ["z"]]}"#.to_owned(),
            "column `history` has no such pair at 2, wanted a list of pairs of texts, [[asked, ",
        ),
        (
            r#"{"instruction": "a", "output": "b", "history": "x"}"#.to_owned(),
            "column `history` is a text, wanted a list of pairs of texts",
        ),
        (
            r#"{"conversations": [{"from": "narrator", "value": "a"}]}"#.to_owned(),
            "column `conversations` turn 1 has the speaker \"narrator\", wanted human, ",
        ),
        (
            r#"{"conversations": [{"from": "human", "value": "a"}]}"#.to_owned(),
            "column `conversations` ends with a turn of `user`, wanted one of the assistant",
        ),
        (
            r#"{"conversations": "human: a"}"#.to_owned(),
            "column `conversations` is a text, wanted a list of turns with `from` and `value`",
        ),
        (
            r#"{"conversations": [{"from": "human"}, {"from": "gpt", "value": "b"}]}"#.to_owned(),
            "column `conversations` turn 1 has no `value`, wanted the text of the turn",
        ),
        (
            r#"{"instruction": "a", "output": 3}"#.to_owned(),
            "column `output` is a number, wanted a text",
        ),
        (
            r#"{"instruction": "a", "output": ""}"#.to_owned(),
            "column `output` has no text to learn",
        ),
        (r#"{"messages": []}"#.to_owned(), "column `messages` is empty, wanted a turn of the user"),
        (
            r#"{"prompt": "a", "completion": 3}"#.to_owned(),
            "column `completion` is a number, wanted a text or one message of the assistant",
        ),
        (
            format!(r#"{{"prompt": "a", "completion": {user}}}"#),
            "column `completion` is a message of the role `user`, wanted one of the assistant",
        ),
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
