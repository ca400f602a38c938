//! Conversations and answers in the format of OpenAI's Responses API, as NeMo-Gym sends them. Pure.

use joust_schema::prompt::{Completion, Content, Message, Prompt};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// The turns before the answer: a text, or items.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "wanted a text or a list of items")]
pub(crate) enum Conversation {
    Text(String),
    Items(Vec<Item>),
}

/// A model's output: messages, tool calls, reasoning and other items, and the turns of users and
/// systems that agents return among them. The model's last message counts, with the tools that are
/// called after it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct Output {
    output: Vec<Item>,
}

/// One item: a message, a tool call, the result of a tool call, or reasoning.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct Item {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    /// Speaker of a message.
    #[serde(default)]
    role: Option<String>,
    /// Content of a message: a text, or parts.
    #[serde(default)]
    content: Option<Value>,
    /// Name of the tool that is called.
    #[serde(default)]
    name: Option<String>,
    /// Arguments of a tool call.
    #[serde(default)]
    arguments: Option<Value>,
    /// Id of the tool call.
    #[serde(default)]
    call_id: Option<String>,
    /// Result of a tool call: a text, or parts.
    #[serde(default)]
    output: Option<Value>,
}

impl Item {
    fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("message")
    }

    /// Whether it is a message of the model, and not one of a user or a system.
    fn is_answer(&self) -> bool {
        self.kind() == "message" && matches!(self.role.as_deref(), None | Some("assistant"))
    }

    /// The item as a chat message; `None` for reasoning.
    ///
    /// # Errors
    /// An item that is no text: an image, or a kind that is not known.
    fn message(&self, default_role: &str) -> Result<Option<Message>, String> {
        let text = |content: &Option<Value>| match content {
            Some(content) => Content::deserialize(content).map_err(|error| error.to_string()),
            None => Ok(Content::default()),
        };
        Ok(Some(match self.kind() {
            "message" => {
                let role = self.role.as_deref().unwrap_or(default_role);
                Message::new(role, text(&self.content)?.text)
            }
            "function_call" => {
                let function = json!({"name": self.name, "arguments": self.arguments});
                let call = json!({"id": self.call_id, "type": "function", "function": function});
                Message { tool_calls: vec![call.into()], ..Message::new("assistant", "") }
            }
            "function_call_output" => Message {
                tool_call_id: self.call_id.clone(),
                ..Message::new("tool", text(&self.output)?.text)
            },
            "reasoning" => return Ok(None),
            kind => {
                return Err(format!(
                    "an item has type {kind:?}, wanted message, function_call, \
                     function_call_output or reasoning"
                ));
            }
        }))
    }
}

impl Output {
    /// The text of the model's last message with the tools that are called after it; empty without
    /// both.
    ///
    /// # Errors
    /// A message that is no text.
    pub(crate) fn text(&self) -> Result<String, String> {
        let last = self.output.iter().rposition(Item::is_answer);
        let mut said = Message::new("assistant", "");
        if let Some(last) = last.and_then(|at| self.output[at].message("assistant").transpose()) {
            said.content = last?.content;
        }
        for item in &self.output[last.map_or(0, |at| at + 1)..] {
            if item.kind() == "function_call" {
                said.tool_calls.extend(item.message("")?.unwrap_or_default().tool_calls);
            }
        }
        let said = Completion::try_from(Prompt::Messages(vec![said]))?;
        Ok(said.0)
    }
}

/// The conversation as a prompt, after the `instructions` as a system message if there are any.
///
/// # Errors
/// An item that is no text.
pub(crate) fn prompt(
    conversation: &Conversation,
    instructions: Option<&str>,
) -> Result<Prompt, String> {
    let mut messages = Vec::new();
    messages.extend(instructions.map(|text| Message::new("system", text)));
    match conversation {
        Conversation::Text(text) => messages.push(Message::new("user", text)),
        Conversation::Items(items) => {
            for item in items {
                messages.extend(item.message("user")?);
            }
        }
    }
    Ok(Prompt::Messages(messages))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(items: Value) -> Output {
        serde_json::from_value(json!({"id": "r", "output": items})).unwrap()
    }

    fn conversation(value: Value) -> Conversation {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn output_text_is_the_last_message_without_reasoning() {
        let said = output(json!([
            {"type": "message", "role": "assistant", "content": "a draft"},
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
            {"type": "function_call_output", "call_id": "c", "output": "3"},
            {"type": "message", "role": "assistant", "content": [
                {"type": "output_text", "text": "It is ", "annotations": []},
                {"type": "output_text", "text": "4."}]},
            {"type": "reasoning", "summary": [], "content": [
                {"type": "reasoning_text", "text": "hm"}]},
            {"type": "web_search_call", "id": "w", "content": 7}
        ]));
        assert_eq!(said.text(), Ok("It is 4.".to_owned()));
        assert_eq!(output(json!([])).text(), Ok(String::new()));
        let calls = output(json!([
            {"type": "message", "content": "Wait."},
            {"type": "function_call", "name": "add", "arguments": "{\"a\": 1}", "call_id": "c"}
        ]));
        assert_eq!(calls.text(), Ok("Wait.\n\nTool call: add({\"a\": 1})".to_owned()));
        let image = json!([{"type": "message", "content": [{"type": "output_image"}]}]);
        assert!(output(image).text().unwrap_err().contains("\"output_image\""));
    }

    #[test]
    fn output_text_is_never_the_turn_of_a_user_or_a_system() {
        let answer = json!({"type": "message", "role": "assistant", "content": "It is 4."});
        let call = json!({"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"});
        // agents remind models in the name of the user, and return the prompt with the rollout
        for role in ["user", "system", "developer", "tool"] {
            let nudge = json!({"role": role, "content": "You did not call a tool."});
            let typed = json!({"type": "message", "role": role, "content": "Please continue."});
            let said = output(json!([nudge, answer, typed]));
            assert_eq!(said.text(), Ok("It is 4.".to_owned()), "{role}");
            let with_call = output(json!([answer, nudge, call]));
            assert_eq!(with_call.text(), Ok("It is 4.\n\nTool call: f({})".to_owned()), "{role}");
            assert_eq!(output(json!([nudge, call])).text(), Ok("Tool call: f({})".to_owned()));
            assert_eq!(output(json!([typed])).text(), Ok(String::new()), "{role}");
        }
        // an image of the user is no answer either
        let image = json!({"role": "user", "content": [{"type": "input_image"}]});
        assert_eq!(output(json!([answer, image])).text(), Ok("It is 4.".to_owned()));
    }

    #[test]
    fn prompt_reads_conversations_of_texts_and_of_items() {
        let items = conversation(json!([
            {"role": "user", "content": [{"type": "input_text", "text": "2+2?"}]},
            {"type": "reasoning", "summary": []},
            {"type": "function_call", "name": "add", "arguments": "{}", "call_id": "c"},
            {"type": "function_call_output", "call_id": "c", "output": "4"}
        ]));
        assert_eq!(
            prompt(&items, None).unwrap().question(),
            "User: 2+2?\n\nTool call: add({})\n\nTool result of add: 4"
        );
        let text = conversation(json!("2+2?"));
        assert_eq!(prompt(&text, None).unwrap().question(), "2+2?");
        assert_eq!(
            prompt(&text, Some("Be brief.")).unwrap().question(),
            "System: Be brief.\n\nUser: 2+2?"
        );
        let image = conversation(json!([{"role": "user", "content": [{"type": "input_image"}]}]));
        assert!(prompt(&image, None).unwrap_err().contains("\"input_image\""));
        let other = conversation(json!([{"type": "item_reference", "id": "x"}]));
        assert!(prompt(&other, None).unwrap_err().contains("\"item_reference\""));
    }
}
