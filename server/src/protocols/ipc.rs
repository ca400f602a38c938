//! Arrow IPC streams in pieces: bytes to batches, and batches to bytes. Pure.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use axum::body::Bytes;
use joust_schema::table::Table;

use crate::problem::Problem;

/// Reason of a message for which Arrow's decoder panics: it checks most of what a message says, but
/// not whether a buffer lies within the message.
pub(crate) const CONTRADICTION: &str = "a message contradicts itself";

/// First bytes of a message in a stream; the length of the message follows.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Reads batches out of pieces of a stream.
pub(crate) struct BatchReader {
    max_bytes: usize,
    decoder: StreamDecoder,
    piece: Buffer,
    /// Number of bytes since the last batch.
    n_bytes: usize,
    n_batches: usize,
}

impl BatchReader {
    /// For batches of at most `max_bytes`, the dictionaries before a batch included.
    pub(crate) fn new(max_bytes: usize) -> Self {
        let (decoder, piece) = (StreamDecoder::new(), Buffer::from(Bytes::new()));
        Self { max_bytes, decoder, piece, n_bytes: 0, n_batches: 0 }
    }

    /// Number of bytes since the last batch.
    pub(crate) fn n_bytes(&self) -> usize {
        self.n_bytes + self.piece.len()
    }

    /// Takes a piece in, once [`BatchReader::next`] has returned all batches of the pieces before.
    pub(crate) fn push(&mut self, piece: Bytes) {
        self.piece = Buffer::from(piece);
    }

    /// The next complete batch; `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`Problem::Malformed`], [`Problem::TooLarge`]; the rest of the stream cannot be read then.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>, Problem> {
        let n_before = self.piece.len();
        // after a panic the decoder is not used again: the rest of the stream cannot be read
        let decode = AssertUnwindSafe(|| self.decoder.decode(&mut self.piece));
        let decoded = catch_unwind(decode)
            .unwrap_or_else(|_| Err(ArrowError::IpcError(CONTRADICTION.to_owned())));
        let batch = decoded.map_err(not_arrow)?;
        self.n_bytes += n_before - self.piece.len();
        if self.n_bytes > self.max_bytes {
            let max = self.max_bytes;
            return Err(Problem::TooLarge(format!("a batch is larger than {max} bytes")));
        }
        if batch.is_some() {
            self.n_bytes = 0;
            self.n_batches += 1;
        }
        Ok(batch)
    }

    /// Ends the stream. Returns a batch without rows if the stream had no batch, so that its
    /// columns are checked.
    ///
    /// # Errors
    /// [`Problem::Malformed`] if the stream breaks off.
    pub(crate) fn finish(&mut self) -> Result<Option<RecordBatch>, Problem> {
        self.decoder.finish().map_err(not_arrow)?;
        match self.decoder.schema() {
            None => Err(Problem::Malformed("no Arrow stream: there is no schema".to_owned())),
            Some(schema) if self.n_batches == 0 => Ok(Some(RecordBatch::new_empty(schema))),
            Some(_) => Ok(None),
        }
    }
}

fn not_arrow(error: ArrowError) -> Problem {
    Problem::Malformed(format!("no Arrow stream: {error}"))
}

/// Writes batches of one table.
pub(crate) struct BatchWriter {
    writer: StreamWriter<Vec<u8>>,
}

impl BatchWriter {
    /// A writer that has written the schema of `T`.
    ///
    /// # Errors
    /// The error of Arrow; none is known for the tables of this program.
    pub(crate) fn new<T: Table>() -> Result<Self, ArrowError> {
        Ok(Self { writer: StreamWriter::try_new(Vec::new(), &T::schema())? })
    }

    /// Takes the bytes that were written since the last call.
    pub(crate) fn take_bytes(&mut self) -> Bytes {
        std::mem::take(self.writer.get_mut()).into()
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// If the batch is of another table.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.writer.write(batch)
    }
}

/// The end of a complete stream.
pub(crate) fn end() -> Bytes {
    [CONTINUATION, [0; 4]].concat().into()
}

/// The end of a stream that breaks off: the reason in the place of a message. People can read it,
/// and no Arrow reader takes the stream for a complete one.
pub(crate) fn broken_off(reason: &str) -> Bytes {
    let mut text = format!("broken off: {reason}").into_bytes();
    // messages are padded to eight bytes
    text.resize(text.len().next_multiple_of(8), b' ');
    let length = i32::try_from(text.len()).unwrap_or(i32::MAX).to_le_bytes();
    [&CONTINUATION[..], &length, &text].concat().into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};
    use arrow::ipc::reader::StreamReader;
    use joust_schema::tables::{Reward, Status};

    use super::*;

    /// The batches of a stream that arrives in pieces of `n` bytes.
    fn read(bytes: &[u8], n: usize, max_bytes: usize) -> Result<Vec<RecordBatch>, Problem> {
        let mut reader = BatchReader::new(max_bytes);
        let mut batches = Vec::new();
        for piece in bytes.chunks(n) {
            reader.push(Bytes::copy_from_slice(piece));
            while let Some(batch) = reader.next()? {
                batches.push(batch);
            }
        }
        batches.extend(reader.finish()?);
        Ok(batches)
    }

    fn rewards(group_id: &str) -> RecordBatch {
        let row = Reward {
            group_id: group_id.into(),
            member: joust_schema::ids::Member(3),
            status: Status::Scored,
            reward: Some(0.5),
            win_rate: None,
            rating: None,
            rating_stderr: None,
            wins: 1,
            losses: 2,
            rank: None,
            advantage: None,
        };
        Reward::to_batch(&[row]).unwrap()
    }

    #[test]
    fn batch_reader_reads_pieces_of_any_size_and_notices_a_broken_stream() {
        let batches = [rewards("a"), rewards("b")];
        let mut writer = BatchWriter::new::<Reward>().unwrap();
        let mut bytes = writer.take_bytes().to_vec();
        for batch in &batches {
            writer.write(batch).unwrap();
            bytes.extend(writer.take_bytes());
        }
        for n in [1, 7, 64, bytes.len()] {
            assert_eq!(
                read(&bytes, n, 4096).unwrap(),
                batches,
                "the end-of-stream marker is optional"
            );
            let whole = [&bytes[..], &end()].concat();
            assert_eq!(read(&whole, n, 4096).unwrap(), batches);
            assert!(matches!(read(&whole, n, 500), Err(Problem::TooLarge(_))), "{n}");
            let cut = read(&bytes[..bytes.len() - 1], n, 4096);
            assert!(matches!(cut, Err(Problem::Malformed(_))), "{cut:?}");
            let broken = [&bytes[..], &broken_off("the judge has stopped")].concat();
            assert!(matches!(read(&broken, n, 4096), Err(Problem::Malformed(_))), "{n}");
        }
        let broken = [&bytes[..], &broken_off("the judge has stopped")].concat();
        let seen: Vec<_> = StreamReader::try_new(&broken[..], None).unwrap().collect();
        assert!(seen.len() == 3 && seen[2].is_err(), "Arrow's own reader notices it, too");
    }

    #[test]
    fn batch_reader_refuses_or_reads_a_stream_with_any_byte_changed() {
        let mut writer = BatchWriter::new::<Reward>().unwrap();
        let mut bytes = writer.take_bytes().to_vec();
        writer.write(&rewards("a")).unwrap();
        bytes.extend(writer.take_bytes());
        let mut contradictions = 0;
        for at in 0..bytes.len() {
            for byte in [0x00, 0x01, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = byte;
                match read(&changed, changed.len(), 1 << 20) {
                    Err(Problem::Malformed(reason)) if reason.contains(CONTRADICTION) => {
                        contradictions += 1;
                    }
                    Err(Problem::Malformed(_) | Problem::TooLarge(_)) | Ok(_) => {}
                    Err(problem) => panic!("byte {at} as {byte}: {problem:?}"),
                }
            }
        }
        assert!(contradictions > 0, "Arrow's decoder checks everything: `catch_unwind` may go");
    }

    #[test]
    fn batch_reader_returns_the_columns_of_an_empty_stream_and_refuses_other_bytes() {
        let column: ArrayRef = Arc::new(StringArray::from(Vec::<&str>::new()));
        let empty = RecordBatch::try_from_iter([("prompt", column)]).unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &empty.schema()).unwrap();
        writer.finish().unwrap();
        assert_eq!(read(writer.get_ref(), 5, 4096).unwrap(), [empty]);
        for bytes in [&b""[..], b"{\"prompt\": 1}", b"ARROW1\0\0\xff\xff\xff\xff"] {
            let seen = read(bytes, 100, 4096);
            assert!(matches!(seen, Err(Problem::Malformed(_))), "{seen:?}");
        }
    }
}
