//! Preference pairs by number.

use joust_engine::Tokenizer;
use joust_schema::seed::Seed;

use super::chat::{ChatSource, Example};
use super::data_file::{DataFile, RowReader};
use super::pair_row::PairRow;
use super::shuffled::ShuffledRows;
use crate::config::dpo::PairsSection;
use crate::config::tuning::TuningEvalSection;
use crate::error::Error;

/// The pairs of a file and held-out ones, as people wrote them.
pub(crate) struct PairSource {
    pairs: PairRows,
    /// Pairs that are measured and not learned from, if there are any.
    held_out: Option<PairRows>,
}

/// The pairs of one file.
struct PairRows {
    file: DataFile,
    rows: Vec<PairRow>,
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
    /// As [`DataFile::rows`].
    pub(crate) fn open(section: &PairsSection, eval: &TuningEvalSection) -> Result<Self, Error> {
        let read = |file: DataFile, n_rows| {
            let reader = RowReader {
                columns: &PairRow::COLUMNS,
                row: &PairRow::of,
                unknown: PairRow::unknown,
            };
            let rows = file.rows(n_rows, &reader)?;
            Ok::<_, Error>(PairRows { file, rows, chat: section.chat })
        };
        let pairs = read(DataFile::new("data.path", &section.path), usize::MAX)?;
        let held_out = eval.path.as_ref().map(|path| DataFile::new("eval.path", path));
        let held_out = held_out.map(|file| read(file, eval.n_examples())).transpose()?;
        Ok(Self { pairs, held_out })
    }

    /// Number of pairs in the file.
    pub(crate) fn n_pairs(&self) -> u64 {
        self.pairs.rows.len() as u64
    }

    /// Renders all pairs: what is wrong with one of them is told before the run begins. The second
    /// list are those that are held out.
    ///
    /// # Errors
    /// What the chat template refuses, with the row.
    pub(crate) fn rendered(
        self,
        tokenizer: &Tokenizer,
    ) -> Result<(PairTexts, Vec<PairOfExamples>), Error> {
        let Self { pairs, held_out } = self;
        let has_chats = pairs.rows.iter().any(|row| row.is_chat(pairs.chat));
        let texts = PairTexts { rows: ShuffledRows::new(pairs.rendered(tokenizer)?), has_chats };
        let held_out = held_out.map(|pairs| pairs.rendered(tokenizer)).transpose()?;
        Ok((texts, held_out.unwrap_or_default()))
    }
}

impl PairRows {
    fn rendered(&self, tokenizer: &Tokenizer) -> Result<Vec<PairOfExamples>, Error> {
        let pair = |row: &PairRow| {
            let source = ChatSource { tokenizer, chat: self.chat, kwargs: &row.template_kwargs };
            let example = |completion: &str| -> Result<Example, Error> {
                let rendered = source.example(&row.prompt, completion.to_owned());
                rendered.map_err(|error| self.file.row_error(row.place, &error))
            };
            let (chosen, rejected) = (example(&row.chosen)?, example(&row.rejected)?);
            Ok(PairOfExamples { chosen, rejected })
        };
        self.rows.iter().map(pair).collect()
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
