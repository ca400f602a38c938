//! The prompt of a row: a text, or a chat as a list or as JSON text.
//!
//! It does not know who reads the prompt, nor what may be in it.

use super::row::Row;
use crate::error::Error;
use crate::prompt::Prompt;

/// The column that is read where a row has no prompt.
pub const MESSAGES: &str = "messages";

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
}
