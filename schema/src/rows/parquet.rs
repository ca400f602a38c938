//! Rows of Parquet files: only the columns that are asked for, a batch at a time.

use std::fs::File;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use arrow::json::writer::{LineDelimited, WriterBuilder};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::json::parse_row;
use super::row::{EachRow, Place};
use crate::error::Error;

/// Number of rows that are in memory at a time.
const ROWS_PER_BATCH: usize = 512;

/// Reads the rows of a file.
pub(super) fn read(path: &Path, columns: &[&str], each: &mut EachRow<'_>) -> Result<(), Error> {
    let bad = |error: parquet::errors::ParquetError| Error::bad_file(path, error);
    let open = || File::open(path).map_err(|source| Error::io(path, source));
    let builder = ParquetRecordBatchReaderBuilder::try_new(open()?).map_err(bad)?;
    let schema = builder.schema().clone();
    let is_wanted = |field: &FieldRef| columns.contains(&field.name().as_str());
    let names: Rc<[String]> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let wanted: Vec<usize> =
        (0..names.len()).filter(|&idx| is_wanted(&schema.fields()[idx])).collect();
    if wanted.is_empty() {
        let text =
            format!("none of the columns {} (there are: {})", columns.join(", "), names.join(", "));
        return Err(Error::bad_file(path, text));
    }
    for &idx in &wanted {
        let field = &schema.fields()[idx];
        if let Some(part) = unreadable(field.data_type()) {
            let text = format!("column `{}` holds {part}, which is not read", field.name());
            return Err(Error::bad_file(path, text));
        }
    }
    // writers without annotations store text as binary
    let fields: Fields = schema
        .fields()
        .iter()
        .map(|field| if is_wanted(field) { as_text(field) } else { Arc::clone(field) })
        .collect();
    let has_binary = fields != *schema.fields();
    let text_schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    let options = match has_binary {
        true => ArrowReaderOptions::new().with_schema(Arc::new(text_schema)),
        false => ArrowReaderOptions::new(),
    };
    let builder = match has_binary {
        true => {
            ParquetRecordBatchReaderBuilder::try_new_with_options(open()?, options).map_err(bad)?
        }
        false => builder,
    };
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.iter().copied());
    let reader = builder.with_projection(mask).with_batch_size(ROWS_PER_BATCH).build();
    let shared: Rc<Path> = path.into();
    let mut n_rows = 0;
    for batch in reader.map_err(bad)? {
        let batch = batch.map_err(|error| {
            let names: Vec<&str> = wanted.iter().map(|&idx| names[idx].as_str()).collect();
            let places = format!("columns {}, after row {n_rows}", names.join(", "));
            Error::bad_file(path, format!("{places}: {error}"))
        })?;
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

/// The field with text in place of binary, wherever it is nested.
fn as_text(field: &FieldRef) -> FieldRef {
    let text = |data_type| Arc::new(field.as_ref().clone().with_data_type(data_type));
    match field.data_type() {
        DataType::Binary => text(DataType::Utf8),
        DataType::LargeBinary => text(DataType::LargeUtf8),
        DataType::BinaryView => text(DataType::Utf8View),
        DataType::Dictionary(key, value) if **value == DataType::Binary => {
            text(DataType::Dictionary(key.clone(), Box::new(DataType::Utf8)))
        }
        DataType::List(inner) => text(DataType::List(as_text(inner))),
        DataType::LargeList(inner) => text(DataType::LargeList(as_text(inner))),
        DataType::Struct(fields) => text(DataType::Struct(fields.iter().map(as_text).collect())),
        _ => Arc::clone(field),
    }
}

/// The part of a type that has no JSON, in words.
fn unreadable(data_type: &DataType) -> Option<String> {
    let of_field = |field: &Field| unreadable(field.data_type());
    match data_type {
        DataType::Timestamp(_, Some(zone)) if !zone.starts_with(['+', '-']) => {
            Some(format!("times of the zone {zone}"))
        }
        DataType::Map(entries, _) => Some(format!("a map ({entries})")),
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
