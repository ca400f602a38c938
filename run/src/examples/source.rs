//! Sources of supervised examples: a file, or a built-in task.

use joust_data::TaskConfig;
use joust_engine::Tokenizer;
use joust_schema::ordered_json::JsonFields;
use joust_schema::prompt::{Message, Prompt};
use joust_schema::seed::Seed;
use joust_trainer::SftExample;

use super::chat::{ChatSource, LearnedText, drops_thought};
use super::data_file::{DataFile, RowReader};
use super::encoder::Encoder;
use super::row::{FileRow, Learned};
use super::shuffled::ShuffledRows;
use crate::config::sft::{DataSection, TaskKind};
use crate::config::tuning::TuningEvalSection;
use crate::error::Error;

/// Examples by number, as people wrote them.
pub(crate) enum ExampleSource {
    /// The rows of a file, shuffled anew in every epoch.
    File(ExampleFile),
    /// A built-in task with any number of examples.
    Task(TaskSource),
}

/// The examples of a file, as people wrote them.
pub(crate) struct ExampleFile {
    file: DataFile,
    rows: ShuffledRows<FileRow>,
    chat: bool,
}

/// Examples by number, as the text that a model reads.
pub(crate) enum ExampleTexts {
    /// The rows of a file, shuffled anew in every epoch.
    File { rows: ShuffledRows<LearnedText>, has_chats: bool },
    /// A built-in task, whose examples are drawn when they are needed.
    Task(TaskSource),
}

/// A built-in task.
pub(crate) struct TaskSource {
    pub(crate) kind: TaskKind,
    pub(crate) config: TaskConfig,
    pub(crate) chat: bool,
}

impl ExampleSource {
    pub(crate) fn open(section: &DataSection) -> Result<Self, Error> {
        let chat = section.chat;
        match (&section.path, section.task) {
            (Some(path), None) => {
                let file = DataFile::new("data.path", path);
                Ok(Self::File(ExampleFile::read(file, usize::MAX, section)?))
            }
            (None, Some(kind)) => {
                Ok(Self::Task(TaskSource { kind, config: section.arithmetic.clone(), chat }))
            }
            _ => Err(Error::input("wanted either `data.path` or `data.task`, not both or none")),
        }
    }

    /// Number of examples after which they repeat; `None` if they never do.
    pub(crate) fn n_examples(&self) -> Option<u64> {
        match self {
            Self::File(file) => Some(file.rows.in_file().len() as u64),
            Self::Task(_) => None,
        }
    }

    /// Example `idx` as one text.
    ///
    /// # Errors
    /// As [`ExampleSource::rendered`].
    pub(crate) fn text(
        &self,
        tokenizer: &Tokenizer,
        seed: Seed,
        idx: u64,
    ) -> Result<String, Error> {
        let text = match self {
            Self::File(file) => {
                Renderer::new(tokenizer, file.chat, &file.file).text(file.rows.get(seed, idx))
            }
            Self::Task(task) => task.text(tokenizer, seed, idx),
        };
        text.map(LearnedText::whole)
    }

    /// Renders all rows of a file: what is wrong with one of them is told before the run begins.
    ///
    /// # Errors
    /// What the chat template refuses, with the row.
    pub(crate) fn rendered(self, tokenizer: &Tokenizer) -> Result<ExampleTexts, Error> {
        match self {
            Self::File(file) => {
                let has_chats = file.rows.in_file().iter().any(|row| row.is_chat(file.chat));
                Ok(ExampleTexts::File { rows: file.rendered(tokenizer)?, has_chats })
            }
            Self::Task(task) => Ok(ExampleTexts::Task(task)),
        }
    }
}

impl ExampleFile {
    /// The held-out examples of a config, to be rendered with the settings of `data`; none without
    /// a file.
    ///
    /// # Errors
    /// As [`DataFile::rows`].
    pub(crate) fn held_out(
        eval: &TuningEvalSection,
        data: &DataSection,
    ) -> Result<Option<Self>, Error> {
        let file = eval.path.as_ref().map(|path| DataFile::new("eval.path", path));
        file.map(|file| Self::read(file, eval.n_examples(), data)).transpose()
    }

    fn read(file: DataFile, n_rows: usize, section: &DataSection) -> Result<Self, Error> {
        let reader = RowReader {
            columns: &FileRow::COLUMNS,
            row: &|row| FileRow::of(row, section.trained_turns),
            unknown: FileRow::unknown,
        };
        let rows = ShuffledRows::new(file.rows(n_rows, &reader)?);
        Ok(Self { file, rows, chat: section.chat })
    }

    /// Renders all rows.
    ///
    /// # Errors
    /// What the chat template refuses, with the row.
    fn rendered(self, tokenizer: &Tokenizer) -> Result<ShuffledRows<LearnedText>, Error> {
        let Self { file, rows, chat } = self;
        let mut renderer = Renderer::new(tokenizer, chat, &file);
        let rows = rows.try_map(|row| renderer.counted(&row))?;
        renderer.warn();
        Ok(rows)
    }

    /// Renders all rows, in the order of the file.
    ///
    /// # Errors
    /// What the chat template refuses, with the row.
    pub(crate) fn texts(self, tokenizer: &Tokenizer) -> Result<Vec<LearnedText>, Error> {
        self.rendered(tokenizer).map(ShuffledRows::into_rows)
    }
}

impl ExampleTexts {
    /// Whether examples are rendered by the chat template.
    pub(crate) fn has_chats(&self) -> bool {
        match self {
            Self::File { has_chats, .. } => *has_chats,
            Self::Task(task) => task.chat || matches!(task.kind, TaskKind::ArithmeticJudge),
        }
    }

    /// Example `idx` of the run.
    ///
    /// # Errors
    /// [`Error::Engine`] for texts that the tokenizer cannot encode.
    pub(crate) fn example(
        &self,
        encoder: &Encoder,
        seed: Seed,
        idx: u64,
    ) -> Result<SftExample, Error> {
        match self {
            Self::File { rows, .. } => encoder.example(rows.get(seed, idx)),
            Self::Task(task) => encoder.example(&task.text(encoder.tokenizer(), seed, idx)?),
        }
    }
}

impl TaskSource {
    /// Example `idx`.
    pub(crate) fn text(
        &self,
        tokenizer: &Tokenizer,
        seed: Seed,
        idx: u64,
    ) -> Result<LearnedText, Error> {
        let kwargs = &JsonFields::default();
        let example = match self.kind {
            TaskKind::ArithmeticPolicy => {
                let example = joust_data::policy_example(&self.config, seed, idx);
                let source = ChatSource { tokenizer, chat: self.chat, kwargs };
                source.example(&Prompt::Text(example.prompt), example.completion)
            }
            TaskKind::ArithmeticJudge => {
                let pair = joust_data::judge_pair(&self.config, seed, idx);
                let messages = joust_reward::prompt::messages(
                    &pair.question,
                    &pair.answer_first,
                    &pair.answer_second,
                );
                let source = ChatSource { tokenizer, chat: true, kwargs };
                source.example(&Prompt::Messages(messages.to_vec()), pair.thought)
            }
        };
        example.map(LearnedText::Completion)
    }
}

/// Renders the rows of a file.
struct Renderer<'a> {
    tokenizer: &'a Tokenizer,
    chat: bool,
    file: &'a DataFile,
    /// Text of the token that ends a turn in the template, if it has one.
    end: Option<String>,
    /// Number of turns that are learned without their thoughts.
    n_without_thought: usize,
}

impl<'a> Renderer<'a> {
    fn new(tokenizer: &'a Tokenizer, chat: bool, file: &'a DataFile) -> Self {
        let frame = tokenizer.turn_frame();
        let end = frame.map(|frame| tokenizer.decode(&[frame.end_id], false));
        Self { tokenizer, chat, file, end, n_without_thought: 0 }
    }

    fn text(&self, row: &FileRow) -> Result<LearnedText, Error> {
        let FileRow { place, learned, template_kwargs: kwargs } = row;
        let source = ChatSource { tokenizer: self.tokenizer, chat: self.chat, kwargs };
        let text = match learned {
            Learned::Completion { prompt, completion } => {
                source.example(prompt, completion.clone()).map(LearnedText::Completion)
            }
            Learned::Turns { messages, turns } => {
                source.turns(messages, turns, self.end.as_deref()).map(LearnedText::Turns)
            }
        };
        text.map_err(|error| self.file.row_error(*place, &error))
    }

    /// The text of a row; turns that are learned without their thoughts are counted.
    fn counted(&mut self, row: &FileRow) -> Result<LearnedText, Error> {
        let text = self.text(row)?;
        if let (LearnedText::Turns(rendered), Learned::Turns { messages, turns }) =
            (&text, &row.learned)
        {
            let is_dropped = |turn: &Message| drops_thought(turn, &rendered.text);
            self.n_without_thought +=
                turns.iter().filter(|&&idx| is_dropped(&messages[idx])).count();
        }
        Ok(text)
    }

    fn warn(&self) {
        let n_turns = self.n_without_thought;
        if n_turns > 0 {
            tracing::warn!(
                n_turns,
                "The chat template drops thoughts of earlier turns: these turns are learned \
                 without a thought."
            );
        }
    }
}
