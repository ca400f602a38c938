//! One chat message, read in the forms of OpenAI's clients.
//!
//! Does not know which roles a reader takes.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::content::Content;
use crate::ordered_json::{JsonFields, OrderedJson};

/// One chat message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawMessage")]
pub struct Message {
    /// The speaker, such as `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text of the message; empty for a message that only calls tools.
    pub content: String,
    /// Whether the content is null or missing: chat templates see no content then, and not an empty
    /// one.
    pub content_is_null: bool,
    /// Tools that the message calls, in the client's form.
    pub tool_calls: Vec<OrderedJson>,
    /// Name of the tool or of the speaker.
    pub name: Option<String>,
    /// Id of the tool call that the message answers.
    pub tool_call_id: Option<String>,
    /// The thought before the content, for chat templates that write it.
    pub reasoning_content: Option<String>,
    /// The thought, by a name before `reasoning_content`.
    pub thinking: Option<String>,
    /// The thought, by its name in OpenRouter and vLLM.
    pub reasoning: Option<String>,
    /// Further fields of a chat in a file, for chat templates that know them. A request's are left
    /// out.
    pub further: JsonFields,
    /// Whether the content had parts that are thoughts, which are not in `content`.
    pub has_thought_parts: bool,
}

/// A message as it is written.
#[derive(Serialize)]
struct WrittenMessage<'a> {
    role: &'a str,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "<[OrderedJson]>::is_empty")]
    tool_calls: &'a [OrderedJson],
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    #[serde(flatten)]
    further: &'a JsonFields,
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = WrittenMessage {
            role: &self.role,
            content: (!self.content_is_null).then_some(&self.content[..]),
            tool_calls: &self.tool_calls,
            name: self.name.as_deref(),
            tool_call_id: self.tool_call_id.as_deref(),
            reasoning_content: self.reasoning_content.as_deref(),
            thinking: self.thinking.as_deref(),
            reasoning: self.reasoning.as_deref(),
            further: &self.further,
        };
        written.serialize(serializer)
    }
}

/// Names of the fields that a message reads.
const FIELDS: [&str; 10] = [
    "role",
    "content",
    "refusal",
    "tool_calls",
    "function_call",
    "name",
    "tool_call_id",
    "reasoning_content",
    "thinking",
    "reasoning",
];

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), ..Self::default() }
    }

    /// A field of a chat in a file that this module does not know.
    pub fn further_field(&self, name: &str) -> Option<&OrderedJson> {
        self.further.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Adds the fields of the message's JSON object that it does not have; those that are null are
    /// left out, as chat templates never see them.
    pub fn add_further(&mut self, fields: JsonFields) {
        let is_further = |(name, value): &(String, OrderedJson)| {
            !FIELDS.contains(&&name[..]) && *value != OrderedJson::Null
        };
        self.further = JsonFields(fields.0.into_iter().filter(is_further).collect());
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
            further: JsonFields(
                self.further
                    .0
                    .iter()
                    .map(|(name, value)| (name.clone(), value.map_texts(&change)))
                    .collect(),
            ),
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
        let null = Content { is_null: true, ..Content::default() };
        let Content { text: content, has_thought, is_null } = raw.content.unwrap_or(null);
        let content_is_null = is_null && raw.refusal.is_none();
        let content = if content.is_empty() { raw.refusal.unwrap_or_default() } else { content };
        let text = |thought: Option<Content>| thought.map(|thought| thought.text);
        Ok(Self {
            role: raw.role,
            content,
            content_is_null,
            tool_calls,
            name: raw.name,
            tool_call_id: raw.tool_call_id,
            reasoning_content: text(raw.reasoning_content),
            thinking: text(raw.thinking),
            reasoning: text(raw.reasoning),
            further: JsonFields::default(),
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
