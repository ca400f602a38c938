//! The prompt of a row: a text, or a chat as a list or as JSON text.
//!
//! It does not know who reads the prompt.

use serde_json::value::RawValue;

use super::row::{Row, without_position};
use crate::error::Error;
use crate::ordered_json::JsonFields;
use crate::prompt::{Message, Prompt};

/// The column that is read where a row has no prompt.
pub const MESSAGES: &str = "messages";

/// Columns in which data sets keep the question of a chat that has its answer.
const QUESTIONS: [&str; 4] = ["problem", "question", "instruction", "query"];

impl Row {
    /// The prompt in `column`, or in `messages` where that is missing or null; with the name of the
    /// column that has it. A text that is a JSON list of messages is a chat, as tables keep chats.
    ///
    /// # Errors
    /// A row without a prompt; what is wrong with the chat's messages.
    pub fn prompt<'a>(&self, column: &'a str) -> Result<(&'a str, Prompt), Error> {
        let column = if !self.has(column) && self.has(MESSAGES) { MESSAGES } else { column };
        let bad = |error: String| self.cell_error(column, format!("holds a chat: {error}"));
        let prompt = match self.said(column)? {
            Prompt::Text(text) if is_python(&text) => {
                let reason =
                    "is a chat as Python prints it, which is no JSON; write it by json.dumps";
                return Err(self.cell_error(column, reason));
            }
            Prompt::Text(text) => match Prompt::from_column(text.clone()).map_err(bad)? {
                Prompt::Messages(messages) => {
                    Prompt::Messages(whole(messages, &text).map_err(bad)?)
                }
                text => text,
            },
            messages => messages,
        };
        Ok((column, prompt))
    }

    /// A text or a chat in a cell, whose messages keep the fields that only chat templates know.
    ///
    /// # Errors
    /// As [`Row::required`]; an integer of a chat that would lose digits.
    pub fn said(&self, column: &str) -> Result<Prompt, Error> {
        if let Some(kind @ ("a number" | "a truth value" | "an object")) = self.kind(column) {
            let text = format!("is {kind}, wanted a text or a list of chat messages");
            return Err(self.cell_error(column, text));
        }
        match self.required(column)? {
            Prompt::Text(text) => Ok(Prompt::Text(text)),
            Prompt::Messages(messages) => {
                let json = self.get(column).map_or("null", RawValue::get);
                let whole = whole(messages, json).map(Prompt::Messages);
                whole.map_err(|reason| self.cell_error(column, reason))
            }
        }
    }

    /// The messages of a chat that is given as the JSON text of a list, told as those of a cell.
    ///
    /// # Errors
    /// What is wrong with the messages, with the place and the column.
    pub fn messages(&self, column: &str, json: &str) -> Result<Vec<Message>, Error> {
        let messages = match serde_json::from_str(json) {
            Ok(Prompt::Messages(messages)) => messages,
            Ok(Prompt::Text(_)) => {
                return Err(self.cell_error(column, "is a text, wanted chat messages"));
            }
            Err(error) => return Err(self.cell_error(column, without_position(&error))),
        };
        whole(messages, json).map_err(|reason| self.cell_error(column, reason))
    }

    /// As [`Row::prompt`], of a prompt that someone continues or has continued: a chat that ends
    /// with the assistant's turn holds the answer, and is refused.
    ///
    /// # Errors
    /// As [`Row::prompt`]; a chat that ends with the assistant's turn.
    pub fn open_prompt<'a>(&self, column: &'a str) -> Result<(&'a str, Prompt), Error> {
        let (column, prompt) = self.prompt(column)?;
        self.check_open(column, &prompt)?;
        Ok((column, prompt))
    }

    /// Refuses a prompt of `column` that ends with the assistant's turn.
    ///
    /// # Errors
    /// Says so, and how the answer is taken out of the prompt.
    pub fn check_open(&self, column: &str, prompt: &Prompt) -> Result<(), Error> {
        let Some(number) = prompt.answered_at() else { return Ok(()) };
        let is_other = |name: &&str| *name != column && self.names.iter().any(|it| it == name);
        let mend = QUESTIONS.into_iter().find(is_other).map_or(String::new(), |name| {
            format!(
                ", or give column `{name}` the name `prompt` (`train`: prompts.prompt_column = \
                 \"{name}\")"
            )
        });
        Err(self.cell_error(
            column,
            format!(
                "ends with the assistant's turn (message {number}), so that the answer would be \
                 part of the prompt; cut that turn off{mend}"
            ),
        ))
    }
}

/// Whether a text is what Python's `str` makes of a list of messages, as pandas' CSV files have it.
fn is_python(text: &str) -> bool {
    let text = text.trim_start();
    ["[{'role':", "[{'content':"].iter().any(|start| text.starts_with(start))
}

/// A chat with all that its JSON text says about its messages.
fn whole(mut messages: Vec<Message>, json: &str) -> Result<Vec<Message>, String> {
    if let Some(integer) = large_integer(json) {
        return Err(format!("has the integer {integer}, beyond 64 bits; write it as a text"));
    }
    let fields: Vec<JsonFields> =
        serde_json::from_str(json).map_err(|error| without_position(&error))?;
    for (message, fields) in messages.iter_mut().zip(fields) {
        message.add_further(fields);
    }
    Ok(messages)
}

/// The first integer of a JSON text that has more digits than 64 bits hold.
pub(super) fn large_integer(json: &str) -> Option<&str> {
    let bytes = json.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += 1 + usize::from(bytes[at] == b'\\');
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
                at += bytes[at..].iter().take_while(|byte| is_part(byte)).count();
                let number = &json[start..at];
                let is_integer = !number.contains(['.', 'e', 'E']);
                if is_integer && number.parse::<u64>().is_err() && number.parse::<i64>().is_err() {
                    return Some(number);
                }
            }
            _ => at += 1,
        }
    }
    None
}
