//! One row of a file of examples: a prompt with its completion, or a chat that ends with it.

use joust_schema::ordered_json::{JsonFields, OrderedJson};
use joust_schema::prompt::{Message, Prompt};
use joust_schema::rows::{MESSAGES, Place, Row, TEMPLATE_COLUMNS};

/// One row of a file.
#[derive(Clone)]
pub(crate) struct FileRow {
    pub(super) place: Place,
    pub(super) prompt: Prompt,
    pub(super) completion: String,
    /// Variables of the chat template that the row brings along, such as tools.
    pub(super) template_kwargs: JsonFields,
}

impl FileRow {
    pub(super) const COLUMNS: [&str; 5] =
        ["prompt", MESSAGES, "completion", TEMPLATE_COLUMNS[0], TEMPLATE_COLUMNS[1]];

    /// A prompt with its completion; or a chat, of which the last turn is the completion.
    pub(super) fn of(row: &Row) -> Result<Self, joust_schema::Error> {
        if row.has("completion") {
            let (column, prompt) = row.open_prompt("prompt")?;
            let completion = turn(row, "completion", row.said("completion")?)?;
            return Self::new(row, prompt, completion)?.checked(row, column, "completion");
        }
        if row.get("messages").is_none() {
            return Err(row.missing("completion"));
        }
        let mut messages = match row.prompt(MESSAGES)? {
            (_, Prompt::Messages(messages)) => messages,
            (column, Prompt::Text(_)) => {
                return Err(row.cell_error(column, "is a text, wanted a list of chat messages"));
            }
        };
        match messages.pop() {
            Some(last) if last.role == "assistant" && !messages.is_empty() => {
                let completion = learned(row, "messages", last)?;
                Self::new(row, Prompt::Messages(messages), completion)?
                    .checked(row, "messages", "messages")
            }
            Some(last) if last.role != "assistant" => {
                let text = format!(
                    "ends with a turn of `{}`, wanted one of the assistant: it is what is learned",
                    last.role
                );
                Err(row.cell_error("messages", text))
            }
            _ => Err(row.cell_error("messages", "has no turns before the assistant's")),
        }
    }

    fn new(row: &Row, prompt: Prompt, completion: String) -> Result<Self, joust_schema::Error> {
        let template_kwargs = row.template_kwargs(&prompt)?;
        Ok(Self { place: row.place(), prompt, completion, template_kwargs })
    }

    /// Whether the chat template renders the prompt; with `chat`, it renders texts too.
    pub(super) fn is_chat(&self, chat: bool) -> bool {
        chat || matches!(self.prompt, Prompt::Messages(_))
    }

    fn checked(
        self,
        row: &Row,
        prompt: &str,
        completion: &str,
    ) -> Result<Self, joust_schema::Error> {
        if let Some(problem) = self.prompt.emptiness() {
            return Err(row.cell_error(prompt, problem));
        }
        if self.completion.is_empty() {
            return Err(row.cell_error(completion, "has no text to learn"));
        }
        Ok(self)
    }
}

/// The text in a cell that holds the turn that is learned: a text, or one message of the assistant.
pub(super) fn turn(row: &Row, column: &str, said: Prompt) -> Result<String, joust_schema::Error> {
    let messages = match said {
        Prompt::Text(text) => return Ok(text),
        Prompt::Messages(messages) => messages,
    };
    match <[Message; 1]>::try_from(messages) {
        Ok([only]) if only.role == "assistant" => learned(row, column, only),
        Ok([only]) => {
            let text =
                format!("is a message of the role `{}`, wanted one of the assistant", only.role);
            Err(row.cell_error(column, text))
        }
        Err(messages) => {
            let text = format!("has {} messages, wanted one of the assistant", messages.len());
            Err(row.cell_error(column, text))
        }
    }
}

/// The text of the turn that is learned. What would not be learned is refused.
pub(super) fn learned(
    row: &Row,
    column: &str,
    turn: Message,
) -> Result<String, joust_schema::Error> {
    let weight = turn.further_field("weight");
    if matches!(weight, Some(OrderedJson::Number(weight)) if weight.as_f64() == Some(0.0)) {
        let text = "has `weight` 0 on the turn that is learned, which says that it is not; leave \
                    the row out, or the turn";
        return Err(row.cell_error(column, text));
    }
    if !turn.tool_calls.is_empty() {
        let text = "calls tools in the turn that is learned, and only text can be learned";
        return Err(row.cell_error(column, text));
    }
    match turn.thought_field() {
        None => Ok(turn.content),
        Some(field) => {
            let what = match field {
                "content" => "parts of `content`".to_owned(),
                field => format!("`{field}`"),
            };
            let text = format!(
                "has a thought in the turn that is learned ({what}), which is not learned: write \
                 it into the text of `content` as the chat template has it, or leave it out"
            );
            Err(row.cell_error(column, text))
        }
    }
}

#[cfg(test)]
mod tests;
