//! A file of examples under the config key that names it: its rows, and errors that name both.
//!
//! It does not know what a row means.

use std::path::{Path, PathBuf};

use joust_schema::rows::{self, Place, Row};

use super::form;
use crate::error::Error;

/// A file of examples.
#[derive(Clone)]
pub(super) struct DataFile {
    /// The dotted key.
    key: &'static str,
    path: PathBuf,
}

/// How the rows of a file are read.
pub(super) struct RowReader<'a, R> {
    /// The columns of the form that needs no conversion.
    pub(super) columns: &'a [&'a str],
    pub(super) row: &'a dyn Fn(&Row) -> Result<R, joust_schema::Error>,
    /// Why a file with these columns alone has no rows of the kind.
    pub(super) unknown: fn(&[String]) -> String,
}

impl DataFile {
    pub(super) fn new(key: &'static str, path: &Path) -> Self {
        Self { key, path: path.to_owned() }
    }

    /// The first `n_rows` rows of the file; what follows them does not matter.
    ///
    /// # Errors
    /// [`Error::Input`] for a file that cannot be read, a row that cannot be read, and a file
    /// without rows.
    pub(super) fn rows<R>(
        &self,
        n_rows: usize,
        reader: &RowReader<'_, R>,
    ) -> Result<Vec<R>, Error> {
        let names = rows::columns(&self.path).map_err(|error| self.error(error))?;
        if names.is_empty() {
            return Err(self.empty());
        }
        let is_table = rows::is_table(&self.path).map_err(|error| self.error(error))?;
        let columns = form::columns(is_table.then_some(&names[..]), reader.columns);
        // the rows of a text file say themselves that they have no such column
        let is_known = names.iter().any(|name| columns.contains(&&name[..]));
        let rows = match rows::read_first(&self.path, &columns, n_rows, reader.row) {
            Err(joust_schema::Error::BadFile { .. }) if !is_known => {
                let first = Place::Row(1).error(&self.path, (reader.unknown)(&names));
                return Err(self.error(first));
            }
            rows => rows.map_err(|error| self.error(error))?,
        };
        match rows.is_empty() {
            true => Err(self.empty()),
            false => Ok(rows),
        }
    }

    /// What is wrong with a row.
    pub(super) fn row_error(&self, place: Place, error: &Error) -> Error {
        self.error(place.error(&self.path, error.to_string()))
    }

    fn error(&self, error: joust_schema::Error) -> Error {
        Error::in_file_of(self.key, error)
    }

    fn empty(&self) -> Error {
        Error::input(format!("{}: {}: no examples in this file", self.key, self.path.display()))
    }
}
