//! The prompt of a row: a text, or a chat as a list or as JSON text.
//!
//! It does not know who reads the prompt.

use super::row::Row;
use crate::error::Error;
use crate::prompt::Prompt;

/// The column that is read where a row has no prompt.
pub const MESSAGES: &str = "messages";

/// Columns in which data sets keep the question of a chat that has its answer.
const QUESTIONS: [&str; 5] = ["prompt", "problem", "question", "instruction", "query"];

impl Row {
    /// The prompt in `column`, or in `messages` where that is missing or null; with the name of the
    /// column that has it. A text that is a JSON list of messages is a chat, as tables keep chats.
    ///
    /// # Errors
    /// A row without a prompt; what is wrong with the chat's messages.
    pub fn prompt<'a>(&self, column: &'a str) -> Result<(&'a str, Prompt), Error> {
        let column = if !self.has(column) && self.has(MESSAGES) { MESSAGES } else { column };
        let prompt = match self.required(column)? {
            Prompt::Text(text) => Prompt::from_column(text)
                .map_err(|error| self.cell_error(column, format!("holds a chat: {error}")))?,
            messages => messages,
        };
        Ok((column, prompt))
    }

    /// As [`Row::prompt`], of a prompt that someone continues or has continued: a chat that ends
    /// with the assistant's turn holds the answer, and is refused.
    ///
    /// # Errors
    /// As [`Row::prompt`]; a chat that ends with the assistant's turn.
    pub fn open_prompt<'a>(&self, column: &'a str) -> Result<(&'a str, Prompt), Error> {
        let (column, prompt) = self.prompt(column)?;
        let Some(number) = prompt.answered_at() else { return Ok((column, prompt)) };
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
