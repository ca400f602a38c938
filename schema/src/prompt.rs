//! Prompts of data sets: a text, or chat messages.
//!
//! The chat template, which turns messages into the text that a policy continues, is not known
//! here.

mod content;
mod message;
mod rendering;

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

pub use content::Content;
pub use message::Message;

/// Roles of messages that a judge reads.
pub const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// The role of tools in chats of Llama 3, which a judge reads as `tool`.
const LLAMA_TOOL: &str = "ipython";

/// Who reads prompts beside the policy. What only the others could not read does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptUse {
    /// A judge, to whom known answers do not matter.
    Judge,
    /// Nobody: completions are compared with the known answers.
    Answers,
    /// A judge, and completions are compared with the known answers too.
    JudgeAndAnswers,
    /// Nobody, and no answers are compared.
    Nothing,
}

impl PromptUse {
    /// Why the prompt cannot be used so, to be said after its name; `None` if it can.
    pub fn problem(self, prompt: &Prompt) -> Option<String> {
        match self {
            Self::Judge | Self::JudgeAndAnswers => prompt.problem(),
            Self::Answers | Self::Nothing => prompt.emptiness(),
        }
    }
}

/// A prompt: a text, or chat messages that a chat template turns into one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Prompt {
    /// A text that the policy continues as it is.
    Text(String),
    /// Chat messages.
    Messages(Vec<Message>),
}

impl<'de> Deserialize<'de> for Prompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PromptVisitor)
    }
}

struct PromptVisitor;

impl<'de> Visitor<'de> for PromptVisitor {
    type Value = Prompt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of chat messages")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Prompt, E> {
        Ok(Prompt::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Prompt, E> {
        Ok(Prompt::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Prompt, A::Error> {
        let mut messages = Vec::new();
        loop {
            match items.next_element() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return Ok(Prompt::Messages(messages)),
                Err(error) => {
                    let number = messages.len() + 1;
                    return Err(Error::custom(format!("message {number}: {error}")));
                }
            }
        }
    }
}

impl Prompt {
    /// The question that a judge is shown: the text, or the content of a single turn of the user.
    /// Every other conversation is written out turn by turn, each with its speaker, because the
    /// judge's prompt has room for one question.
    pub fn question(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Messages(messages) => rendering::question(messages),
        }
    }

    /// Why a judge cannot read the prompt, to be said after its name; `None` if it can.
    pub fn problem(&self) -> Option<String> {
        let messages = match self {
            Self::Messages(messages) if !messages.is_empty() => messages,
            _ => return self.emptiness(),
        };
        for (idx, message) in messages.iter().enumerate() {
            let (number, role) = (idx + 1, &message.role);
            if !ROLES.contains(&&role[..]) && role != LLAMA_TOOL {
                let roles = ROLES.join(", ");
                return Some(format!("has the role {role:?} in message {number}, wanted {roles}"));
            }
            if role == "user" && message.content.trim().is_empty() {
                return Some(format!("has a blank message of the user (message {number})"));
            }
        }
        self.emptiness()
    }

    /// Says that there is nothing to continue, to be said after the prompt's name; `None` if there
    /// is. Roles and turns without a text are the chat template's concern.
    pub fn emptiness(&self) -> Option<String> {
        if self.is_empty() {
            return Some("is empty".to_owned());
        }
        let is_blank =
            |message: &Message| message.content.trim().is_empty() && message.tool_calls.is_empty();
        match self {
            Self::Text(text) => text.trim().is_empty().then(|| "is blank".to_owned()),
            Self::Messages(messages) => {
                let is_blank = messages.iter().all(is_blank);
                is_blank.then(|| "has no message with a text".to_owned())
            }
        }
    }

    /// The number of the last message, from 1, if it is the assistant's: what should be continued
    /// is answered already.
    pub fn answered_at(&self) -> Option<usize> {
        match self {
            Self::Text(_) => None,
            Self::Messages(messages) => {
                messages.last().filter(|last| last.role == "assistant").map(|_| messages.len())
            }
        }
    }

    /// The prompt as one line of text for tables: messages as JSON.
    pub fn to_column(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Messages(messages) => serde_json::to_string(messages)
                .expect("messages are plain data, which JSON holds. This is a bug."),
        }
    }

    /// The prompt of a column: the reverse of [`Prompt::to_column`]. A JSON list of objects with a
    /// role is a chat, anything else a text.
    ///
    /// # Errors
    /// What is wrong with a chat's messages.
    pub fn from_column(text: String) -> Result<Self, String> {
        if !text.trim_start().starts_with('[') {
            return Ok(Self::Text(text));
        }
        match serde_json::from_str::<Vec<Map<String, Value>>>(&text) {
            Ok(list) if !list.is_empty() && list.iter().all(|item| item.contains_key("role")) => {
                serde_json::from_str(&text).map_err(|error| error.to_string())
            }
            _ => Ok(Self::Text(text)),
        }
    }

    /// Whether the prompt has no text and no message.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Messages(messages) => messages.is_empty(),
        }
    }
}

/// A completion: a text, or chat messages, of which the last of the assistant is meant: what it
/// says and which tools it calls.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Prompt")]
pub struct Completion(pub String);

impl TryFrom<Prompt> for Completion {
    type Error = &'static str;

    fn try_from(said: Prompt) -> Result<Self, &'static str> {
        let messages = match said {
            Prompt::Text(text) => return Ok(Self(text)),
            Prompt::Messages(messages) => messages,
        };
        let last = messages.iter().rfind(|message| message.role == "assistant");
        match last {
            Some(last) => Ok(Self(rendering::answer(last))),
            None if messages.is_empty() => Ok(Self(String::new())),
            None => Err("a completion of messages has none of the role `assistant`"),
        }
    }
}

#[cfg(test)]
mod tests;
