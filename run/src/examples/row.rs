//! One row of a file of examples: a prompt with its completion, or a chat of which turns are
//! learned.

use joust_schema::ordered_json::{JsonFields, OrderedJson};
use joust_schema::prompt::{Message, Prompt};
use joust_schema::rows::{MESSAGES, Place, Row, TEMPLATE_COLUMNS};

use super::form;
use crate::config::sft::TrainedTurns;

/// One row of a file.
#[derive(Clone)]
pub(crate) struct FileRow {
    pub(super) place: Place,
    pub(super) learned: Learned,
    /// Variables of the chat template that the row brings along, such as tools.
    pub(super) template_kwargs: JsonFields,
}

/// What is learned of a row.
#[derive(Clone)]
pub(super) enum Learned {
    /// A completion of a prompt.
    Completion { prompt: Prompt, completion: String },
    /// Turns of a chat, by the numbers of their messages from 0.
    Turns { messages: Vec<Message>, turns: Vec<usize> },
}

impl FileRow {
    pub(super) const COLUMNS: [&str; 5] =
        ["prompt", MESSAGES, "completion", TEMPLATE_COLUMNS[0], TEMPLATE_COLUMNS[1]];

    /// The forms of rows that are read.
    const FORMS: &str = "`prompt` (or `messages`) with `completion`, `messages` or ShareGPT's \
                         `conversations` alone, or Alpaca's `instruction` and `output`";

    /// Why a file with these columns alone has no examples.
    pub(super) fn unknown(names: &[String]) -> String {
        form::unknown(names, "completion", Self::FORMS)
    }

    /// A prompt with its completion; or a chat, of which `trained` turns are learned.
    pub(super) fn of(row: &Row, trained: TrainedTurns) -> Result<Self, joust_schema::Error> {
        if row.has("completion") {
            let (column, prompt) = form::open_prompt(row)?;
            let completion = turn(row, "completion", form::answer(row, "completion")?)?;
            return Self::of_completion(row, [column, "completion"], prompt, completion);
        }
        let (columns, messages) = form::chat(row, Self::FORMS)?;
        match trained {
            TrainedTurns::Last => Self::of_last(row, columns, messages),
            TrainedTurns::All => Self::of_all(row, columns[1], messages),
        }
    }

    /// A chat of which the last message is learned; `columns` have its beginning and its end.
    fn of_last(
        row: &Row,
        columns: [&str; 2],
        mut messages: Vec<Message>,
    ) -> Result<Self, joust_schema::Error> {
        let [_, column] = columns;
        match messages.pop() {
            Some(last) if last.role == "assistant" && !messages.is_empty() => {
                let completion = learned(row, column, last)?;
                Self::of_completion(row, columns, Prompt::Messages(messages), completion)
            }
            Some(last) if last.role != "assistant" => {
                let text = format!(
                    "ends with a turn of `{}`, wanted one of the assistant: it is what is learned",
                    last.role
                );
                Err(row.cell_error(column, text))
            }
            Some(_) => Err(row.cell_error(column, "has no turns before the assistant's")),
            None => {
                Err(row.cell_error(column, "is empty, wanted a turn of the user and an answer"))
            }
        }
    }

    /// A chat of which all turns of the assistant are learned that have a weight.
    fn of_all(
        row: &Row,
        column: &str,
        messages: Vec<Message>,
    ) -> Result<Self, joust_schema::Error> {
        let turns = messages.iter().enumerate();
        let turns: Vec<usize> = turns
            .filter(|(_, message)| message.role == "assistant" && !has_no_weight(message))
            .map(|(idx, _)| idx)
            .collect();
        if turns.is_empty() {
            return Err(row.cell_error(column, "has no turn of the assistant to learn"));
        }
        for &idx in &turns {
            let (number, turn) = (idx + 1, &messages[idx]);
            if turn.has_thought_parts {
                let text = format!(
                    "has a thought in parts of `content` (message {number}), which a template does \
                     not see: write it as `reasoning_content`, or leave it out"
                );
                return Err(row.cell_error(column, text));
            }
            let says_nothing = turn.content.is_empty() && turn.tool_calls.is_empty();
            if says_nothing && turn.thought_field().is_none() {
                let text = format!("has no text to learn in message {number}");
                return Err(row.cell_error(column, text));
            }
        }
        let chat = Prompt::Messages(messages);
        let template_kwargs = row.template_kwargs(&chat)?;
        let Prompt::Messages(messages) = chat else {
            unreachable!("the chat was made of messages. This is a bug.")
        };
        let learned = Learned::Turns { messages, turns };
        Ok(Self { place: row.place(), learned, template_kwargs })
    }

    /// Whether the chat template renders the row; with `chat`, it renders texts too.
    pub(super) fn is_chat(&self, chat: bool) -> bool {
        let is_text = matches!(self.learned, Learned::Completion { prompt: Prompt::Text(_), .. });
        chat || !is_text
    }

    /// `columns`: those of the prompt and of the completion.
    fn of_completion(
        row: &Row,
        columns: [&str; 2],
        prompt: Prompt,
        completion: String,
    ) -> Result<Self, joust_schema::Error> {
        let template_kwargs = row.template_kwargs(&prompt)?;
        if let Some(problem) = prompt.emptiness() {
            return Err(row.cell_error(columns[0], problem));
        }
        if completion.is_empty() {
            return Err(row.cell_error(columns[1], "has no text to learn"));
        }
        let learned = Learned::Completion { prompt, completion };
        Ok(Self { place: row.place(), learned, template_kwargs })
    }
}

/// Whether a message says of itself that it is not learned.
fn has_no_weight(message: &Message) -> bool {
    let weight = message.further_field("weight");
    matches!(weight, Some(OrderedJson::Number(weight)) if weight.as_f64() == Some(0.0))
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
    if has_no_weight(&turn) {
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
