//! Bodies of gRPC: the messages that are read have a share of the memory for bodies.
//!
//! A share grows by what has come, not by what was announced. It holds a message until the next
//! one is asked for; by then the reader has done with it. Knows the frames of gRPC's messages, not
//! what is in them.

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream;
use tonic::Status;

use crate::body_budget::BodyShare;

/// Size of a frame's head: a byte of flags, and the length of the message in four.
const HEAD_BYTES: usize = 5;

/// Finds the ends of messages.
#[derive(Debug, Default)]
struct FrameReader {
    /// The head that is read.
    head: [u8; HEAD_BYTES],
    n_head: usize,
    /// Number of bytes until the message that was begun ends.
    n_left: usize,
    /// Number of bytes of the message that was begun, its head included.
    n_open: usize,
}

impl FrameReader {
    /// Takes a piece of the body in; returns the number of bytes since the last end of a message.
    fn push(&mut self, mut piece: &[u8]) -> usize {
        while !piece.is_empty() {
            let is_head = self.n_head < HEAD_BYTES;
            let wanted = if is_head { HEAD_BYTES - self.n_head } else { self.n_left };
            let (part, rest) = piece.split_at(wanted.min(piece.len()));
            if is_head {
                self.head[self.n_head..][..part.len()].copy_from_slice(part);
                self.n_head += part.len();
                let [_, length @ ..] = self.head;
                self.n_left = u32::from_be_bytes(length) as usize;
            } else {
                self.n_left -= part.len();
            }
            self.n_open += part.len();
            if self.n_head == HEAD_BYTES && self.n_left == 0 {
                *self = Self::default();
            }
            piece = rest;
        }
        self.n_open
    }
}

/// A body whose bytes are counted in a share of the memory for bodies.
struct CountedBody {
    body: BodyDataStream,
    frames: FrameReader,
    share: BodyShare,
}

impl CountedBody {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        // asked for more: all complete messages were taken
        if let Err(full) = self.share.resize(self.frames.n_open) {
            return Some(Err(full.into()));
        }
        let piece = match self.body.next().await? {
            Ok(piece) => piece,
            Err(error) => return Some(Err(Status::from_error(Box::new(error)))),
        };
        let grown = self.share.resize(self.frames.n_open + piece.len());
        self.frames.push(&piece);
        Some(grown.map(|()| piece).map_err(Status::from))
    }
}

/// The body, of which `share` is that of the bytes that are read. It fails with the status of the
/// problem where the memory is full.
pub(crate) fn counted(body: Body, share: BodyShare) -> Body {
    let body = body.into_data_stream();
    let counted = CountedBody { body, frames: FrameReader::default(), share };
    let pieces = stream::unfold(counted, |mut counted| async {
        let piece = counted.next().await?;
        Some((piece, counted))
    });
    Body::from_stream(pieces)
}

#[cfg(test)]
mod tests {
    use super::FrameReader;

    #[test]
    fn frame_reader_counts_the_bytes_since_the_last_message_whatever_the_pieces() {
        let lengths = [3_usize, 0, 700, 1, 0, 40];
        let frames = lengths.map(|length| {
            let head = [&[0][..], &(length as u32).to_be_bytes()].concat();
            [head, vec![7; length]].concat()
        });
        let ends = frames.iter().scan(0, |end, frame| {
            *end += frame.len();
            Some(*end)
        });
        let (ends, bytes) = (ends.collect::<Vec<_>>(), frames.concat());
        for size in [1, 2, 3, 5, 6, 64, bytes.len()] {
            let (mut reader, mut at) = (FrameReader::default(), 0);
            for piece in bytes.chunks(size) {
                at += piece.len();
                let before = ends.iter().filter(|end| **end <= at).max().copied().unwrap_or(0);
                assert_eq!(reader.push(piece), at - before, "pieces of {size}, byte {at}");
            }
        }
    }
}
