//! Where supervised examples come from: a file, or a built-in task.

use joust_data::TaskConfig;
use joust_engine::Tokenizer;
use joust_schema::prompt::{Message, Prompt};
use joust_schema::seed::Seed;
use serde::Deserialize;

use crate::config::sft::{DataSection, TaskKind};
use crate::failure::UserError;

/// Examples by number.
pub(crate) enum ExampleSource {
    /// The rows of a file, reshuffled each time they have all been seen.
    File { rows: Vec<FileRow>, chat: bool },
    /// A built-in task without end.
    Task { kind: TaskKind, config: TaskConfig, chat: bool },
}

/// One line of a file.
#[derive(Clone, Deserialize)]
pub(crate) struct FileRow {
    #[serde(alias = "messages")]
    prompt: Prompt,
    completion: String,
}

impl ExampleSource {
    pub(crate) fn open(section: &DataSection) -> anyhow::Result<Self> {
        match (&section.path, section.task) {
            (Some(path), None) => {
                let rows: Vec<FileRow> = joust_schema::jsonl::read(path)?;
                if rows.is_empty() {
                    let text = format!("{}: no examples in this file", path.display());
                    return Err(UserError::new(text).into());
                }
                Ok(Self::File { rows, chat: section.chat })
            }
            (None, Some(kind)) => {
                Ok(Self::Task { kind, config: section.arithmetic.clone(), chat: section.chat })
            }
            _ => {
                Err(UserError::new("wanted either `data.path` or `data.task`, not both or none")
                    .into())
            }
        }
    }

    /// Example `idx`: the prompt as the model reads it, and the completion.
    pub(crate) fn example(
        &self,
        tokenizer: &Tokenizer,
        seed: Seed,
        idx: u64,
    ) -> anyhow::Result<(String, String)> {
        let render = |prompt: &Prompt, chat: bool| -> anyhow::Result<String> {
            Ok(match prompt {
                Prompt::Messages(messages) => tokenizer.render_chat(messages, true)?,
                Prompt::Text(text) if chat => {
                    tokenizer.render_chat(&[Message::new("user", text)], true)?
                }
                Prompt::Text(text) => text.clone(),
            })
        };
        match self {
            Self::File { rows, chat } => {
                let n_rows = rows.len() as u64;
                let order = seed.child("epoch", idx / n_rows).permutation(rows.len());
                let row = &rows[order[(idx % n_rows) as usize]];
                Ok((render(&row.prompt, *chat)?, row.completion.clone()))
            }
            Self::Task { kind: TaskKind::ArithmeticPolicy, config, chat } => {
                let example = joust_data::policy_example(config, seed, idx);
                Ok((render(&Prompt::Text(example.prompt), *chat)?, example.completion))
            }
            Self::Task { kind: TaskKind::ArithmeticJudge, config, .. } => {
                let pair = joust_data::judge_pair(config, seed, idx);
                let messages = joust_reward::prompt::messages(
                    &pair.question,
                    &pair.answer_first,
                    &pair.answer_second,
                );
                Ok((tokenizer.render_chat(&messages, true)?, pair.thought))
            }
        }
    }
}
