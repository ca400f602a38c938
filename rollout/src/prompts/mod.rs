//! The order in which prompts are used, epoch by epoch, with a cursor that a checkpoint can keep.

mod read;

use joust_schema::ids::PromptId;
use joust_schema::prompt::Prompt;
use joust_schema::seed::Seed;
use serde::{Deserialize, Serialize};

use crate::config::PromptsConfig;
use crate::error::Error;

/// One prompt of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptRow {
    /// Its id: given in the file, or a hash of the prompt.
    pub prompt_id: PromptId,
    /// The prompt.
    pub prompt: Prompt,
    /// The known answer, where the file has one.
    pub answer: Option<String>,
}

/// How far a source has been used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Epochs that are over.
    pub epoch: u64,
    /// Prompts of the current epoch that have been used.
    pub position: usize,
}

/// Prompts without end, or for a number of epochs.
#[derive(Clone, Debug)]
pub struct PromptSource {
    rows: Vec<PromptRow>,
    seed: Seed,
    shuffle: bool,
    epochs: u64,
    cursor: Cursor,
    /// The current epoch's order.
    order: Vec<usize>,
}

impl PromptSource {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Prompts`] and [`Error::Prompt`] name the file, the line and the mend.
    pub fn open(config: &PromptsConfig, seed: Seed) -> Result<Self, Error> {
        let mut rows = read::rows(config)?;
        if config.max_prompts > 0 {
            rows.truncate(config.max_prompts);
        }
        let (shuffle, epochs) = (config.shuffle, config.epochs);
        let mut source =
            Self { rows, seed, shuffle, epochs, cursor: Cursor::default(), order: Vec::new() };
        source.draw_order();
        Ok(source)
    }

    fn draw_order(&mut self) {
        self.order = match self.shuffle {
            true => self.seed.child("epoch", self.cursor.epoch).permutation(self.rows.len()),
            false => (0..self.rows.len()).collect(),
        };
    }

    /// The next `n` prompts; fewer once the epochs are used up.
    pub fn next(&mut self, n: usize) -> Vec<PromptRow> {
        let mut taken = Vec::with_capacity(n);
        while taken.len() < n && !self.is_exhausted() {
            taken.push(self.rows[self.order[self.cursor.position]].clone());
            self.cursor.position += 1;
            if self.cursor.position == self.rows.len() {
                self.cursor = Cursor { epoch: self.cursor.epoch + 1, position: 0 };
                self.draw_order();
            }
        }
        taken
    }

    /// Whether the epochs are used up.
    pub fn is_exhausted(&self) -> bool {
        self.epochs > 0 && self.cursor.epoch >= self.epochs
    }

    /// How far the source has been used.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Goes on from a cursor.
    ///
    /// # Errors
    /// [`Error::Config`] where the file has fewer prompts than the cursor's position.
    pub fn seek(&mut self, cursor: Cursor) -> Result<(), Error> {
        if cursor.position >= self.rows.len() {
            return Err(Error::Config(format!(
                "the cursor stands at prompt {} of an epoch, the file has {}",
                cursor.position,
                self.rows.len()
            )));
        }
        self.cursor = cursor;
        self.draw_order();
        Ok(())
    }

    /// All prompts, in the order of the file.
    pub fn rows(&self) -> &[PromptRow] {
        &self.rows
    }
}

#[cfg(test)]
mod tests;
