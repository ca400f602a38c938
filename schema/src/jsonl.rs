//! JSON Lines: one value per line, with errors that name the line.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic;
use crate::error::Error;

/// Reads all lines of a file that joust wrote; empty ones are skipped. Files of users are read by
/// [`crate::rows`].
///
/// # Errors
/// [`Error::Io`], or [`Error::Line`] for the first line that does not fit `T`.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    let mut rows = Vec::new();
    for (line_idx, line) in BufReader::new(file).lines().enumerate() {
        let bad =
            |reason: String| Error::Line { path: path.to_owned(), line: line_idx + 1, reason };
        let line = line.map_err(|error| bad(format!("not readable as UTF-8 text: {error}")))?;
        if line.trim().is_empty() {
            continue;
        }
        rows.push(serde_json::from_str(&line).map_err(|error| bad(reason(&error)))?);
    }
    Ok(rows)
}

/// serde_json's message without its "line 1": the file's line is named elsewhere.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = match text.rsplit_once(" at line ") {
        Some((message, _)) => message.to_owned(),
        None => text,
    };
    match error.classify() {
        serde_json::error::Category::Data => text,
        _ => format!("invalid JSON: {text} (column {})", error.column()),
    }
}

/// Writes one line per row; the file appears whole or not at all.
///
/// # Errors
/// [`Error::Io`]
pub fn write<T: Serialize>(path: &Path, rows: &[T]) -> Result<(), Error> {
    atomic::write_file(path, |writer| {
        for row in rows {
            let text = to_line(row).map_err(|error| Error::bad_file(path, error))?;
            writer.write_all(text.as_bytes()).map_err(|source| Error::io(path, source))?;
        }
        Ok(())
    })
}

/// One row as JSON with its line end.
///
/// # Errors
/// A `row` that JSON cannot hold (a map whose keys are not strings).
pub fn to_line<T: Serialize>(row: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string(row).map(|text| text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_file_and_line() {
        #[derive(serde::Deserialize, Debug)]
        struct Row {
            #[expect(dead_code, reason = "only its presence is tested")]
            prompt: String,
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.jsonl");
        std::fs::write(&path, "{\"prompt\":\"a\"}\n\n{\"promt\":\"b\"}\n").unwrap();
        let message = read::<Row>(&path).unwrap_err().to_string();
        assert!(message.ends_with("p.jsonl:3: missing field `prompt`"), "{message}");
        std::fs::write(&path, "{\"prompt\":").unwrap();
        let message = read::<Row>(&path).unwrap_err().to_string();
        assert!(message.contains("p.jsonl:1: invalid JSON: EOF"), "{message}");
    }
}
