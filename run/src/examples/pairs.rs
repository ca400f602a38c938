//! Preference pairs by number.

use joust_engine::Tokenizer;
use joust_schema::seed::Seed;

use super::chat::{ChatSource, Example};
use super::pair_row::PairRow;
use super::shuffled::ShuffledRows;
use crate::config::dpo::PairsSection;
use crate::error::Error;

/// The pairs of a file, shuffled anew in every epoch.
pub(crate) struct PairSource {
    rows: ShuffledRows<PairRow>,
    chat: bool,
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
        let rows = ShuffledRows::read(&section.path, &PairRow::COLUMNS, PairRow::of)?;
        Ok(Self { rows, chat: section.chat })
    }

    /// Number of pairs in the file.
    pub(crate) fn n_pairs(&self) -> u64 {
        self.rows.in_file().len() as u64
    }

    /// Whether pairs are rendered by the chat template.
    pub(crate) fn has_chats(&self) -> bool {
        self.rows.in_file().iter().any(|row| row.is_chat(self.chat))
    }

    /// Pair `idx` of the run.
    ///
    /// # Errors
    /// What the chat template refuses, with the row.
    pub(crate) fn pair(
        &self,
        tokenizer: &Tokenizer,
        seed: Seed,
        idx: u64,
    ) -> Result<PairOfExamples, Error> {
        self.rendered(tokenizer, self.rows.get(seed, idx))
    }

    /// Renders all pairs: what is wrong with one of them is told before the run begins.
    ///
    /// # Errors
    /// As [`PairSource::pair`].
    pub(crate) fn check(&self, tokenizer: &Tokenizer) -> Result<(), Error> {
        self.rows.in_file().iter().try_for_each(|row| self.rendered(tokenizer, row).map(drop))
    }

    fn rendered(&self, tokenizer: &Tokenizer, row: &PairRow) -> Result<PairOfExamples, Error> {
        let source = ChatSource { tokenizer, chat: self.chat, kwargs: &row.template_kwargs };
        let example = |completion: &str| -> Result<Example, Error> {
            let rendered = source.example(&row.prompt, completion.to_owned());
            rendered.map_err(|error| row.place.error(self.rows.path(), error.to_string()).into())
        };
        let (chosen, rejected) = (example(&row.chosen)?, example(&row.rejected)?);
        Ok(PairOfExamples { chosen, rejected })
    }
}
