//! The contract of docs/rewards.md: questions and answers.

use joust_schema::prompt::{Message, Prompt};
use serde_json::json;

use super::*;
use crate::part::fixture::group;

#[test]
fn question_has_the_group_and_its_row_with_all_digits() {
    let asked = question(&group("00003-0001", &["It is 2.", "It is\n3."]));
    assert!(!asked.get().contains('\n') && asked.get().contains("\"level\":0.50"), "{asked}");
    let value: Value = serde_json::from_str(asked.get()).unwrap();
    let wanted = json!({
        "id": "00003-0001",
        "step": 3,
        "prompt": "1+1?",
        "completions": [
            {"text": "It is 2.", "finish_reason": "stop", "tokens": 10},
            {"text": "It is\n3.", "finish_reason": "stop", "tokens": 20},
        ],
        "reference": "2",
        "row": {"prompt": "1+1?", "answer": 2, "level": 0.5},
    });
    assert_eq!(value, wanted);

    let mut chat = group("g", &["2"]);
    chat.prompt = Prompt::Messages(vec![Message::new("user", "1+1?")]);
    chat.request.reference = None;
    let value: Value = serde_json::from_str(question(&chat).get()).unwrap();
    assert_eq!(value["prompt"], json!([{"role": "user", "content": "1+1?"}]));
    assert_eq!(value["reference"], Value::Null);
}

#[test]
fn answer_is_a_number_or_null_for_each_completion() {
    let read = |line: &str| read_line(line.as_bytes(), "g", 2);
    let cases: [(&str, [Option<f64>; 2]); 3] = [
        ("{\"id\": \"g\", \"rewards\": [0.5, null]}", [Some(0.5), None]),
        ("{\"log\": [1], \"rewards\": [-1, 1e3], \"id\": \"g\"}\r", [Some(-1.0), Some(1000.0)]),
        ("{\"id\": \"g\", \"rewards\": [null, null]}", [None, None]),
    ];
    for (line, numbers) in cases {
        assert_eq!(read(line).unwrap(), numbers, "{line}");
    }
}

#[test]
fn answer_that_is_none_is_told_with_its_beginning() {
    let long = format!("{{\"id\": \"g\", \"rewards\": [{}1]}}", "1, ".repeat(500));
    for (line, wanted) in [
        ("loading the model …", "the answer is no JSON"),
        ("", "the answer is no JSON"),
        ("{\"id\": \"g\", \"rewards\": [NaN, 1]}", "NaN or Infinity, which is no JSON"),
        ("{\"id\": \"g\", \"rewards\": [1, -Infinity]}", "NaN or Infinity, which is no JSON"),
        ("{\"id\": \"g\", \"rewards\": [1, 1e999]}", "the answer is no JSON (number out of range"),
        ("{\"id\": \"g\", \"rewards\": [1]}", "it has 1 rewards for 2 completions"),
        (&long, "it has 501 rewards for 2 completions"),
        ("{\"id\": \"h\", \"rewards\": [1, 2]}", "the id \"h\", wanted \"g\""),
        ("{\"rewards\": [1, 2]}", "its id is missing, wanted \"g\""),
        ("{\"id\": 7, \"rewards\": [1, 2]}", "its id is a number"),
        ("{\"id\": \"g\"}", "its rewards are missing, wanted a list"),
        ("{\"id\": \"g\", \"rewards\": 1}", "its rewards are a number"),
        ("{\"id\": \"g\", \"rewards\": [true, 1]}", "rewards[0] is a truth value"),
        ("{\"id\": \"g\", \"rewards\": [1, \"0.5\"]}", "rewards[1] is a text"),
        ("[0.5, 1]", "the answer is a list, wanted an object"),
    ] {
        let error = read_line(line.as_bytes(), "g", 2).unwrap_err();
        let begins: String = line.chars().take(20).collect();
        let begins = format!("{begins:?}");
        let is_told = error.contains(&begins[..begins.len() - 1]);
        assert!(error.contains(wanted) && is_told && error.len() < 400, "{line}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let error = read_line(b"\xff\xfe says", "g", 2).unwrap_err();
    assert!(error.starts_with("the answer is no UTF-8 text") && error.contains("says"), "{error}");
}
