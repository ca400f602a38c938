//! Data files of several commands: their rows, and cells that these have in common.
//!
//! It does not know formats: see `joust_schema::rows`.

use std::path::Path;

use joust_schema::Error;
use joust_schema::prompt::Prompt;
use joust_schema::rows::{self, Row};

/// Reads all rows of a file as values.
///
/// # Errors
/// Those of `joust_schema::rows::read_all`; a file without rows.
pub(crate) fn read_all<T>(
    path: &Path,
    columns: &[&str],
    value: impl FnMut(&Row) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let values = rows::read_all(path, columns, value)?;
    match values.is_empty() {
        true => Err(Error::bad_file(path, "no rows in this file; wanted at least one")),
        false => Ok(values),
    }
}

/// The prompt of a row: `prompt`, else `messages`. `problem` says why it cannot be used.
///
/// # Errors
/// A row without a prompt, with one that has a problem, or with one that has its answer; the error
/// names place and column.
pub(crate) fn prompt(
    row: &Row,
    problem: impl Fn(&Prompt) -> Option<String>,
) -> Result<Prompt, Error> {
    let (column, prompt) = row.open_prompt("prompt")?;
    match problem(&prompt) {
        Some(problem) => Err(row.cell_error(column, problem)),
        None => Ok(prompt),
    }
}
