//! Sources of supervised examples: a file, or a built-in task.

use std::cell::RefCell;

use joust_data::TaskConfig;
use joust_engine::Tokenizer;
use joust_schema::prompt::{Message, Prompt};
use joust_schema::seed::Seed;
use serde::Deserialize;

use crate::config::sft::{DataSection, TaskKind};
use crate::error::Error;

/// Examples by number.
pub(crate) enum ExampleSource {
    /// The rows of a file, shuffled anew in every epoch.
    File { rows: Vec<FileRow>, chat: bool, order: RefCell<EpochOrder> },
    /// A built-in task with any number of examples.
    Task { kind: TaskKind, config: TaskConfig, chat: bool },
}

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

/// One line of a file.
#[derive(Clone, Deserialize)]
pub(crate) struct FileRow {
    #[serde(alias = "messages")]
    prompt: Prompt,
    completion: String,
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
                let rows: Vec<FileRow> = joust_schema::jsonl::read(path)?;
                if rows.is_empty() {
                    let text = format!("{}: no examples in this file", path.display());
                    return Err(Error::input(text));
                }
                Ok(Self::File { rows, chat: section.chat, order: RefCell::default() })
            }
            (None, Some(kind)) => {
                Ok(Self::Task { kind, config: section.arithmetic.clone(), chat: section.chat })
            }
            _ => Err(Error::input("wanted either `data.path` or `data.task`, not both or none")),
        }
    }

    /// Example `idx`.
    pub(crate) fn example(
        &self,
        tokenizer: &Tokenizer,
        seed: Seed,
        idx: u64,
    ) -> Result<Example, Error> {
        let chat_example = |messages: &[Message], completion: String| -> Result<Example, Error> {
            let prompt = tokenizer.render_chat(messages, true)?;
            Ok(Example { prompt, is_chat: true, completion })
        };
        let render = |prompt: Prompt, chat: bool, completion: String| match prompt {
            Prompt::Messages(messages) => chat_example(&messages, completion),
            Prompt::Text(text) if chat => chat_example(&[Message::new("user", text)], completion),
            Prompt::Text(prompt) => Ok(Example { prompt, is_chat: false, completion }),
        };
        match self {
            Self::File { rows, chat, order } => {
                let n_rows = rows.len() as u64;
                let row = &rows[order.borrow_mut().row(seed, idx / n_rows, n_rows, idx % n_rows)];
                render(row.prompt.clone(), *chat, row.completion.clone())
            }
            Self::Task { kind: TaskKind::ArithmeticPolicy, config, chat } => {
                let example = joust_data::policy_example(config, seed, idx);
                render(Prompt::Text(example.prompt), *chat, example.completion)
            }
            Self::Task { kind: TaskKind::ArithmeticJudge, config, .. } => {
                let pair = joust_data::judge_pair(config, seed, idx);
                let messages = joust_reward::prompt::messages(
                    &pair.question,
                    &pair.answer_first,
                    &pair.answer_second,
                );
                chat_example(&messages, pair.thought)
            }
        }
    }
}
