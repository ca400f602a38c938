//! Rows of JSON Lines and of JSON arrays.

use std::borrow::Cow;
use std::fmt;
use std::io::BufRead;
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;

use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::row::{EachRow, Place, ReadColumns, Row, without_position};
use crate::error::Error;

/// Some editors begin a file of text with it.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads one object per line; blank lines are skipped.
pub(super) fn read_lines(
    path: &Path,
    mut reader: impl BufRead,
    columns: ReadColumns<'_>,
    each: &mut EachRow<'_>,
) -> Result<(), Error> {
    let shared: Rc<Path> = path.into();
    let mut bytes = Vec::new();
    let mut end_byte = 0;
    for line in 1.. {
        bytes.clear();
        let n_read = reader.read_until(b'\n', &mut bytes);
        match n_read.map_err(|source| Error::io(path, source))? {
            0 => return Ok(()),
            n_read => end_byte += n_read as u64,
        }
        let place = Place::Line(line);
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).filter(|_| line == 1).unwrap_or(&bytes);
        let text = std::str::from_utf8(text)
            .map_err(|error| place.error(path, format!("not readable as UTF-8 text: {error}")))?;
        if text.trim().is_empty() {
            continue;
        }
        let fields = fields(&with_floats_named(text), columns)
            .map_err(|error| place.error(path, reason(&error)))?;
        let row = Row { end_byte: Some(end_byte), ..fields.into_row(&shared, place) };
        if each(row)?.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads the objects of one array.
pub(super) fn read_array(
    path: &Path,
    mut reader: impl BufRead,
    columns: ReadColumns<'_>,
    each: &mut EachRow<'_>,
) -> Result<(), Error> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(|source| Error::io(path, source))?;
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
    let text = std::str::from_utf8(text)
        .map_err(|error| Error::bad_file(path, format!("not readable as UTF-8 text: {error}")))?;
    let text = with_floats_named(text);
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let mut visitor = ArrayRows { path: &path.into(), columns, each, n_rows: 0, stopped: None };
    match deserializer.deserialize_seq(&mut visitor) {
        Ok(()) => deserializer.end().map_err(|error| {
            Error::bad_file(path, format!("after the end of the JSON array: {error}"))
        }),
        Err(error) => match visitor.stopped {
            Some(ArrayEnd::Enough) => Ok(()),
            Some(ArrayEnd::Failed(error)) => Err(error),
            None => {
                let row = Place::Row(visitor.n_rows + 1);
                let position = format!("line {}, column {}", error.line(), error.column());
                let text = without_position(&error);
                Err(row.error(
                    path,
                    match error.classify() {
                        serde_json::error::Category::Data => format!("{text} ({position})"),
                        _ => format!("invalid JSON: {text} ({position})"),
                    },
                ))
            }
        },
    }
}

/// One row of JSON text.
pub(super) fn parse_row(
    path: &Rc<Path>,
    place: Place,
    text: &str,
    columns: ReadColumns<'_>,
) -> Result<Row, Error> {
    let fields = fields(text, columns).map_err(|error| place.error(path, reason(&error)))?;
    Ok(fields.into_row(path, place))
}

fn fields(text: &str, columns: ReadColumns<'_>) -> Result<ObjectCells, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = Columns(columns).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(fields)
}

/// serde_json's message without its "line 1": the file's line is named elsewhere.
fn reason(error: &serde_json::Error) -> String {
    let text = without_position(error);
    match error.classify() {
        serde_json::error::Category::Data => text,
        serde_json::error::Category::Eof => {
            format!("invalid JSON: {text} (column {}); wanted one object per line", error.column())
        }
        _ => format!("invalid JSON: {text} (column {})", error.column()),
    }
}

/// What Python writes for floats that are no numbers, which is no JSON.
const NO_NUMBERS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Begins the text that stands in the place of such a float. Unicode keeps this code point free for
/// uses inside a program.
const NAMED_FLOAT: &str = "\"\u{fdd2}";

/// JSON with texts in the place of floats that are no numbers. In columns that nobody reads they do
/// not matter; [`Columns`] refuses them in the others.
fn with_floats_named(json: &str) -> Cow<'_, str> {
    if !NO_NUMBERS.iter().any(|float| json.contains(float)) {
        return Cow::Borrowed(json);
    }
    let mut named = String::with_capacity(json.len() + 16);
    let (mut rest, mut in_text) = (json, false);
    while let Some(c) = rest.chars().next() {
        let float = NO_NUMBERS.iter().find(|float| !in_text && rest.starts_with(**float));
        let n_bytes = match (float, c) {
            (Some(float), _) => {
                named.push_str(&format!("{NAMED_FLOAT}{float}\""));
                rest = &rest[float.len()..];
                continue;
            }
            (None, '\\') if in_text => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, c) => c.len_utf8(),
        };
        in_text ^= c == '"';
        named.push_str(&rest[..n_bytes]);
        rest = &rest[n_bytes..];
    }
    Cow::Owned(named)
}

struct ObjectCells {
    cells: Vec<(String, Box<RawValue>)>,
    names: Vec<String>,
}

impl ObjectCells {
    fn into_row(self, path: &Rc<Path>, place: Place) -> Row {
        let path = Rc::clone(path);
        Row { path, place, cells: self.cells, names: self.names.into(), end_byte: None }
    }
}

/// Reads an object, with the values of these columns.
#[derive(Clone, Copy)]
struct Columns<'a>(ReadColumns<'a>);

impl<'de> DeserializeSeed<'de> for Columns<'_> {
    type Value = ObjectCells;

    fn deserialize<D: serde::Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<ObjectCells, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Columns<'_> {
    type Value = ObjectCells;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one object per row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<ObjectCells, A::Error> {
        let mut fields = ObjectCells { cells: Vec::new(), names: Vec::new() };
        while let Some(name) = object.next_key::<String>()? {
            if self.0.contain(&name) {
                if fields.cells.iter().any(|(known, _)| *known == name) {
                    let text = format!("column `{name}` occurs twice");
                    return Err(serde::de::Error::custom(text));
                }
                let cell: Box<RawValue> = object.next_value()?;
                if cell.get().contains(NAMED_FLOAT) {
                    let text = format!(
                        "column `{name}` has a number that JSON does not know: NaN and Infinity \
                         are no JSON; write null"
                    );
                    return Err(serde::de::Error::custom(text));
                }
                fields.cells.push((name.clone(), cell));
            } else {
                object.next_value::<IgnoredAny>()?;
            }
            fields.names.push(name);
        }
        Ok(fields)
    }
}

enum ArrayEnd {
    Enough,
    Failed(Error),
}

/// Reads an array, row by row.
struct ArrayRows<'a, 'b> {
    path: &'a Rc<Path>,
    columns: ReadColumns<'a>,
    each: &'a mut EachRow<'b>,
    n_rows: usize,
    stopped: Option<ArrayEnd>,
}

impl<'de> Visitor<'de> for &mut ArrayRows<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(fields) = rows.next_element_seed(Columns(self.columns))? {
            self.n_rows += 1;
            let row = fields.into_row(self.path, Place::Row(self.n_rows));
            let stop = match (self.each)(row) {
                Ok(ControlFlow::Continue(())) => continue,
                Ok(ControlFlow::Break(())) => ArrayEnd::Enough,
                Err(error) => ArrayEnd::Failed(error),
            };
            self.stopped = Some(stop);
            return Err(serde::de::Error::custom("stopped"));
        }
        Ok(())
    }
}
