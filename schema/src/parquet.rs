//! Parquet in and out: compressed by zstd, statistics on scalar columns, whole files only.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::atomic;
use crate::error::Error;
use crate::table::Table;

/// Number of bytes after which a row group is closed.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// Number of rows passed to the writer at a time.
const ROWS_PER_BATCH: usize = 4096;

/// Writes rows as one file, and returns their number.
///
/// # Errors
/// [`Error::Io`] and [`Error::BadFile`]; no half-written file is left.
pub fn write<'a, T: Table + 'a>(
    path: &Path,
    rows: impl IntoIterator<Item = &'a T>,
) -> Result<usize, Error> {
    let rows: Vec<&T> = rows.into_iter().collect();
    // in parts, for one Arrow column of text holds at most 2 GiB
    write_all(path, &T::schema(), rows.chunks(ROWS_PER_BATCH).map(T::to_batch))?;
    Ok(rows.len())
}

/// Writes a batch as one file, byte for byte the file that [`write()`] makes of its rows.
///
/// # Errors
/// As [`write()`].
pub fn write_batch(path: &Path, batch: &RecordBatch) -> Result<(), Error> {
    let n_rows = batch.num_rows();
    let part = |start| Ok(batch.slice(start, ROWS_PER_BATCH.min(n_rows - start)));
    write_all(path, &batch.schema(), (0..n_rows).step_by(ROWS_PER_BATCH).map(part))
}

fn write_all(
    path: &Path,
    schema: &SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch, Error>>,
) -> Result<(), Error> {
    let bad = |error: parquet::errors::ParquetError| Error::io(path, std::io::Error::other(error));
    atomic::write_file(path, |file| {
        let properties = properties(schema);
        let mut writer =
            ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(bad)?;
        for batch in batches {
            writer.write(&batch?).map_err(bad)?;
            if writer.in_progress_size() >= ROW_GROUP_BYTES {
                writer.flush().map_err(bad)?;
            }
        }
        writer.close().map(|_| ()).map_err(bad)
    })
}

/// Statistics of numbers and ids help readers to skip rows; those of texts and lists would only
/// repeat values.
fn properties(schema: &SchemaRef) -> WriterProperties {
    let level = ZstdLevel::try_new(3).expect("3 is a level of zstd. This is a bug.");
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by("joust".to_owned());
    for field in schema.fields() {
        let is_scalar = !matches!(field.data_type(), DataType::Utf8 | DataType::List(_));
        if !is_scalar && !field.name().ends_with("_id") {
            builder = builder.set_column_statistics_enabled(
                ColumnPath::from(field.name().as_str()),
                EnabledStatistics::None,
            );
        }
    }
    builder.build()
}

/// Reads all rows of one table.
///
/// # Errors
/// [`Error::Io`], [`Error::BadFile`] where it is no Parquet, [`Error::BadFile`] naming the column
/// where it is another table.
pub fn read<T: Table>(path: &Path) -> Result<Vec<T>, Error> {
    let mut rows = Vec::new();
    let batches = read_batches(path)?;
    if batches.is_empty() {
        let empty = RecordBatch::new_empty(schema(path)?);
        T::from_batch(&empty).map_err(|error| Error::bad_file(path, error))?;
    }
    for batch in &batches {
        rows.extend(T::from_batch(batch).map_err(|error| Error::bad_file(path, error))?);
    }
    Ok(rows)
}

/// Reads the batches of any table.
///
/// # Errors
/// [`Error::Io`], [`Error::BadFile`] where it is no Parquet.
pub fn read_batches(path: &Path) -> Result<Vec<RecordBatch>, Error> {
    let reader = open(path)?.build().map_err(|error| Error::bad_file(path, error))?;
    reader.collect::<Result<_, _>>().map_err(|error| Error::bad_file(path, error))
}

/// The schema of a file, metadata included.
///
/// # Errors
/// As [`read_batches`].
pub fn schema(path: &Path) -> Result<SchemaRef, Error> {
    Ok(open(path)?.schema().clone())
}

/// Number of rows of a file.
///
/// # Errors
/// As [`read_batches`].
pub fn n_rows(path: &Path) -> Result<usize, Error> {
    let n_rows = open(path)?.metadata().file_metadata().num_rows();
    Ok(usize::try_from(n_rows).unwrap_or_default())
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, Error> {
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| Error::bad_file(path, error))
}
