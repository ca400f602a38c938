//! The rows of a file, shuffled anew in every epoch.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use joust_schema::rows::{self, Row};
use joust_schema::seed::Seed;

use crate::error::Error;

/// Rows by number; they repeat after the last one, in another order.
pub(crate) struct ShuffledRows<R> {
    path: PathBuf,
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
    /// Reads a file, of which only `columns` matter.
    ///
    /// # Errors
    /// [`Error::Schema`] names the row that cannot be read; [`Error::Input`] for a file without
    /// rows.
    pub(crate) fn read(
        path: &Path,
        columns: &[&str],
        read: impl Fn(&Row) -> Result<R, joust_schema::Error>,
    ) -> Result<Self, Error> {
        let rows = rows::read_all(path, columns, read)?;
        if rows.is_empty() {
            let text = format!("{}: no examples in this file", path.display());
            return Err(Error::input(text));
        }
        Ok(Self { path: path.to_owned(), rows, order: RefCell::default() })
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
        Ok(ShuffledRows { path: self.path, rows, order: self.order })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
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
