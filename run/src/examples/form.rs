//! Rows in the forms of other programs: ShareGPT's conversations, Alpaca's instructions, and turns
//! that are one message and no list. They are read as chats.
//!
//! It does not know what is learned of a chat.

use joust_schema::Error as RowError;
use joust_schema::ordered_json::{JsonFields, OrderedJson};
use joust_schema::prompt::{Message, Prompt};
use joust_schema::rows::{MESSAGES, Row};
use serde_json::Value;
use serde_json::value::RawValue;

/// The column of a chat in ShareGPT's form.
const CONVERSATIONS: &str = "conversations";

/// The columns of Alpaca: the task, what it is applied to, and the answer.
const INSTRUCTION: &str = "instruction";
const INPUT: &str = "input";
const OUTPUT: &str = "output";

/// Columns beside both forms (LLaMA-Factory): the message of the system, and earlier turns.
const SYSTEM: &str = "system";
const HISTORY: &str = "history";

/// Speakers of ShareGPT, and the roles that they have in a chat.
const SPEAKERS: [(&str, &str); 9] = [
    ("human", "user"),
    ("user", "user"),
    ("gpt", "assistant"),
    ("chatgpt", "assistant"),
    ("assistant", "assistant"),
    ("model", "assistant"),
    ("system", "system"),
    ("tool", "tool"),
    ("observation", "tool"),
];

/// The columns of a file that are read: `own`, and those of the other forms. A table is read for
/// the forms alone that its columns, `names`, are of; rows of other files may each have a form of
/// their own.
pub(super) fn columns<'a>(names: Option<&[String]>, own: &[&'a str]) -> Vec<&'a str> {
    let may_have = |column: &str| names.is_none_or(|names| names.iter().any(|name| name == column));
    let mut columns = own.to_vec();
    if may_have(CONVERSATIONS) {
        columns.extend([CONVERSATIONS, SYSTEM]);
    }
    if may_have(INSTRUCTION) {
        columns.extend([INSTRUCTION, INPUT, OUTPUT, SYSTEM, HISTORY]);
    }
    columns
}

/// Says that a file without `column` has none of the forms that are read, and what to do.
pub(super) fn unknown(names: &[String], column: &str, wanted: &str) -> String {
    let seen = names.join(", ");
    format!("column `{column}` is missing (there are: {seen}); {}", advice(names, wanted))
}

/// The error of a row without `column` that has none of the forms that are read.
pub(super) fn unknown_row(row: &Row, column: &str, wanted: &str) -> RowError {
    let (reason, advice) = (row.missing_reason(column), advice(row.names(), wanted));
    row.error(format!("{reason}; {advice}"))
}

fn advice(names: &[String], wanted: &str) -> String {
    let has = |column: &str| names.iter().any(|name| name == column);
    let mend = match (has("prompt"), has("text")) {
        (false, true) => "split `text` into the part that is given and the part that is learned",
        _ => "give the columns these names",
    };
    format!("wanted {wanted}; {mend}")
}

/// Whether a row has a prompt beside its answers.
pub(super) fn has_prompt(row: &Row) -> bool {
    prompt_column(row).is_some()
}

fn prompt_column(row: &Row) -> Option<&'static str> {
    ["prompt", MESSAGES, CONVERSATIONS, INSTRUCTION].into_iter().find(|column| row.has(column))
}

/// The prompt of a row whose answers have columns of their own, with its column.
///
/// # Errors
/// As [`Row::prompt`]; speakers that are unknown.
pub(super) fn prompt(row: &Row) -> Result<(&'static str, Prompt), RowError> {
    match prompt_column(row) {
        Some(INSTRUCTION) => Ok((INSTRUCTION, Prompt::Messages(instruction(row)?))),
        Some(CONVERSATIONS) => Ok((CONVERSATIONS, Prompt::Messages(conversation(row)?))),
        Some(column) => text_or_chat(row, column).map(|prompt| (column, prompt)),
        None => row.prompt("prompt"),
    }
}

/// As [`prompt`]; a chat that has its answer already is refused.
///
/// # Errors
/// As [`prompt`] and [`Row::check_open`].
pub(super) fn open_prompt(row: &Row) -> Result<(&'static str, Prompt), RowError> {
    let (column, prompt) = prompt(row)?;
    row.check_open(column, &prompt)?;
    Ok((column, prompt))
}

/// The whole chat of a row without a column of its answer, with the columns of its beginning and of
/// its last turn. `wanted`: the forms that are read, for the error of a row that has none.
///
/// # Errors
/// What is wrong with the chat; speakers that are unknown; a row without a chat.
pub(super) fn chat(row: &Row, wanted: &str) -> Result<([&'static str; 2], Vec<Message>), RowError> {
    if row.has(MESSAGES) {
        return match text_or_chat(row, MESSAGES)? {
            Prompt::Messages(messages) => Ok(([MESSAGES; 2], messages)),
            Prompt::Text(_) => {
                Err(row.cell_error(MESSAGES, "is a text, wanted a list of chat messages"))
            }
        };
    }
    if row.has(CONVERSATIONS) {
        return Ok(([CONVERSATIONS; 2], conversation(row)?));
    }
    if !row.has(INSTRUCTION) {
        return Err(unknown_row(row, "completion", wanted));
    }
    if row.get(OUTPUT).is_none() {
        let text = format!(
            "{}, and a row with `{INSTRUCTION}` needs it or `completion`: it is what is learned",
            row.missing_reason(OUTPUT)
        );
        return Err(row.error(text));
    }
    let mut messages = instruction(row)?;
    messages.push(Message::new("assistant", text(row, OUTPUT)?));
    Ok(([INSTRUCTION, OUTPUT], messages))
}

/// An answer in a cell: a text, messages, or one message.
///
/// # Errors
/// A cell that is none of these; what is wrong with the messages.
pub(super) fn answer(row: &Row, column: &str) -> Result<Prompt, RowError> {
    if let Some(json) = row.get(column).map(RawValue::get)
        && let Some(messages) = messages(row, column, json)?
    {
        return Ok(Prompt::Messages(messages));
    }
    match row.kind(column) {
        None | Some("a text" | "a list" | "null") => row.said(column),
        Some(kind) => {
            let text = format!("is {kind}, wanted a text or one message of the assistant");
            Err(row.cell_error(column, text))
        }
    }
}

/// A text or a chat in a cell; a chat may be JSON text, as tables keep chats.
///
/// # Errors
/// As [`Row::prompt`]; speakers that are unknown.
pub(super) fn text_or_chat(row: &Row, column: &str) -> Result<Prompt, RowError> {
    let json = row.get(column).map_or("null", RawValue::get);
    if json.starts_with('[')
        && let Some(messages) = messages(row, column, json)?
    {
        return Ok(Prompt::Messages(messages));
    }
    row.prompt(column).map(|(_, prompt)| prompt)
}

/// The chat in `conversations`, perhaps as JSON text, with the message in `system`.
fn conversation(row: &Row) -> Result<Vec<Message>, RowError> {
    let json = match row.kind(CONVERSATIONS) {
        Some("a text") => row.required(CONVERSATIONS)?,
        _ => row.get(CONVERSATIONS).map_or("null", RawValue::get).to_owned(),
    };
    if !json.trim_start().starts_with('[') {
        let text = "wanted a list of turns with `from` and `value`";
        let kind = row.kind(CONVERSATIONS).unwrap_or("missing");
        return Err(row.cell_error(CONVERSATIONS, format!("is {kind}, {text}")));
    }
    let turns = match messages(row, CONVERSATIONS, json.trim_start())? {
        Some(turns) => turns,
        None => row.messages(CONVERSATIONS, &json)?,
    };
    let mut chat = Vec::new();
    if turns.first().is_none_or(|first| first.role != "system") {
        chat.extend(system(row)?);
    }
    chat.extend(turns);
    Ok(chat)
}

/// Alpaca's task as a chat: the message in `system`, the turns in `history`, and `instruction` with
/// `input` on the next line as the turn of the user.
fn instruction(row: &Row) -> Result<Vec<Message>, RowError> {
    let mut chat: Vec<Message> = system(row)?.into_iter().collect();
    for [asked, answered] in history(row)? {
        chat.extend([Message::new("user", asked), Message::new("assistant", answered)]);
    }
    let (mut task, input) = (text(row, INSTRUCTION)?, optional_text(row, INPUT)?);
    if let Some(input) = input.filter(|input| !input.trim().is_empty()) {
        task = format!("{task}\n{input}");
    }
    chat.push(Message::new("user", task));
    Ok(chat)
}

/// Alpaca's earlier turns: pairs of what was asked and what was answered.
fn history(row: &Row) -> Result<Vec<[String; 2]>, RowError> {
    let Some(json) = row.get(HISTORY).map(RawValue::get) else { return Ok(Vec::new()) };
    let wrong = |what: &str| {
        let text = format!("{what}, wanted a list of pairs of texts, [[asked, answered], ...]");
        row.cell_error(HISTORY, text)
    };
    let Ok(turns) = serde_json::from_str::<Vec<Value>>(json) else {
        let kind = row.kind(HISTORY).unwrap_or("missing");
        return Err(wrong(&format!("is {kind}")));
    };
    let turns = turns.into_iter().enumerate();
    let pair = |(idx, turn): (usize, Value)| {
        serde_json::from_value(turn).map_err(|_| wrong(&format!("has no such pair at {}", idx + 1)))
    };
    turns.map(pair).collect()
}

fn system(row: &Row) -> Result<Option<Message>, RowError> {
    let text = optional_text(row, SYSTEM)?;
    let text = text.filter(|text| !text.trim().is_empty());
    Ok(text.map(|text| Message::new("system", text)))
}

fn text(row: &Row, column: &str) -> Result<String, RowError> {
    optional_text(row, column)?.ok_or_else(|| row.missing(column))
}

fn optional_text(row: &Row, column: &str) -> Result<Option<String>, RowError> {
    match row.kind(column) {
        None | Some("a text" | "null") => row.optional(column),
        Some(kind) => Err(row.cell_error(column, format!("is {kind}, wanted a text"))),
    }
}

/// The messages of a cell that is one message, or whose turns have speakers as ShareGPT's. `None`
/// for all other cells.
fn messages(row: &Row, column: &str, json: &str) -> Result<Option<Vec<Message>>, RowError> {
    let is_one = json.starts_with('{');
    let list = match is_one {
        true => format!("[{json}]"),
        false if json.starts_with('[') => json.to_owned(),
        false => return Ok(None),
    };
    // what is wrong with other lists is told by their reader
    let Ok(turns) = serde_json::from_str::<Vec<JsonFields>>(&list) else { return Ok(None) };
    if !turns.iter().any(|turn| turn.0.iter().any(|(name, _)| name == "from")) {
        return if is_one { row.messages(column, &list).map(Some) } else { Ok(None) };
    }
    let turns = turns.into_iter().enumerate().map(|(idx, turn)| {
        with_role(turn)
            .map_err(|problem| row.cell_error(column, format!("turn {} {problem}", idx + 1)))
    });
    let turns = turns.collect::<Result<Vec<JsonFields>, RowError>>()?;
    let json =
        serde_json::to_string(&turns).map_err(|error| row.cell_error(column, error.to_string()))?;
    row.messages(column, &json).map(Some)
}

/// A turn with `role` and `content` in place of `from` and `value`.
///
/// # Errors
/// What is wrong with the turn: a speaker that is unknown, a text that is missing.
fn with_role(turn: JsonFields) -> Result<JsonFields, String> {
    let mut fields = Vec::new();
    let is_text = |name: &str| ["value", "content"].contains(&name);
    if !turn.0.iter().any(|(name, value)| is_text(name) && *value != OrderedJson::Null) {
        return Err("has no `value`, wanted the text of the turn".to_owned());
    }
    for (name, value) in turn.0 {
        match &name[..] {
            "from" => {
                let role = SPEAKERS.iter().find(|(speaker, _)| value.as_str() == Some(speaker));
                let (_, role) = role.ok_or_else(|| {
                    let known = SPEAKERS.map(|(speaker, _)| speaker).join(", ");
                    format!("has the speaker {value}, wanted {known}")
                })?;
                fields.push(("role".to_owned(), OrderedJson::Text((*role).to_owned())));
            }
            "value" => fields.push(("content".to_owned(), value)),
            // tables have the fields of all turns in each of them
            _ if value == OrderedJson::Null => {}
            _ => fields.push((name, value)),
        }
    }
    Ok(JsonFields(fields))
}
