//! Sources of supervised examples: a file, or a built-in task.

use joust_data::TaskConfig;
use joust_engine::Tokenizer;
use joust_schema::ordered_json::JsonFields;
use joust_schema::prompt::Prompt;
use joust_schema::seed::Seed;

use super::chat::{ChatSource, Example};
use super::row::FileRow;
use super::shuffled::ShuffledRows;
use crate::config::sft::{DataSection, TaskKind};
use crate::error::Error;

/// Examples by number.
pub(crate) enum ExampleSource {
    /// The rows of a file, shuffled anew in every epoch.
    File { rows: ShuffledRows<FileRow>, chat: bool },
    /// A built-in task with any number of examples.
    Task { kind: TaskKind, config: TaskConfig, chat: bool },
}

impl ExampleSource {
    pub(crate) fn open(section: &DataSection) -> Result<Self, Error> {
        match (&section.path, section.task) {
            (Some(path), None) => {
                let rows = ShuffledRows::read(path, &FileRow::COLUMNS, FileRow::of)?;
                Ok(Self::File { rows, chat: section.chat })
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
            Self::File { rows, .. } => Some(rows.in_file().len() as u64),
            Self::Task { .. } => None,
        }
    }

    /// Whether examples are rendered by the chat template.
    pub(crate) fn has_chats(&self) -> bool {
        match self {
            Self::File { rows, chat } => rows.in_file().iter().any(|row| row.is_chat(*chat)),
            Self::Task { kind, chat, .. } => *chat || matches!(kind, TaskKind::ArithmeticJudge),
        }
    }

    /// Renders all rows of a file: what is wrong with one of them is told before the run begins.
    ///
    /// # Errors
    /// As [`ExampleSource::example`].
    pub(crate) fn check(&self, tokenizer: &Tokenizer) -> Result<(), Error> {
        let Self::File { rows, chat } = self else { return Ok(()) };
        let mut all = rows.in_file().iter();
        all.try_for_each(|row| rendered(rows, row, tokenizer, *chat).map(drop))
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
            Self::File { rows, chat } => rendered(rows, rows.get(seed, idx), tokenizer, *chat),
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

/// The example of a row.
fn rendered(
    rows: &ShuffledRows<FileRow>,
    row: &FileRow,
    tokenizer: &Tokenizer,
    chat: bool,
) -> Result<Example, Error> {
    let source = ChatSource { tokenizer, chat, kwargs: &row.template_kwargs };
    let example = source.example(&row.prompt, row.completion.clone());
    example.map_err(|error| row.place.error(rows.path(), error.to_string()).into())
}
