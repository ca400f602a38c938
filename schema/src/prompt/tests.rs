//! Prompts in the forms of clients, and conversations as the judge reads them.

use serde_json::{Value, json};

use super::{Completion, Content, Message, Prompt};
use crate::ordered_json::OrderedJson;

fn prompt(value: Value) -> Prompt {
    serde_json::from_value(value).unwrap()
}

/// Checks the question of a conversation.
fn check_question(messages: Value, question: &str) {
    let prompt = prompt(messages);
    assert_eq!(prompt.problem(), None, "{question}");
    assert_eq!(prompt.question(), question);
}

#[test]
fn question_is_the_text_of_a_single_turn_of_the_user() {
    check_question(json!("2+2?"), "2+2?");
    check_question(json!([{"role": "user", "content": "2+2?\n"}]), "2+2?\n");
    let parts = json!([{"type": "text", "text": "2+"}, {"type": "input_text", "text": "2?"}, ""]);
    check_question(json!([{"role": "user", "content": parts}]), "2+2?");
    let blank = json!([{"role": "system", "content": " "}, {"role": "user", "content": "2+2?"}]);
    check_question(blank, "2+2?");
}

#[test]
fn question_of_a_conversation_has_every_turn_with_its_speaker() {
    let user = json!({"role": "user", "content": "2+2?"});
    for (role, speaker) in [("system", "System"), ("developer", "Developer")] {
        check_question(
            json!([{"role": role, "content": "Be brief."}, user]),
            &format!("{speaker}: Be brief.\n\nUser: 2+2?"),
        );
    }
    check_question(json!([{"role": "system", "content": "Say 4."}]), "System: Say 4.");
    check_question(
        json!([user, {"role": "assistant", "content": "4"}, {"role": "user", "content": "Sure?"}]),
        "User: 2+2?\n\nAssistant: 4\n\nUser: Sure?",
    );
    let call = |id: &str| {
        let function = json!({"name": "add", "arguments": "{\"a\": 2, \"b\": 2}"});
        json!({"id": id, "type": "function", "function": function})
    };
    let calling = json!({"role": "assistant", "content": null, "tool_calls": [call("c1")]});
    let called = "User: 2+2?\n\nTool call: add({\"a\": 2, \"b\": 2})\n\nTool result of add: 4";
    for answer in [
        json!({"role": "ipython", "name": "add", "content": "4"}),
        json!({"role": "tool", "tool_call_id": "c1", "content": "4"}),
        json!({"role": "tool", "name": "add", "content": [{"type": "text", "text": "4"}]}),
    ] {
        check_question(json!([user, calling, answer]), called);
    }
    let old = json!({"role": "assistant", "content": "Wait.",
                     "function_call": {"name": "add", "arguments": {"a": 1}}});
    check_question(
        json!([user, old, {"role": "function", "content": "4"}]),
        "User: 2+2?\n\nAssistant: Wait.\n\nTool call: add({\"a\":1})\n\nTool result: 4",
    );
}

#[test]
fn completion_is_what_the_last_assistant_says_and_calls() {
    let completion = |value: Value| {
        let said: Result<Completion, _> = serde_json::from_value(value);
        said.map(|said| said.0).map_err(|error| error.to_string())
    };
    assert_eq!(completion(json!("4")), Ok("4".to_owned()));
    let calling = json!({"role": "assistant",
                         "tool_calls": [{"function": {"name": "add", "arguments": {}}}]});
    let result = json!({"role": "tool", "name": "add", "content": "4"});
    let said = json!({"role": "assistant", "content": [{"type": "text", "text": "It is 4."}]});
    assert_eq!(completion(json!([calling, result, said])), Ok("It is 4.".to_owned()));
    assert_eq!(completion(json!([calling, result])), Ok("Tool call: add({})".to_owned()));
    let refused = json!({"role": "assistant", "content": null, "refusal": "I will not."});
    assert_eq!(completion(json!([refused])), Ok("I will not.".to_owned()));
    assert_eq!(completion(json!([{"role": "assistant", "content": null}])), Ok(String::new()));
    assert_eq!(completion(json!([])), Ok(String::new()));
    let none = completion(json!([{"role": "user", "content": "4"}]));
    assert!(none.unwrap_err().contains("none of the role `assistant`"));
}

#[test]
fn prompt_names_what_cannot_be_judged() {
    let user = |content: Value| json!({"role": "user", "content": content});
    for (value, words) in [
        (json!(""), "is empty"),
        (json!(" \n"), "is blank"),
        (json!([]), "is empty"),
        (json!([user(json!("hi")), {"role": "hacker", "content": "x"}]), "\"hacker\" in message 2"),
        (json!([{"role": "User", "content": "x"}]), "\"User\" in message 1"),
        (json!([{"role": "system", "content": "x"}, user(json!(" "))]), "(message 2)"),
        (json!([user(json!(null))]), "blank message of the user"),
        (json!([user(json!([]))]), "blank message of the user"),
        (json!([{"role": "system", "content": ""}]), "no message with a text"),
    ] {
        let problem = prompt(value.clone()).problem().unwrap();
        assert!(problem.contains(words), "{value}: {problem}");
    }
    let parse = |value: &Value| serde_json::from_str::<Prompt>(&value.to_string());
    let image = json!([{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {}}]);
    for (value, words) in [
        (json!(7), "a text or a list of chat messages"),
        (json!([user(image)]), "message 1: a part of content has type \"image_url\""),
        (json!([user(json!([{"type": "text"}]))]), "message 1: a part of content has no text"),
        (json!([user(json!("x")), user(json!(7))]), "message 2: invalid type: integer"),
        (json!([{"content": "x"}]), "message 1: missing field `role`"),
        (json!([{"role": "assistant", "contents": "x"}]), "message 1: missing field `content`"),
        (json!(["x"]), "message 1: "),
    ] {
        let error = parse(&value).unwrap_err().to_string();
        assert!(error.contains(words), "{value}: {error}");
        assert_eq!(error.matches("at line").count(), 1, "{error}");
    }
}

#[test]
fn message_comes_back_from_its_column() {
    let messages = json!([
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "",
         "tool_calls": [{"id": "c", "function": {"name": "f"}}]},
        {"role": "tool", "content": "4", "tool_call_id": "c", "name": "f"},
    ]);
    let chat = prompt(messages.clone());
    assert_eq!(serde_json::from_str::<Value>(&chat.to_column()).unwrap(), messages);
    assert_eq!(Prompt::from_column(chat.to_column()), Ok(chat));
    for text in ["2+2?", "[]", "[1]", "[{\"a\": 1}]", "[{\"role\": \"user\"", "[{}]"] {
        assert_eq!(Prompt::from_column(text.to_owned()), Ok(Prompt::Text(text.to_owned())));
    }
    let image = "[{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]";
    assert!(Prompt::from_column(image.to_owned()).unwrap_err().contains("\"image\""));
    let plain = Prompt::Messages(vec![Message::new("user", "2+2?")]);
    assert_eq!(plain.to_column(), "[{\"role\":\"user\",\"content\":\"2+2?\"}]");
}

#[test]
fn message_keeps_the_order_of_keys_in_tool_calls_and_thoughts() {
    let text = concat!(
        r#"[{"role":"assistant","content":"c","tool_calls":[{"type":"function","id":"i","#,
        r#""function":{"name":"f","arguments":{"z":1,"a":{"y":null,"b":2.5}}}}],"#,
        r#""reasoning_content":"r","thinking":"t"}]"#,
    );
    let chat: Prompt = serde_json::from_str(text).unwrap();
    assert_eq!(chat.to_column(), text);
    let parts = json!({"role": "assistant", "content": "c", "reasoning": null,
                       "thinking": [{"type": "text", "text": "t"}]});
    let message: Message = serde_json::from_value(parts).unwrap();
    assert_eq!((message.reasoning, message.thinking.as_deref()), (None, Some("t")));
}

#[test]
fn message_keeps_null_as_content_and_further_fields() {
    let call = r#""tool_calls":[{"id":"c"}]"#;
    for (given, wanted) in [
        (format!(r#"{{"role":"assistant","content":null,{call}}}"#), None),
        (format!(r#"{{"role":"assistant",{call}}}"#), Some(r#""content":null"#)),
        (format!(r#"{{"role":"assistant","content":"",{call}}}"#), None),
    ] {
        let message: Message = serde_json::from_str(&given).unwrap();
        assert_eq!(message.content, "");
        let written = serde_json::to_string(&message).unwrap();
        match wanted {
            None => assert_eq!(written, given),
            Some(part) => assert!(written.contains(part), "{written}"),
        }
        assert_eq!(serde_json::from_str::<Message>(&written).unwrap(), message);
    }
    let refused = r#"{"role":"assistant","content":null,"refusal":"No."}"#;
    let refused: Message = serde_json::from_str(refused).unwrap();
    assert_eq!((&refused.content[..], refused.content_is_null), ("No.", false));
    let mut message = Message::new("assistant", "5");
    let text =
        r#"{"role":"user","tool_plan":"Add.","content":"6","weight":0,"refusal":null,"x":null}"#;
    message.add_further(serde_json::from_str(text).unwrap());
    let wanted = r#"{"role":"assistant","content":"5","tool_plan":"Add.","weight":0}"#;
    assert_eq!(serde_json::to_string(&message).unwrap(), wanted);
    assert_eq!(message.further_field("weight"), Some(&OrderedJson::Number(0.into())));
    let plain: Message = serde_json::from_str(wanted).unwrap();
    assert_eq!(plain, Message::new("assistant", "5"), "a request's are left out");
    let changed = message.map_texts(|text| text.replace('A', "B"));
    assert_eq!(changed.further_field("tool_plan"), Some(&OrderedJson::Text("Bdd.".to_owned())));
}

#[test]
fn map_texts_reaches_every_text_of_a_message() {
    let message: Message = serde_json::from_value(json!({
        "role": "assistant", "content": "a", "name": "a", "reasoning_content": "a",
        "tool_calls": [{"id": "a", "n": 1, "function": {"a": ["a", true]}}],
    }))
    .unwrap();
    let wanted = json!({
        "role": "assistant", "content": "b", "name": "b", "reasoning_content": "b",
        "tool_calls": [{"id": "b", "n": 1, "function": {"b": ["b", true]}}],
    });
    let mapped = message.map_texts(|text| text.replace('a', "b"));
    assert_eq!(serde_json::to_value(mapped).unwrap(), wanted);
}

#[test]
fn content_skips_thoughts_and_reads_refusals() {
    let parts = json!([
        {"type": "reasoning_text", "text": "hm"},
        {"type": "output_text", "text": "It is ", "annotations": []},
        {"text": "4"},
        {"type": "refusal", "refusal": "."},
    ]);
    let wanted = Content { text: "It is 4.".to_owned(), has_thought: true, ..Content::default() };
    assert_eq!(serde_json::from_value::<Content>(parts).unwrap(), wanted);
}

#[test]
fn thought_field_says_where_a_thought_is_kept() {
    let field = |more: Value| {
        let mut message = json!({"role": "assistant", "content": "4"});
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<Message>(message).unwrap().thought_field()
    };
    for name in ["reasoning_content", "thinking", "reasoning"] {
        assert_eq!(field(json!({name: "2 and 2"})), Some(name));
        assert_eq!(field(json!({name: [{"type": "text", "text": "2 and 2"}]})), Some(name));
        for none in [json!(null), json!(""), json!("\n")] {
            assert_eq!(field(json!({name: none})), None);
        }
    }
    for kind in ["thinking", "reasoning", "reasoning_text", "summary_text"] {
        let parts = json!([{"type": kind, "text": "2 and 2"}, {"type": "text", "text": "4"}]);
        assert_eq!(field(json!({"content": parts})), Some("content"), "{kind}");
    }
    assert_eq!(field(json!({"content": "<think>2 and 2</think>4"})), None);
}
