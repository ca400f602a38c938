//! Data files of users, row by row: JSON Lines, a JSON array, or Parquet.
//!
//! All commands and runs read their data here. Only the columns that are asked for are read, and a
//! file is never in memory as a whole, apart from a JSON array. A cell is kept as its JSON text, so
//! numbers keep all their digits. It does not know what columns mean.

mod answer;
mod json;
mod parquet;
mod prompt;
mod row;

use std::fs::File;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::Path;

pub use answer::VERL_COLUMN;
pub use prompt::MESSAGES;
pub use row::{EachRow, Place, Row};

use crate::error::Error;

/// Reads the rows of a file, each with the cells of the named columns.
///
/// # Errors
/// [`Error::Io`]; [`Error::BadFile`] for a file that is none of the formats; [`Error::Line`] and
/// [`Error::Row`] name the place; the errors of `each`.
pub fn read(path: &Path, columns: &[&str], each: &mut EachRow<'_>) -> Result<(), Error> {
    match format(path)? {
        FileFormat::Parquet => parquet::read(path, columns, each),
        FileFormat::Array => json::read_array(path, columns, each),
        FileFormat::Lines => json::read_lines(path, columns, each),
    }
}

/// Reads all rows of a file as values.
///
/// # Errors
/// As [`read`]; the errors of `value`.
pub fn read_all<T>(
    path: &Path,
    columns: &[&str],
    mut value: impl FnMut(&Row) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut values = Vec::new();
    read(path, columns, &mut |row| {
        values.push(value(&row)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(values)
}

enum FileFormat {
    Lines,
    Array,
    Parquet,
}

/// The format by what the file begins with; its name decides where that says nothing.
fn format(path: &Path) -> Result<FileFormat, Error> {
    let mut file = File::open(path).map_err(|source| Error::io(path, source))?;
    let mut head = [0; 4096];
    let mut length = 0;
    loop {
        let read = file.read(&mut head[length..]).map_err(|source| Error::io(path, source))?;
        length += read;
        if read == 0 || length == head.len() {
            break;
        }
    }
    let head = &head[..length];
    let refuse = |reason: &str| Err(Error::bad_file(path, reason));
    match head {
        [b'P', b'A', b'R', b'1', ..] => return Ok(FileFormat::Parquet),
        [0x1f, 0x8b, ..] => return refuse("is compressed by gzip; decompress it first"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            return refuse("is compressed by zstd; decompress it first");
        }
        [b'P', b'K', 3, 4, ..] => return refuse("is a zip archive; unpack it first"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return refuse("is UTF-16 text, wanted UTF-8"),
        _ => {}
    }
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let text = head.strip_prefix(json::BYTE_ORDER_MARK).unwrap_or(head).trim_ascii_start();
    match (text.first(), ending) {
        (_, "parquet") => refuse("is no Parquet file: its first bytes are not PAR1"),
        (Some(b'['), _) => Ok(FileFormat::Array),
        (Some(b'{'), _) | (_, "jsonl" | "ndjson" | "json") => Ok(FileFormat::Lines),
        _ => refuse("unknown file type; wanted JSON Lines, a JSON array or Parquet"),
    }
}

#[cfg(test)]
mod tests;
