//! One chat message, read in the forms of OpenAI's clients.
//!
//! Does not know which roles a reader takes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::content::Content;
use crate::ordered_json::OrderedJson;

/// One chat message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawMessage")]
pub struct Message {
    /// The speaker, such as `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text of the message; empty for a message that only calls tools.
    pub content: String,
    /// Tools that the message calls, in the client's form.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<OrderedJson>,
    /// Name of the tool or of the speaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Id of the tool call that the message answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The thought before the content, for chat templates that write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The thought, by a name before `reasoning_content`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// The thought, by its name in OpenRouter and vLLM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Whether the content had parts that are thoughts, which are not in `content`.
    #[serde(skip)]
    pub has_thought_parts: bool,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), ..Self::default() }
    }

    /// Where the message keeps a thought apart from its content: the name of the field.
    pub fn thought_field(&self) -> Option<&'static str> {
        let is_there =
            |thought: &Option<String>| thought.as_ref().is_some_and(|text| !text.trim().is_empty());
        [
            ("reasoning_content", is_there(&self.reasoning_content)),
            ("thinking", is_there(&self.thinking)),
            ("reasoning", is_there(&self.reasoning)),
            ("content", self.has_thought_parts),
        ]
        .into_iter()
        .find_map(|(field, is_there)| is_there.then_some(field))
    }

    /// The message with every text in it but the role changed by `change`.
    #[must_use]
    pub fn map_texts(self, change: impl Fn(&str) -> String) -> Self {
        Self {
            content: change(&self.content),
            tool_calls: self.tool_calls.iter().map(|call| call.map_texts(&change)).collect(),
            name: self.name.as_deref().map(&change),
            reasoning_content: self.reasoning_content.as_deref().map(&change),
            thinking: self.thinking.as_deref().map(&change),
            reasoning: self.reasoning.as_deref().map(&change),
            ..self
        }
    }
}

/// The fields of a message that are read.
#[derive(Deserialize)]
#[serde(expecting = "a chat message: an object with a role and content")]
struct RawMessage {
    role: String,
    /// `None` if the field is missing.
    #[serde(default, deserialize_with = "given")]
    content: Option<Content>,
    refusal: Option<String>,
    tool_calls: Option<Vec<OrderedJson>>,
    /// The form before `tool_calls`.
    function_call: Option<OrderedJson>,
    name: Option<String>,
    tool_call_id: Option<String>,
    reasoning_content: Option<Content>,
    thinking: Option<Content>,
    reasoning: Option<Content>,
}

/// A field that is given, even as null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Content>, D::Error> {
    Content::deserialize(deserializer).map(Some)
}

impl TryFrom<RawMessage> for Message {
    type Error = String;

    fn try_from(raw: RawMessage) -> Result<Self, String> {
        let mut tool_calls = raw.tool_calls.unwrap_or_default();
        tool_calls.extend(raw.function_call);
        if raw.content.is_none() && raw.refusal.is_none() && tool_calls.is_empty() {
            return Err("missing field `content`".to_owned());
        }
        let Content { text: content, has_thought } = raw.content.unwrap_or_default();
        let content = if content.is_empty() { raw.refusal.unwrap_or_default() } else { content };
        let text = |thought: Option<Content>| thought.map(|thought| thought.text);
        Ok(Self {
            role: raw.role,
            content,
            tool_calls,
            name: raw.name,
            tool_call_id: raw.tool_call_id,
            reasoning_content: text(raw.reasoning_content),
            thinking: text(raw.thinking),
            reasoning: text(raw.reasoning),
            has_thought_parts: has_thought,
        })
    }
}

impl JsonSchema for Message {
    fn schema_name() -> Cow<'static, str> {
        "Message".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let content = generator.subschema_for::<Content>();
        json_schema!({
            "description": "One chat message, in the form of OpenAI's clients.",
            "type": "object",
            "required": ["role"],
            "properties": {
                "role": {
                    "description": "`system`, `developer`, `user`, `assistant`, `tool` or \
                                    `function`.",
                    "type": "string",
                },
                "content": content,
                "tool_calls": {
                    "description": "Tools that the message calls.",
                    "type": ["array", "null"],
                    "items": {"type": "object"},
                },
                "name": {
                    "description": "Name of the tool or of the speaker.",
                    "type": ["string", "null"],
                },
                "tool_call_id": {
                    "description": "Id of the tool call that the message answers.",
                    "type": ["string", "null"],
                },
            },
        })
    }
}
