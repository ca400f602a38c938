//! The rows of a file, shuffled anew in every epoch.

use std::cell::RefCell;

use joust_schema::seed::Seed;

use crate::error::Error;

/// Rows by number; they repeat after the last one, in another order.
pub(crate) struct ShuffledRows<R> {
    rows: Vec<R>,
    order: RefCell<EpochOrder>,
}

/// The order of rows in the epoch of the last request.
#[derive(Default)]
struct EpochOrder {
    epoch: Option<u64>,
    order: Vec<usize>,
}

impl<R> ShuffledRows<R> {
    /// Rows in the order of their file, at least one.
    pub(crate) fn new(rows: Vec<R>) -> Self {
        Self { rows, order: RefCell::default() }
    }

    /// The rows with `change` made to each of them, in the order of the file.
    ///
    /// # Errors
    /// The first one of `change`.
    pub(crate) fn try_map<T>(
        self,
        change: impl FnMut(R) -> Result<T, Error>,
    ) -> Result<ShuffledRows<T>, Error> {
        let rows = self.rows.into_iter().map(change).collect::<Result<_, _>>()?;
        Ok(ShuffledRows { rows, order: self.order })
    }

    /// The rows, in the order of the file.
    pub(crate) fn into_rows(self) -> Vec<R> {
        self.rows
    }

    /// The rows in the order of the file.
    pub(crate) fn in_file(&self) -> &[R] {
        &self.rows
    }

    /// Row `idx` of the run.
    pub(crate) fn get(&self, seed: Seed, idx: u64) -> &R {
        let n_rows = self.rows.len() as u64;
        let position = (idx % n_rows) as usize;
        &self.rows[self.order.borrow_mut().row(seed, idx / n_rows, self.rows.len(), position)]
    }
}

impl EpochOrder {
    /// The row at `position` of an epoch.
    fn row(&mut self, seed: Seed, epoch: u64, n_rows: usize, position: usize) -> usize {
        if self.epoch != Some(epoch) {
            self.order = seed.child("epoch", epoch).permutation(n_rows);
            self.epoch = Some(epoch);
        }
        self.order[position]
    }
}
