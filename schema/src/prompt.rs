//! Prompts of data sets: a text, or chat messages.
//!
//! The chat template, which turns messages into the text that a policy continues, is not known
//! here.

use serde::{Deserialize, Serialize};

/// One chat message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text of the message.
    pub content: String,
}

impl Message {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A prompt: a text, or chat messages that a chat template turns into one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "wanted a text or a list of chat messages")]
pub enum Prompt {
    /// A text that the policy continues as it is.
    Text(String),
    /// Chat messages.
    Messages(Vec<Message>),
}

impl Prompt {
    /// The question that a judge is shown: the text, or the content of a single message. A longer
    /// conversation is written out turn by turn, for the judge's prompt has room for one question.
    pub fn question(&self) -> String {
        let messages = match self {
            Self::Text(text) => return text.clone(),
            Self::Messages(messages) => messages,
        };
        if let [only] = &messages[..] {
            return only.content.clone();
        }
        let n_user_turns = messages.iter().filter(|message| message.role == "user").count();
        let is_conversation =
            n_user_turns > 1 || messages.iter().any(|message| message.role == "assistant");
        let spoken = messages.iter().map(|message| match &message.role[..] {
            "user" if !is_conversation => message.content.clone(),
            "user" => format!("User: {}", message.content),
            "assistant" => format!("Assistant: {}", message.content),
            _ => message.content.clone(),
        });
        spoken.collect::<Vec<_>>().join("\n\n")
    }

    /// The prompt as one line of text for tables: messages as JSON.
    pub fn to_column(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Messages(messages) => serde_json::to_string(messages)
                .expect("messages are plain strings, which JSON holds. This is a bug."),
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

#[cfg(test)]
mod tests {
    use super::{Message, Prompt};

    #[test]
    fn question_is_the_content_of_a_single_message_or_the_conversation() {
        let message = |role: &str, content: &str| Message::new(role, content);
        assert_eq!(Prompt::Text("2+2?".into()).question(), "2+2?");
        assert_eq!(Prompt::Messages(vec![message("user", "2+2?")]).question(), "2+2?");
        let with_system = vec![message("system", "Be brief."), message("user", "2+2?")];
        assert_eq!(Prompt::Messages(with_system).question(), "Be brief.\n\n2+2?");
        let turns =
            vec![message("user", "Hi"), message("assistant", "Hello"), message("user", "2+2?")];
        assert_eq!(
            Prompt::Messages(turns).question(),
            "User: Hi\n\nAssistant: Hello\n\nUser: 2+2?"
        );
    }
}
