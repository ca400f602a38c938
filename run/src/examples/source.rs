//! Sources of supervised examples: a file, or a built-in task.

use joust_data::TaskConfig;
use joust_engine::Tokenizer;
use joust_reward::prompt::after_opened_thought;
use joust_schema::ordered_json::JsonFields;
use joust_schema::prompt::Prompt;
use joust_schema::seed::Seed;

use super::chat::{ChatSource, Example, NO_END_OF_THOUGHT};
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

    /// Refuses rows that would be learned as a thought, by the first chat's prompt: before the run
    /// begins.
    pub(crate) fn check_thoughts(&self, tokenizer: &Tokenizer) -> Result<(), Error> {
        let Self::File { rows, chat } = self else { return Ok(()) };
        let mut chats = rows.in_file().iter().filter(|row| row.is_chat(*chat));
        let Some(first) = chats.next() else { return Ok(()) };
        let kwargs = &first.template_kwargs;
        let source = ChatSource { tokenizer, chat: *chat, kwargs };
        // what the template refuses is told with its row, when that is used
        let Ok(Some(prompt)) = source.rendered(&first.prompt) else { return Ok(()) };
        let is_alike = |row: &&FileRow| row.template_kwargs == *kwargs;
        let mut alike = std::iter::once(first).chain(chats.filter(is_alike));
        match alike.find(|row| after_opened_thought(&prompt, &row.completion).is_none()) {
            Some(row) => Err(row.place.error(rows.path(), NO_END_OF_THOUGHT).into()),
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
            Self::File { rows, chat } => {
                let row = rows.get(seed, idx);
                let source = ChatSource { tokenizer, chat: *chat, kwargs: &row.template_kwargs };
                let rendered = source.example(&row.prompt, row.completion.clone());
                rendered.map_err(|error| row.place.error(rows.path(), error.to_string()).into())
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
