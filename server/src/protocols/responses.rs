//! Conversations and answers in the format of OpenAI's Responses API, as NeMo-Gym sends them. Pure.

use joust_schema::prompt::{Message, Prompt};
use schemars::JsonSchema;
use serde::Deserialize;

/// The turns before the answer: a text, or items.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "wanted a text or a list of items")]
pub(crate) enum Conversation {
    Text(String),
    Items(Vec<Item>),
}

/// A model's output: messages, reasoning and other items; only messages are read.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct Output {
    output: Vec<Item>,
}

/// One item: a message, or reasoning or a tool call, which have no role.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct Item {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    content: Option<Content>,
}

/// Content of a message: a text, or parts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "content is neither a text nor a list of parts")]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

impl Content {
    /// The texts of all parts, joined.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => parts.iter().filter_map(|part| part.text.as_deref()).collect(),
        }
    }
}

/// A part of a message; parts without a text (images, refusals) are skipped.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct Part {
    #[serde(default)]
    text: Option<String>,
}

impl Item {
    fn is_message(&self) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == "message")
    }

    fn text(&self) -> String {
        self.content.as_ref().map(Content::text).unwrap_or_default()
    }
}

impl Output {
    /// The text of the last message; empty without one.
    pub(crate) fn text(&self) -> String {
        let last = self.output.iter().rfind(|item| item.is_message());
        last.map(Item::text).unwrap_or_default()
    }
}

/// The conversation as a prompt; `principle`, the criterion of the judge, becomes a system message.
pub(crate) fn prompt(conversation: &Conversation, principle: Option<&str>) -> Prompt {
    let mut messages: Vec<Message> = match conversation {
        Conversation::Text(text) => vec![Message::new("user", text)],
        Conversation::Items(items) => items
            .iter()
            .filter(|item| item.is_message())
            .map(|item| Message::new(item.role.as_deref().unwrap_or("user"), item.text()))
            .collect(),
    };
    if let Some(principle) = principle {
        messages.insert(0, Message::new("system", principle));
    }
    Prompt::Messages(messages)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn output_text_is_the_last_message_without_reasoning() {
        let output: Output = serde_json::from_value(json!({"id": "r", "output": [
            {"type": "message", "role": "assistant", "content": "a draft"},
            {"type": "message", "role": "assistant", "content": [
                {"type": "output_text", "text": "It is ", "annotations": []},
                {"type": "output_text", "text": "4."}]},
            {"type": "reasoning", "summary": [], "content": [
                {"type": "reasoning_text", "text": "hm"}]}
        ]}))
        .unwrap();
        assert_eq!(output.text(), "It is 4.");
        let empty: Output = serde_json::from_value(json!({"output": []})).unwrap();
        assert_eq!(empty.text(), "");
    }

    #[test]
    fn prompt_reads_conversations_of_texts_and_of_items() {
        let items: Conversation = serde_json::from_value(json!([
            {"role": "user", "content": [{"type": "input_text", "text": "2+2?"}]},
            {"type": "function_call", "name": "f", "arguments": "{}"}
        ]))
        .unwrap();
        assert_eq!(prompt(&items, None).question(), "2+2?");
        let text: Conversation = serde_json::from_value(json!("2+2?")).unwrap();
        assert_eq!(prompt(&text, Some("Be brief.")).question(), "Be brief.\n\n2+2?");
    }
}
