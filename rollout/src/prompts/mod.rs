//! The order in which prompts are used, epoch by epoch, with a cursor that a checkpoint can keep.

mod read;
pub(crate) mod row;

use std::collections::BTreeSet;

use joust_schema::ids::PromptId;
use joust_schema::seed::Seed;
use serde::{Deserialize, Serialize};

use crate::config::PromptsConfig;
use crate::error::Error;
use row::{PromptNeeds, PromptRow};

/// Position in the sequence of all prompts of all epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptCursor {
    /// Number of epochs that are over.
    pub epoch: u64,
    /// Number of prompts used in the current epoch.
    pub position: usize,
}

/// The prompts of a file, epoch after epoch.
#[derive(Clone, Debug)]
pub struct PromptSource {
    rows: Vec<PromptRow>,
    seed: Seed,
    shuffle: bool,
    epochs: u64,
    cursor: PromptCursor,
    /// Order of the rows in the current epoch.
    order: Vec<usize>,
}

impl PromptSource {
    /// Reads the file. `needs` says who reads the prompts beside the policy, and what of them.
    ///
    /// # Errors
    /// [`Error::Prompts`] and [`Error::Schema`] name the file, the row and the remedy.
    pub fn open(
        config: &PromptsConfig,
        needs: impl Into<PromptNeeds>,
        seed: Seed,
    ) -> Result<Self, Error> {
        let rows = read::rows(config, needs.into())?;
        let (shuffle, epochs) = (config.shuffle, config.epochs);
        let mut source = Self {
            rows,
            seed,
            shuffle,
            epochs,
            cursor: PromptCursor::default(),
            order: Vec::new(),
        };
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
        let rows = std::iter::from_fn(|| self.advance());
        rows.take(n).collect()
    }

    /// The next `n` prompts beside those that are `used`, each once; fewer where the epochs or all
    /// other prompts are used up. A used prompt that comes up is passed over.
    pub fn next_unused(&mut self, n: usize, mut used: BTreeSet<PromptId>) -> Vec<PromptRow> {
        let mut taken = Vec::with_capacity(n);
        while taken.len() < n && self.rows.iter().any(|row| !used.contains(&row.prompt_id)) {
            let Some(row) = self.advance() else { break };
            if used.insert(row.prompt_id.clone()) {
                taken.push(row);
            }
        }
        taken
    }

    fn advance(&mut self) -> Option<PromptRow> {
        if self.is_exhausted() {
            return None;
        }
        let row = self.rows[self.order[self.cursor.position]].clone();
        self.cursor.position += 1;
        if self.cursor.position == self.rows.len() {
            self.cursor = PromptCursor { epoch: self.cursor.epoch + 1, position: 0 };
            self.draw_order();
        }
        Some(row)
    }

    /// Whether the epochs are used up.
    pub fn is_exhausted(&self) -> bool {
        self.epochs > 0 && self.cursor.epoch >= self.epochs
    }

    /// The position after the prompts handed out so far.
    pub fn cursor(&self) -> PromptCursor {
        self.cursor
    }

    /// Continues from a cursor.
    ///
    /// # Errors
    /// [`Error::Config`] where the file has fewer prompts than the cursor's position.
    pub fn seek(&mut self, cursor: PromptCursor) -> Result<(), Error> {
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
