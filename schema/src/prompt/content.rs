//! Content of a chat message as clients send it: a text, a list of parts, or nothing.
//!
//! Does not know messages.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Content of a message as a text: that of its parts joined, empty for null. Parts that are
/// thoughts are left out; parts that are no text (images, sound, files) are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// The text.
    pub text: String,
    /// Whether parts that are thoughts were left out.
    pub has_thought: bool,
    /// Whether it was null.
    pub is_null: bool,
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

impl JsonSchema for Content {
    fn schema_name() -> Cow<'static, str> {
        "Content".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A text, parts with a text, or nothing.",
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "object"}]}},
                {"type": "null"},
            ],
        })
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("content as a text, a list of parts or null")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
        Ok(text.to_owned().into())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Content, E> {
        Ok(text.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Content, E> {
        Ok(Content { is_null: true, ..Content::default() })
    }

    fn visit_none<E: Error>(self) -> Result<Content, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
        let mut content = Content::default();
        while let Some(part) = parts.next_element()? {
            match part {
                Part::Text(text) => content.text.push_str(&text),
                Part::Thought => content.has_thought = true,
            }
        }
        Ok(content)
    }
}

/// One part: a text, or a thought, which is not read.
enum Part {
    Text(String),
    Thought,
}

/// The fields of a part that are read.
#[derive(Deserialize)]
struct RawPart {
    #[serde(rename = "type")]
    kind: Option<String>,
    text: Option<String>,
    refusal: Option<String>,
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartVisitor)
    }
}

struct PartVisitor;

impl<'de> Visitor<'de> for PartVisitor {
    type Value = Part;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part with a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Part, E> {
        Ok(Part::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Part, A::Error> {
        let part = RawPart::deserialize(MapAccessDeserializer::new(map))?;
        let missing = |field: &str| Error::custom(format!("a part of content has no {field}"));
        let text = match part.kind.as_deref() {
            None | Some("text" | "input_text" | "output_text") => {
                part.text.ok_or_else(|| missing("text"))?
            }
            Some("refusal") => part.refusal.ok_or_else(|| missing("refusal"))?,
            Some("reasoning" | "reasoning_text" | "summary_text" | "thinking") => {
                return Ok(Part::Thought);
            }
            Some(kind) => {
                let reason = format!("a part of content has type {kind:?}, wanted parts of text");
                return Err(Error::custom(reason));
            }
        };
        Ok(Part::Text(text))
    }
}
