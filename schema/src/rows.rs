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
mod template;

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read as _, Seek as _};
use std::ops::ControlFlow;
use std::path::Path;

pub use answer::VERL_COLUMN;
pub use prompt::MESSAGES;
use row::ReadColumns;
pub use row::{EachRow, Place, Row};
pub use template::TEMPLATE_COLUMNS;

use crate::error::Error;

/// Reads the rows of a file, each with the cells of the named columns. The file is opened once and
/// read from its beginning to its end, so that JSON may come through a pipe.
///
/// # Errors
/// [`Error::Io`]; [`Error::BadFile`] for a file that is none of the formats; [`Error::Line`] and
/// [`Error::Row`] name the place; the errors of `each`.
pub fn read(path: &Path, columns: &[&str], each: &mut EachRow<'_>) -> Result<(), Error> {
    read_columns(path, ReadColumns::Named(columns), None, each)
}

/// As [`read`], with the cells of all columns. Errors of columns that nobody else reads count, too.
///
/// # Errors
/// As [`read`].
pub fn read_whole(path: &Path, each: &mut EachRow<'_>) -> Result<(), Error> {
    read_columns(path, ReadColumns::All, None, each)
}

/// Whether a file is a table: all its rows have the same columns.
///
/// # Errors
/// As [`read`].
pub fn is_table(path: &Path) -> Result<bool, Error> {
    Ok(matches!(OpenedFile::open(path)?.format()?, FileFormat::Parquet))
}

/// Names of the columns that a file has: those of a table, or those of the first object; none in a
/// text file without rows.
///
/// # Errors
/// As [`read`].
pub fn columns(path: &Path) -> Result<Vec<String>, Error> {
    let opened = OpenedFile::open(path)?;
    if matches!(opened.format()?, FileFormat::Parquet) {
        return parquet::columns(path, opened.regular()?);
    }
    let mut names = Vec::new();
    read(path, &[], &mut |row| {
        names.extend_from_slice(row.names());
        Ok(ControlFlow::Break(()))
    })?;
    Ok(names)
}

/// `n_rows`: the number of rows after which `each` ends the reading, where that is known before.
fn read_columns(
    path: &Path,
    columns: ReadColumns<'_>,
    n_rows: Option<usize>,
    each: &mut EachRow<'_>,
) -> Result<(), Error> {
    let opened = OpenedFile::open(path)?;
    match opened.format()? {
        FileFormat::Parquet => parquet::read(path, opened.regular()?, columns, n_rows, each),
        FileFormat::Array => json::read_array(path, opened.into_reader(), columns, each),
        FileFormat::Lines => json::read_lines(path, opened.into_reader(), columns, each),
    }
}

/// Reads all rows of a file as values.
///
/// # Errors
/// As [`read`]; the errors of `value`.
pub fn read_all<T>(
    path: &Path,
    columns: &[&str],
    value: impl FnMut(&Row) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    read_first(path, columns, usize::MAX, value)
}

/// As [`read_all`], of the first `n_rows` rows alone: what follows them does not matter.
///
/// # Errors
/// As [`read_all`].
pub fn read_first<T>(
    path: &Path,
    columns: &[&str],
    n_rows: usize,
    mut value: impl FnMut(&Row) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut values = Vec::new();
    let limit = Some(n_rows).filter(|n_rows| *n_rows < usize::MAX);
    read_columns(path, ReadColumns::Named(columns), limit, &mut |row| {
        values.push(value(&row)?);
        match values.len() < n_rows {
            true => Ok(ControlFlow::Continue(())),
            false => Ok(ControlFlow::Break(())),
        }
    })?;
    Ok(values)
}

enum FileFormat {
    Lines,
    Array,
    Parquet,
}

/// Number of bytes that show the format.
const HEAD_BYTES: u64 = 4096;

/// An open file and the bytes that were read of it. What a pipe has given it does not give again.
struct OpenedFile<'a> {
    path: &'a Path,
    file: File,
    head: Vec<u8>,
}

impl<'a> OpenedFile<'a> {
    fn open(path: &'a Path) -> Result<Self, Error> {
        let io = |source| Error::io(path, source);
        let file = File::open(path).map_err(io)?;
        let mut head = Vec::new();
        (&file).take(HEAD_BYTES).read_to_end(&mut head).map_err(io)?;
        Ok(Self { path, file, head })
    }

    /// The whole file, beginning with the bytes that were read.
    fn into_reader(self) -> impl BufRead {
        Cursor::new(self.head).chain(BufReader::new(self.file))
    }

    /// The file, for a reader that moves in it.
    fn regular(self) -> Result<File, Error> {
        let io = |source| Error::io(self.path, source);
        if !self.file.metadata().map_err(io)?.is_file() {
            let reason = "Parquet is read from files, not through a pipe; write it to a file first";
            return Err(Error::bad_file(self.path, reason));
        }
        let mut file = self.file;
        file.rewind().map_err(io)?;
        Ok(file)
    }

    /// The format by what the file begins with; its name decides where that says nothing.
    fn format(&self) -> Result<FileFormat, Error> {
        let head = &self.head[..];
        let refuse = |reason: &str| Err(Error::bad_file(self.path, reason));
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
        let ending = self.path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let text = head.strip_prefix(json::BYTE_ORDER_MARK).unwrap_or(head).trim_ascii_start();
        match (text.first(), ending) {
            (_, "parquet") => refuse("is no Parquet file: its first bytes are not PAR1"),
            (Some(b'['), _) => Ok(FileFormat::Array),
            (Some(b'{'), _) | (_, "jsonl" | "ndjson" | "json") => Ok(FileFormat::Lines),
            _ => refuse("unknown file type; wanted JSON Lines, a JSON array or Parquet"),
        }
    }
}

#[cfg(test)]
mod tests;
