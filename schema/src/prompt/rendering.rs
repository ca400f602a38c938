//! A conversation as one text, for readers whose prompt has room for one question: each turn with
//! its speaker.
//!
//! Does not know the judge's prompt nor chat templates.

use std::collections::BTreeMap;

use super::message::Message;
use crate::ordered_json::OrderedJson;

/// The conversation as a question. A single turn of the user is the question itself; every other
/// conversation is written out turn by turn, each with its speaker. Instructions without a text are
/// left out.
pub(super) fn question(messages: &[Message]) -> String {
    let is_instruction = |message: &Message| matches!(&message.role[..], "system" | "developer");
    let is_blank = |message: &Message| is_instruction(message) && message.content.trim().is_empty();
    let turns: Vec<&Message> = messages.iter().filter(|message| !is_blank(message)).collect();
    if let [only] = turns[..]
        && only.role == "user"
    {
        return only.content.clone();
    }
    let mut tools = BTreeMap::new();
    let mut texts = Vec::new();
    for turn in turns {
        for call in &turn.tool_calls {
            let names = call.get("id").and_then(OrderedJson::as_str).zip(name_of(call));
            tools.extend(names.map(|(id, name)| (id.to_owned(), name.to_owned())));
        }
        texts.extend(turn_texts(turn, &tools));
    }
    texts.join("\n\n")
}

/// What a turn says and calls, each with its speaker. `tools` are the names of tools by the id of
/// their call.
fn turn_texts(turn: &Message, tools: &BTreeMap<String, String>) -> Vec<String> {
    let by_id = || turn.tool_call_id.as_ref().and_then(|id| tools.get(id));
    let speaker = match &turn.role[..] {
        "system" => "System".to_owned(),
        "developer" => "Developer".to_owned(),
        "user" => "User".to_owned(),
        "assistant" => "Assistant".to_owned(),
        "tool" | "function" | "ipython" => match turn.name.as_ref().or_else(by_id) {
            Some(name) => format!("Tool result of {name}"),
            None => "Tool result".to_owned(),
        },
        other => other.to_owned(),
    };
    let said = format!("{speaker}: {}", turn.content);
    let has_text = turn.tool_calls.is_empty() || !turn.content.trim().is_empty();
    has_text.then_some(said).into_iter().chain(calls(turn)).collect()
}

/// What an answer says, and below it what it calls.
pub(super) fn answer(message: &Message) -> String {
    let said = Some(message.content.clone()).filter(|text| !text.trim().is_empty());
    if message.tool_calls.is_empty() {
        return message.content.clone();
    }
    said.into_iter().chain(calls(message)).collect::<Vec<_>>().join("\n\n")
}

/// The tool calls of a message, one text each.
fn calls(message: &Message) -> impl Iterator<Item = String> {
    message.tool_calls.iter().map(|call| {
        let function = call.get("function").unwrap_or(call);
        let arguments = match function.get("arguments") {
            None | Some(OrderedJson::Null) => String::new(),
            Some(OrderedJson::Text(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        format!("Tool call: {}({arguments})", name_of(call).unwrap_or("?"))
    })
}

fn name_of(call: &OrderedJson) -> Option<&str> {
    call.get("function").unwrap_or(call).get("name")?.as_str()
}
