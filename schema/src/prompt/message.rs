//! One chat message, read in the forms of OpenAI's clients.
//!
//! Does not know which roles a reader takes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::content::Content;

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
    pub tool_calls: Vec<Value>,
    /// Name of the tool or of the speaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Id of the tool call that the message answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), ..Self::default() }
    }

    /// The message with every text in it but the role changed by `change`.
    #[must_use]
    pub fn map_texts(self, change: impl Fn(&str) -> String) -> Self {
        Self {
            content: change(&self.content),
            tool_calls: self.tool_calls.iter().map(|call| mapped(call, &change)).collect(),
            name: self.name.as_deref().map(&change),
            ..self
        }
    }
}

/// A JSON value with every text in it changed.
fn mapped(value: &Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(items) => items.iter().map(|item| mapped(item, change)).collect(),
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| (change(key), mapped(value, change));
            Value::Object(members.iter().map(member).collect())
        }
        other => other.clone(),
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
    tool_calls: Option<Vec<Value>>,
    /// The form before `tool_calls`.
    function_call: Option<Value>,
    name: Option<String>,
    tool_call_id: Option<String>,
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
        let content = raw.content.map(|content| content.0).unwrap_or_default();
        let content = if content.is_empty() { raw.refusal.unwrap_or_default() } else { content };
        let (role, name, tool_call_id) = (raw.role, raw.name, raw.tool_call_id);
        Ok(Self { role, content, tool_calls, name, tool_call_id })
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
