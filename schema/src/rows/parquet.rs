//! Rows of Parquet files: only the columns that are asked for, a batch at a time.

use std::fs::File;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, StringArray, UInt64Array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::LogicalType;

use super::json::parse_row;
use super::row::{EachRow, Place, ReadColumns};
use crate::error::Error;

/// Number of rows that are in memory at a time.
const ROWS_PER_BATCH: usize = 512;

/// Names of a file's columns.
pub(super) fn columns(path: &Path, file: File) -> Result<Vec<String>, Error> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|error| Error::bad_file(path, error))?;
    Ok(builder.schema().fields().iter().map(|field| field.name().clone()).collect())
}

/// Reads the rows of a file, at most `n_rows` of them.
pub(super) fn read(
    path: &Path,
    file: File,
    columns: ReadColumns<'_>,
    n_rows: Option<usize>,
    each: &mut EachRow<'_>,
) -> Result<(), Error> {
    let bad = |error: parquet::errors::ParquetError| Error::bad_file(path, error);
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(bad)?;
    let schema = builder.schema().clone();
    let is_wanted = |field: &FieldRef| columns.contain(field.name());
    let names: Rc<[String]> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let wanted: Vec<usize> =
        (0..names.len()).filter(|&idx| is_wanted(&schema.fields()[idx])).collect();
    if wanted.is_empty() {
        let looked_for = match columns {
            ReadColumns::Named(names) => names.join(", "),
            ReadColumns::All => "of a row".to_owned(),
        };
        let text = format!("none of the columns {looked_for} (there are: {})", names.join(", "));
        return Err(Error::bad_file(path, text));
    }
    let types = builder.parquet_schema().root_schema().get_fields();
    let is_uuid = |&&idx: &&usize| {
        let stored = schema.fields()[idx].data_type();
        let meant = types[idx].get_basic_info().logical_type_ref();
        *stored == DataType::FixedSizeBinary(16) && meant == Some(&LogicalType::Uuid)
    };
    let uuids: Vec<&str> = wanted.iter().filter(is_uuid).map(|&idx| names[idx].as_str()).collect();
    let mut leaves = Leaves::default();
    for (idx, field) in schema.fields().iter().enumerate() {
        let n_before = leaves.read.len();
        let reads_all = uuids.contains(&field.name().as_str());
        leaves.add(field.data_type(), is_wanted(field), reads_all);
        if wanted.contains(&idx) && leaves.read.len() == n_before {
            let part = unreadable(field.data_type()).unwrap_or_else(|| "nothing".to_owned());
            let text = format!("column `{}` holds {part}, which is not read", field.name());
            return Err(Error::bad_file(path, text));
        }
    }
    let mask = ProjectionMask::leaves(builder.parquet_schema(), leaves.read);
    let mut builder = builder.with_projection(mask).with_batch_size(ROWS_PER_BATCH);
    if let Some(n_rows) = n_rows {
        builder = builder.with_limit(n_rows);
    }
    let reader = builder.build();
    let shared: Rc<Path> = path.into();
    let mut n_rows = 0;
    for batch in reader.map_err(bad)? {
        let batch = batch.map_err(|error| {
            let names: Vec<&str> = wanted.iter().map(|&idx| names[idx].as_str()).collect();
            let places = format!("columns {}, after row {n_rows}", names.join(", "));
            Error::bad_file(path, format!("{places}: {error}"))
        })?;
        let batch = with_text(&batch, &uuids, |row| Place::Row(n_rows + row), path)?;
        let bad = |error: arrow::error::ArrowError| Error::bad_file(path, error);
        let mut writer =
            WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        writer.write(&batch).map_err(bad)?;
        writer.finish().map_err(bad)?;
        let lines = writer.into_inner();
        // text inside of JSON has no line ends
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            n_rows += 1;
            let text = std::str::from_utf8(line).map_err(|error| Error::bad_file(path, error))?;
            let mut row = parse_row(&shared, Place::Row(n_rows), text, columns)?;
            row.names = Rc::clone(&names);
            if each(row)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The stored columns of a schema, of which each field that holds no others is one.
#[derive(Default)]
struct Leaves {
    /// Number of leaves so far.
    n: usize,
    /// Those that are read, by number.
    read: Vec<usize>,
}

impl Leaves {
    /// Adds the leaves of a type, in their order. Of a wanted one, fields without JSON are left
    /// out: nobody can need them. `reads_all` keeps those too.
    fn add(&mut self, data_type: &DataType, is_wanted: bool, reads_all: bool) {
        let is_read = is_wanted && (reads_all || !has_no_json(data_type));
        match data_type {
            DataType::Struct(fields) => {
                for field in fields {
                    self.add(field.data_type(), is_read, reads_all);
                }
            }
            DataType::List(inner)
            | DataType::LargeList(inner)
            | DataType::FixedSizeList(inner, _)
            | DataType::Map(inner, _) => self.add(inner.data_type(), is_read, reads_all),
            _ => {
                if is_read {
                    self.read.push(self.n);
                }
                self.n += 1;
            }
        }
    }
}

/// The rows with text in place of binary, because writers without annotations store text as binary,
/// and in place of UUIDs.
fn with_text(
    batch: &RecordBatch,
    uuids: &[&str],
    place: impl Fn(usize) -> Place,
    path: &Path,
) -> Result<RecordBatch, Error> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if uuids.contains(&field.name().as_str()) {
            columns.push((field.name().clone(), uuid_text(column)));
            continue;
        }
        let wanted = as_text(field.data_type());
        if wanted == *field.data_type() {
            columns.push((field.name().clone(), Arc::clone(column)));
            continue;
        }
        let text = cast(column, &wanted).map_err(|error| {
            let text = format!("column `{}` is not readable as UTF-8 text: {error}", field.name());
            place(first_failure(column, &wanted) + 1).error(path, text)
        })?;
        columns.push((field.name().clone(), text));
    }
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )
    .map_err(|error| Error::bad_file(path, error))
}

/// UUIDs as text, in the form of RFC 9562: 8-4-4-4-12 hexadecimal digits.
fn uuid_text(column: &ArrayRef) -> ArrayRef {
    let text = |bytes: &[u8]| {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
        format!("{a}-{b}-{c}-{d}-{e}")
    };
    let texts = column.as_fixed_size_binary().iter().map(|uuid| uuid.map(text));
    Arc::new(texts.collect::<StringArray>())
}

/// Another type of the same values; invalid text is an error, not a null.
fn cast(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, wanted, &options)
}

/// The first row whose values cannot be cast.
fn first_failure(column: &ArrayRef, wanted: &DataType) -> usize {
    // a category would be cast with all others
    let plain = with_leaves(column.data_type(), |leaf| leaf.clone());
    let Ok(column) = cast(column, &plain) else { return 0 };
    let fails = |row: &usize| {
        let only = take(&column, &UInt64Array::from(vec![*row as u64]), None);
        only.and_then(|only| cast(&only, wanted)).is_err()
    };
    (0..column.len()).find(fails).unwrap_or_default()
}

/// The type with text in place of binary, wherever it is nested.
fn as_text(data_type: &DataType) -> DataType {
    with_leaves(data_type, text_of)
}

fn text_of(leaf: &DataType) -> DataType {
    match leaf {
        DataType::Binary => DataType::Utf8,
        DataType::LargeBinary => DataType::LargeUtf8,
        DataType::BinaryView => DataType::Utf8View,
        // the names of zones are no part of JSON's times: they are told in UTC
        DataType::Timestamp(unit, Some(zone)) if !zone.starts_with(['+', '-']) => {
            DataType::Timestamp(*unit, Some("+00:00".into()))
        }
        other => other.clone(),
    }
}

/// The type with each type in it that holds no others replaced; categories of binary become plain.
fn with_leaves(data_type: &DataType, leaf: fn(&DataType) -> DataType) -> DataType {
    let of_field = |field: &FieldRef| {
        let data_type = with_leaves(field.data_type(), leaf);
        Arc::new(field.as_ref().clone().with_data_type(data_type))
    };
    match data_type {
        DataType::Dictionary(_, value) if text_of(value) != **value => leaf(value),
        DataType::Map(entries, sorted) => DataType::Map(of_field(entries), *sorted),
        DataType::List(inner) => DataType::List(of_field(inner)),
        DataType::LargeList(inner) => DataType::LargeList(of_field(inner)),
        DataType::FixedSizeList(inner, length) => DataType::FixedSizeList(of_field(inner), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(of_field).collect()),
        other => leaf(other),
    }
}

/// Whether a type, or all that it holds, has no JSON.
fn has_no_json(data_type: &DataType) -> bool {
    let of_field = |field: &Field| has_no_json(field.data_type());
    match data_type {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                let is_text = |field: &FieldRef| {
                    matches!(
                        as_text(field.data_type()),
                        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
                    )
                };
                // a part of an entry is no entry
                !fields.first().is_some_and(is_text)
                    || fields.iter().any(|field| unreadable(field.data_type()).is_some())
            }
            _ => true,
        },
        DataType::Union(..) | DataType::Interval(_) | DataType::FixedSizeBinary(_) => true,
        DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => {
            of_field(inner)
        }
        DataType::Struct(fields) => fields.iter().all(|field| of_field(field)),
        _ => false,
    }
}

/// The part of a type that has no JSON, in words.
fn unreadable(data_type: &DataType) -> Option<String> {
    let of_field = |field: &Field| unreadable(field.data_type());
    match data_type {
        DataType::Map(entries, _) if has_no_json(data_type) => Some(format!("a map ({entries})")),
        DataType::Union(..) | DataType::Interval(_) | DataType::FixedSizeBinary(_) => {
            Some(format!("values of the type {data_type}"))
        }
        DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => {
            of_field(inner)
        }
        DataType::Struct(fields) => fields.iter().find_map(|field| of_field(field)),
        _ => None,
    }
}
