//! Arrow IPC streams: batches as bytes between processes and stages.

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use crate::error::Error;

/// Packs batches of one schema into a stream.
///
/// # Errors
/// [`Error::Arrow`] for batches of different schemas or none at all.
pub fn to_bytes(batches: &[RecordBatch]) -> Result<Vec<u8>, Error> {
    let first = batches.first().ok_or_else(|| {
        arrow::error::ArrowError::InvalidArgumentError("a stream needs at least one batch".into())
    })?;
    let mut writer = StreamWriter::try_new(Vec::new(), &first.schema())?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?)
}

/// Unpacks a stream.
///
/// # Errors
/// [`Error::Arrow`] where the bytes are no IPC stream.
pub fn from_bytes(bytes: &[u8]) -> Result<Vec<RecordBatch>, Error> {
    Ok(StreamReader::try_new(bytes, None)?.collect::<Result<_, _>>()?)
}
