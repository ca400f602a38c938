//! Cells that the rows of several commands' data files have.
//!
//! It does not know files: see `joust_schema::rows`.

use joust_schema::prompt::Prompt;
use joust_schema::rows::Row;

/// The prompt of a row: `prompt`, else `messages`.
///
/// # Errors
/// A row without a prompt, or with a blank one; the error names place and column.
pub(crate) fn prompt(row: &Row) -> Result<Prompt, joust_schema::Error> {
    let column = match row.get("prompt") {
        None if row.get("messages").is_some() => "messages",
        _ => "prompt",
    };
    let prompt: Prompt = row.required(column)?;
    match prompt.problem() {
        Some(problem) => Err(row.cell_error(column, problem)),
        None => Ok(prompt),
    }
}
