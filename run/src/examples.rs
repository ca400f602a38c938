//! Sources of supervised examples: a file, or a built-in task.

use std::cell::RefCell;
use std::path::PathBuf;

use joust_data::TaskConfig;
use joust_engine::Tokenizer;
use joust_reward::prompt::after_opened_thought;
use joust_schema::ordered_json::{JsonFields, OrderedJson};
use joust_schema::prompt::{Message, Prompt};
use joust_schema::rows::{self, MESSAGES, Place, Row, TEMPLATE_COLUMNS};
use joust_schema::seed::Seed;

use crate::config::sft::{DataSection, TaskKind};
use crate::error::Error;

/// Examples by number.
pub(crate) enum ExampleSource {
    /// The rows of a file, shuffled anew in every epoch.
    File { path: PathBuf, rows: Vec<FileRow>, chat: bool, order: RefCell<EpochOrder> },
    /// A built-in task with any number of examples.
    Task { kind: TaskKind, config: TaskConfig, chat: bool },
}

/// What is wrong with an answer that would be learned as a thought.
const NO_END_OF_THOUGHT: &str = "the chat template opens a thought (<think>) and the turn that is \
                                 learned does not end one: write the thought and </think> before \
                                 the answer, or take a template that opens none";

/// The order of rows in the epoch of the last request.
#[derive(Default)]
pub(crate) struct EpochOrder {
    epoch: Option<u64>,
    order: Vec<usize>,
}

/// One example.
pub(crate) struct Example {
    /// The prompt as the model reads it.
    pub(crate) prompt: String,
    /// Whether the prompt was rendered by the chat template, with its special tokens.
    pub(crate) is_chat: bool,
    /// The completion, which is learned.
    pub(crate) completion: String,
}

/// One row of a file.
#[derive(Clone)]
pub(crate) struct FileRow {
    place: Place,
    prompt: Prompt,
    completion: String,
    /// Variables of the chat template that the row brings along, such as tools.
    template_kwargs: JsonFields,
}

impl FileRow {
    const COLUMNS: [&str; 5] =
        ["prompt", MESSAGES, "completion", TEMPLATE_COLUMNS[0], TEMPLATE_COLUMNS[1]];

    /// A prompt with its completion; or a chat, of which the last turn is the completion.
    fn of(row: &Row) -> Result<Self, joust_schema::Error> {
        if row.has("completion") {
            let (column, prompt) = row.open_prompt("prompt")?;
            let completion = match row.said("completion")? {
                Prompt::Text(text) => text,
                Prompt::Messages(messages) => match <[Message; 1]>::try_from(messages) {
                    Ok([only]) if only.role == "assistant" => learned(row, "completion", only)?,
                    Ok([only]) => {
                        let text = format!(
                            "is a message of the role `{}`, wanted one of the assistant",
                            only.role
                        );
                        return Err(row.cell_error("completion", text));
                    }
                    Err(messages) => {
                        let n = messages.len();
                        let text = format!("has {n} messages, wanted one of the assistant");
                        return Err(row.cell_error("completion", text));
                    }
                },
            };
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
    fn is_chat(&self, chat: bool) -> bool {
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

/// The text of the turn that is learned. What would not be learned is refused.
fn learned(row: &Row, column: &str, turn: Message) -> Result<String, joust_schema::Error> {
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

impl EpochOrder {
    /// The row at `position` of an epoch.
    fn row(&mut self, seed: Seed, epoch: u64, n_rows: u64, position: u64) -> usize {
        if self.epoch != Some(epoch) {
            self.order = seed.child("epoch", epoch).permutation(n_rows as usize);
            self.epoch = Some(epoch);
        }
        self.order[position as usize]
    }
}

impl ExampleSource {
    pub(crate) fn open(section: &DataSection) -> Result<Self, Error> {
        match (&section.path, section.task) {
            (Some(path), None) => {
                let rows = rows::read_all(path, &FileRow::COLUMNS, FileRow::of)?;
                if rows.is_empty() {
                    let text = format!("{}: no examples in this file", path.display());
                    return Err(Error::input(text));
                }
                let path = path.clone();
                Ok(Self::File { path, rows, chat: section.chat, order: RefCell::default() })
            }
            (None, Some(kind)) => {
                Ok(Self::Task { kind, config: section.arithmetic.clone(), chat: section.chat })
            }
            _ => Err(Error::input("wanted either `data.path` or `data.task`, not both or none")),
        }
    }

    /// Number of examples after which they repeat; `None` if they never do.
    pub(crate) fn n_examples(&self) -> Option<u64> {
        match self {
            Self::File { rows, .. } => Some(rows.len() as u64),
            Self::Task { .. } => None,
        }
    }

    /// Whether examples are rendered by the chat template.
    pub(crate) fn has_chats(&self) -> bool {
        match self {
            Self::File { rows, chat, .. } => rows.iter().any(|row| row.is_chat(*chat)),
            Self::Task { kind, chat, .. } => *chat || matches!(kind, TaskKind::ArithmeticJudge),
        }
    }

    /// Refuses rows that would be learned as a thought, by the first chat's prompt: before the run
    /// begins.
    pub(crate) fn check_thoughts(&self, tokenizer: &Tokenizer) -> Result<(), Error> {
        let Self::File { path, rows, chat, .. } = self else { return Ok(()) };
        let mut chats = rows.iter().filter(|row| row.is_chat(*chat));
        let Some(first) = chats.next() else { return Ok(()) };
        let kwargs = &first.template_kwargs;
        let source = ChatSource { tokenizer, chat: *chat, kwargs };
        // what the template refuses is told with its row, when that is used
        let Ok(Some(prompt)) = source.rendered(&first.prompt) else { return Ok(()) };
        let is_alike = |row: &&FileRow| row.template_kwargs == *kwargs;
        let mut rows = std::iter::once(first).chain(chats.filter(is_alike));
        match rows.find(|row| after_opened_thought(&prompt, &row.completion).is_none()) {
            Some(row) => Err(row.place.error(path, NO_END_OF_THOUGHT).into()),
            None => Ok(()),
        }
    }

    /// Example `idx`.
    pub(crate) fn example(
        &self,
        tokenizer: &Tokenizer,
        seed: Seed,
        idx: u64,
    ) -> Result<Example, Error> {
        let plain = JsonFields::default();
        match self {
            Self::File { path, rows, chat, order } => {
                let n_rows = rows.len() as u64;
                let row = &rows[order.borrow_mut().row(seed, idx / n_rows, n_rows, idx % n_rows)];
                let source = ChatSource { tokenizer, chat: *chat, kwargs: &row.template_kwargs };
                let rendered = source.example(&row.prompt, row.completion.clone());
                rendered.map_err(|error| row.place.error(path, error.to_string()).into())
            }
            Self::Task { kind: TaskKind::ArithmeticPolicy, config, chat } => {
                let example = joust_data::policy_example(config, seed, idx);
                let source = ChatSource { tokenizer, chat: *chat, kwargs: &plain };
                source.example(&Prompt::Text(example.prompt), example.completion)
            }
            Self::Task { kind: TaskKind::ArithmeticJudge, config, .. } => {
                let pair = joust_data::judge_pair(config, seed, idx);
                let messages = joust_reward::prompt::messages(
                    &pair.question,
                    &pair.answer_first,
                    &pair.answer_second,
                );
                let source = ChatSource { tokenizer, chat: true, kwargs: &plain };
                source.example(&Prompt::Messages(messages.to_vec()), pair.thought)
            }
        }
    }
}

/// What renders the chats of examples.
struct ChatSource<'a> {
    tokenizer: &'a Tokenizer,
    /// Whether a text is rendered as a turn of the user.
    chat: bool,
    /// Further variables of the template.
    kwargs: &'a JsonFields,
}

impl ChatSource<'_> {
    /// The prompt as a template renders it, if one does.
    fn rendered(&self, prompt: &Prompt) -> Result<Option<String>, Error> {
        let of_text;
        let messages = match prompt {
            Prompt::Messages(messages) => &messages[..],
            Prompt::Text(text) if self.chat => {
                of_text = [Message::new("user", text)];
                &of_text[..]
            }
            Prompt::Text(_) => return Ok(None),
        };
        let tokenizer = self.tokenizer.with_more_template_kwargs(self.kwargs);
        Ok(Some(tokenizer.render_chat(messages, true)?))
    }

    fn example(&self, prompt: &Prompt, completion: String) -> Result<Example, Error> {
        let Some(rendered) = self.rendered(prompt)? else {
            return Ok(Example { prompt: prompt.question(), is_chat: false, completion });
        };
        let completion = after_opened_thought(&rendered, &completion)
            .ok_or_else(|| Error::input(NO_END_OF_THOUGHT))?
            .to_owned();
        Ok(Example { prompt: rendered, is_chat: true, completion })
    }
}

#[cfg(test)]
mod tests;
