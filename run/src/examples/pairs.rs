//! Preference pairs by number.

use std::path::Path;

use joust_engine::Tokenizer;
use joust_schema::seed::Seed;

use super::chat::{ChatSource, Example};
use super::pair_row::PairRow;
use super::shuffled::ShuffledRows;
use crate::config::dpo::PairsSection;
use crate::config::tuning::TuningEvalSection;
use crate::error::Error;

/// The pairs of a file, as people wrote them.
pub(crate) struct PairSource {
    rows: ShuffledRows<PairRow>,
    chat: bool,
}

/// The pairs of a file as the text that a model reads, shuffled anew in every epoch.
pub(crate) struct PairTexts {
    rows: ShuffledRows<PairOfExamples>,
    has_chats: bool,
}

/// The two examples of a pair, whose prompt is the same.
pub(crate) struct PairOfExamples {
    pub(crate) chosen: Example,
    pub(crate) rejected: Example,
}

impl PairSource {
    /// # Errors
    /// As [`ShuffledRows::read`].
    pub(crate) fn open(section: &PairsSection) -> Result<Self, Error> {
        Ok(Self { rows: read(&section.path)?, chat: section.chat })
    }

    /// Number of pairs in the file.
    pub(crate) fn n_pairs(&self) -> u64 {
        self.rows.in_file().len() as u64
    }

    /// Renders all pairs: what is wrong with one of them is told before the run begins.
    ///
    /// # Errors
    /// What the chat template refuses, with the row.
    pub(crate) fn rendered(self, tokenizer: &Tokenizer) -> Result<PairTexts, Error> {
        let Self { rows, chat } = self;
        let has_chats = rows.in_file().iter().any(|row| row.is_chat(chat));
        let path = rows.path().to_owned();
        let rows = rows.try_map(|row| rendered(tokenizer, chat, &path, &row))?;
        Ok(PairTexts { rows, has_chats })
    }
}

impl PairTexts {
    /// Whether pairs are rendered by the chat template.
    pub(crate) fn has_chats(&self) -> bool {
        self.has_chats
    }

    /// Pair `idx` of the run.
    pub(crate) fn pair(&self, seed: Seed, idx: u64) -> &PairOfExamples {
        self.rows.get(seed, idx)
    }
}

/// The held-out pairs of a config, rendered with the settings of `data`; none without a file.
///
/// # Errors
/// What cannot be read or rendered, with its row.
pub(crate) fn held_out_pairs(
    eval: &TuningEvalSection,
    data: &PairsSection,
    tokenizer: &Tokenizer,
) -> Result<Vec<PairOfExamples>, Error> {
    let Some(path) = &eval.path else { return Ok(Vec::new()) };
    let rows = read(path)?;
    let rows = rows.in_file().iter().take(eval.n_examples());
    rows.map(|row| rendered(tokenizer, data.chat, path, row)).collect()
}

fn read(path: &Path) -> Result<ShuffledRows<PairRow>, Error> {
    ShuffledRows::read(path, &PairRow::COLUMNS, PairRow::of)
}

fn rendered(
    tokenizer: &Tokenizer,
    chat: bool,
    path: &Path,
    row: &PairRow,
) -> Result<PairOfExamples, Error> {
    let source = ChatSource { tokenizer, chat, kwargs: &row.template_kwargs };
    let example = |completion: &str| -> Result<Example, Error> {
        let rendered = source.example(&row.prompt, completion.to_owned());
        rendered.map_err(|error| row.place.error(path, error.to_string()).into())
    };
    let (chosen, rejected) = (example(&row.chosen)?, example(&row.rejected)?);
    Ok(PairOfExamples { chosen, rejected })
}
