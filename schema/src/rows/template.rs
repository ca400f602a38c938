//! Variables of the chat template that a row brings along, as data sets of OpenAI and TRL have
//! them: its tools, and others.
//!
//! It does not know templates.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::prompt::large_integer;
use super::row::{Row, kind};
use crate::error::Error;
use crate::ordered_json::{JsonFields, OrderedJson};
use crate::prompt::Prompt;

/// The columns with variables of the chat template: `tools`, and an object of others.
pub const TEMPLATE_COLUMNS: [&str; 2] = ["tools", "chat_template_kwargs"];

impl Row {
    /// The variables that the row gives to the chat template of its prompt. Those of a text, which
    /// no template has to render, do not matter where they are none.
    ///
    /// # Errors
    /// Tools that are no list, variables that are no object, and integers that would lose digits.
    pub fn template_kwargs(&self, prompt: &Prompt) -> Result<JsonFields, Error> {
        let [tools, others] = TEMPLATE_COLUMNS;
        let read = || -> Result<JsonFields, Error> {
            let fields: Option<JsonFields> = self.list_or_object(others, b'{')?;
            let mut fields = fields.unwrap_or_default();
            // tables write the variables of other rows as null
            fields.0.retain(|(_, value)| *value != OrderedJson::Null);
            for name in ["messages", "add_generation_prompt"] {
                if fields.0.iter().any(|(known, _)| known == name) {
                    let text = format!("has `{name}`, which every rendering sets");
                    return Err(self.cell_error(others, text));
                }
            }
            let list: Option<Vec<OrderedJson>> = self.list_or_object(tools, b'[')?;
            if let Some(list) = list.filter(|list| !list.is_empty()) {
                fields.insert(tools.to_owned(), OrderedJson::List(list));
            }
            Ok(fields)
        };
        match (read(), prompt) {
            (Err(_), Prompt::Text(_)) => Ok(JsonFields::default()),
            (fields, _) => fields,
        }
    }

    /// A cell that begins with `opening`, or the JSON text of one.
    fn list_or_object<T: DeserializeOwned>(
        &self,
        column: &str,
        opening: u8,
    ) -> Result<Option<T>, Error> {
        let wanted = if opening == b'[' { "a list" } else { "an object" };
        let text = match self.get(column).map(RawValue::get) {
            None | Some("null") => return Ok(None),
            Some(json) if json.starts_with('"') => self.required(column)?,
            Some(json) => json.to_owned(),
        };
        let bad = |seen: &str| {
            let text = format!(
                "is {seen}, wanted {wanted} for the chat template, or its JSON text; give a column \
                 of another meaning another name"
            );
            self.cell_error(column, text)
        };
        let text = text.trim();
        if text.is_empty() || text == "null" {
            return Ok(None);
        }
        if text.as_bytes().first() != Some(&opening) {
            let is_text = self.get(column).is_some_and(|json| json.get().starts_with('"'));
            return Err(bad(if is_text { "another text" } else { kind(text) }));
        }
        if let Some(integer) = large_integer(text) {
            let text = format!("has the integer {integer}, beyond 64 bits; write it as a text");
            return Err(self.cell_error(column, text));
        }
        serde_json::from_str(text).map(Some).map_err(|_| bad("unreadable JSON"))
    }
}
