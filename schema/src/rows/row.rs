//! One row of a data file: cells by column, as JSON text.

use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::error::Error;

/// Called with each row; tells whether to go on.
pub type EachRow<'a> = dyn FnMut(Row) -> Result<ControlFlow<()>, Error> + 'a;

/// The columns of a file that are read.
#[derive(Clone, Copy)]
pub(super) enum ReadColumns<'a> {
    /// Those with these names, where the file has them.
    Named(&'a [&'a str]),
    /// All that the file has.
    All,
}

impl ReadColumns<'_> {
    /// Whether the column is read.
    pub(super) fn contain(self, name: &str) -> bool {
        match self {
            Self::Named(names) => names.contains(&name),
            Self::All => true,
        }
    }
}

/// Where a row stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of a text file, counted from 1.
    Line(usize),
    /// A row of an array or a table, counted from 1.
    Row(usize),
}

impl Place {
    /// The number of the line or the row.
    pub fn number(self) -> usize {
        match self {
            Self::Line(number) | Self::Row(number) => number,
        }
    }

    /// An error at this place.
    pub fn error(self, path: &Path, reason: impl Into<String>) -> Error {
        let (path, reason) = (path.to_owned(), reason.into());
        match self {
            Self::Line(line) => Error::Line { path, line, reason },
            Self::Row(row) => Error::Row { path, row, reason },
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Row(number) => write!(f, "row {number}"),
        }
    }
}

/// A row with the cells of the columns that were asked for.
#[derive(Debug)]
pub struct Row {
    pub(super) path: Rc<Path>,
    pub(super) place: Place,
    pub(super) cells: Vec<(String, Box<RawValue>)>,
    /// Names of all columns of the row, also of those that were not asked for.
    pub(super) names: Rc<[String]>,
    pub(super) end_byte: Option<u64>,
}

impl Row {
    /// Where the row stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Number of bytes of the file to the end of this row; `None` where rows are no lines.
    pub fn end_byte(&self) -> Option<u64> {
        self.end_byte
    }

    /// Names of all columns of the row, also of those that were not asked for.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The JSON text of a cell; `None` where the row has no such column. A null is `null`.
    pub fn get(&self, column: &str) -> Option<&RawValue> {
        self.cells.iter().find(|(name, _)| name == column).map(|(_, cell)| &**cell)
    }

    /// The kind of a cell's value, in words; `None` where the row has no such column.
    pub fn kind(&self, column: &str) -> Option<&'static str> {
        self.get(column).map(|cell| kind(cell.get()))
    }

    /// The cells that were read as one line of JSON: an object, in the order of the file.
    pub fn object(&self) -> String {
        let name = |name: &str| serde_json::Value::from(name).to_string();
        let cells = self
            .cells
            .iter()
            .map(|(column, cell)| format!("{}:{}", name(column), without_blanks(cell.get())));
        format!("{{{}}}", cells.collect::<Vec<_>>().join(","))
    }

    /// Whether a cell is there and not null.
    pub fn has(&self, column: &str) -> bool {
        self.get(column).is_some_and(|cell| cell.get() != "null")
    }

    /// A cell as a value; `None` where it is missing or null.
    ///
    /// # Errors
    /// The reason why the cell is no such value, with the place and the column.
    pub fn optional<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, Error> {
        match self.get(column).map(RawValue::get) {
            None | Some("null") => Ok(None),
            Some(json) => serde_json::from_str(json)
                .map(Some)
                .map_err(|error| self.cell_error(column, cell_reason(json, &error))),
        }
    }

    /// A cell as a value.
    ///
    /// # Errors
    /// As [`Row::optional`]; also where the cell is missing or null.
    pub fn required<T: DeserializeOwned>(&self, column: &str) -> Result<T, Error> {
        self.optional(column)?.ok_or_else(|| self.missing(column))
    }

    /// A text or a number as text, with all its digits; `None` where it is missing or null.
    ///
    /// # Errors
    /// The kind of any other value.
    pub fn id(&self, column: &str) -> Result<Option<String>, Error> {
        let Some(json) = self.get(column).map(RawValue::get) else { return Ok(None) };
        match json.as_bytes().first() {
            Some(b'"') => self.optional(column),
            Some(b'-' | b'0'..=b'9') => Ok(Some(json.to_owned())),
            Some(b'n') => Ok(None),
            _ => {
                let kind = kind(json);
                Err(self.cell_error(column, format!("is {kind}, wanted a text or a number")))
            }
        }
    }

    /// The error of a column that is missing or null.
    pub fn missing(&self, column: &str) -> Error {
        self.error(self.missing_reason(column))
    }

    /// Says that a column is missing or null.
    pub fn missing_reason(&self, column: &str) -> String {
        match self.get(column) {
            Some(_) => format!("column `{column}` is null"),
            None => {
                let names = self.names.join(", ");
                format!("column `{column}` is missing (there are: {names})")
            }
        }
    }

    /// An error in a cell.
    pub fn cell_error(&self, column: &str, reason: impl AsRef<str>) -> Error {
        self.error(format!("column `{column}` {}", reason.as_ref()))
    }

    /// An error in the row.
    pub fn error(&self, reason: impl Into<String>) -> Error {
        self.place.error(&self.path, reason)
    }
}

/// The kind of a JSON value, in words.
pub(super) fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'"') => "a text",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "a truth value",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Why a cell is not readable.
fn cell_reason(json: &str, error: &serde_json::Error) -> String {
    let text = without_position(error);
    match text.contains("hex escape").then(|| half_of_pair(json)).flatten() {
        Some(half) => format!("has half of a surrogate pair ({half}), which is no text"),
        None => text,
    }
}

/// The first escape in a JSON text that is half of a surrogate pair, as programs leave it that cut
/// text between the two.
fn half_of_pair(json: &str) -> Option<&str> {
    let unit = |at: usize| {
        let escape = json.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(escape, 16).ok()
    };
    let mut at = 0;
    while at < json.len() {
        at += match (json.as_bytes()[at], unit(at)) {
            (b'\\', Some(0xd800..=0xdbff)) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => 12,
            (b'\\', Some(0xd800..=0xdfff)) => return json.get(at..at + 6),
            (b'\\', _) => 2,
            _ => 1,
        };
    }
    None
}

/// serde_json's message without its position, which counts from the beginning of the cell.
pub(super) fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((message, _)) => message.to_owned(),
        None => text,
    }
}

/// A JSON text without the white space between its parts. Numbers keep their digits.
fn without_blanks(json: &str) -> String {
    let (mut text, mut is_in_string, mut is_escaped) =
        (String::with_capacity(json.len()), false, false);
    for character in json.chars() {
        if is_in_string || !matches!(character, ' ' | '\t' | '\n' | '\r') {
            text.push(character);
        }
        is_in_string ^= character == '"' && !is_escaped;
        is_escaped = is_in_string && character == '\\' && !is_escaped;
    }
    text
}
