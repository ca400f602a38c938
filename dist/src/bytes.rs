//! Collectives of bytes of any length, such as tables and texts. They travel in pieces, so that
//! neither libtorch's lengths nor a rank's memory bound them.

use tch::Tensor;

use crate::collectives::Collectives;
use crate::error::Error;
use crate::planned_call::{Collective, PlannedCall};
use crate::rank_group::{Turn, read_length};

/// Bytes of a piece.
#[cfg(not(test))]
const PIECE_BYTES: usize = 32 << 20;
/// Tests have several pieces of few bytes.
#[cfg(test)]
const PIECE_BYTES: usize = 1 << 10;

/// Bytes of a rank's part of a piece of all, however many ranks there are.
const LEAST_PIECE_BYTES: usize = PIECE_BYTES >> 9;

/// Bytes, in the CPU's memory.
impl Collectives {
    /// Gives rank 0 the bytes of all ranks, in the order of the ranks; the others get none.
    ///
    /// # Errors
    /// As [`Self::sum_f64`].
    pub fn gather_bytes(&self, bytes: Vec<u8>) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let Some(turn) = self.turn()? else { return Ok(Some(vec![bytes])) };
        let lengths = announce_length(&turn, Collective::GatherBytes, bytes.len())?;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let empty = || lengths.iter().map(|length| Vec::with_capacity(*length)).collect();
        let mut of_all: Option<Vec<Vec<u8>>> = self.world().is_first().then(empty);
        // equal lengths: a rank without so many bytes sends zeros, which rank 0 leaves out
        for start in (0..longest).step_by(PIECE_BYTES) {
            let piece_bytes = PIECE_BYTES.min(longest - start);
            let piece = turn.tensor(&piece_of(&bytes, start, piece_bytes))?;
            let n_outputs = of_all.as_ref().map_or(0, Vec::len);
            let outputs = (0..n_outputs).map(|_| turn.zeros(piece_bytes));
            let outputs: Vec<Tensor> = outputs.collect::<Result<_, _>>()?;
            turn.on_small(|small| small.gather(&outputs, &piece))?;
            let collected = of_all.iter_mut().flatten().zip(&lengths).zip(&outputs);
            for ((collected, length), output) in collected {
                let theirs = turn.bytes(output)?;
                collected
                    .extend_from_slice(&theirs[..piece_bytes.min(length.saturating_sub(start))]);
            }
        }
        Ok(of_all)
    }

    /// Gives all ranks the bytes of all, in the order of the ranks.
    ///
    /// # Errors
    /// As [`Self::sum_f64`].
    pub fn all_gather_bytes(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, Error> {
        let Some(turn) = self.turn()? else { return Ok(vec![bytes]) };
        let lengths = announce_length(&turn, Collective::AllGatherBytes, bytes.len())?;
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut of_all: Vec<Vec<u8>> = lengths.iter().map(|n| Vec::with_capacity(*n)).collect();
        // as in `gather_bytes`; here every rank has a piece of each at a time
        let most = (PIECE_BYTES / lengths.len()).max(LEAST_PIECE_BYTES);
        for start in (0..longest).step_by(most) {
            let piece_bytes = most.min(longest - start);
            let pieces = turn.gather_all(&piece_of(&bytes, start, piece_bytes))?;
            let collected = of_all.iter_mut().zip(&lengths);
            for ((collected, length), piece) in collected.zip(pieces.chunks_exact(piece_bytes)) {
                collected
                    .extend_from_slice(&piece[..piece_bytes.min(length.saturating_sub(start))]);
            }
        }
        Ok(of_all)
    }

    /// Gives all ranks the bytes of rank 0. Those of the others are not looked at.
    ///
    /// # Errors
    /// As [`Self::sum_f64`].
    pub fn broadcast_bytes(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        let Some(turn) = self.turn()? else { return Ok(bytes) };
        let length = announce_length(&turn, Collective::BroadcastBytes, bytes.len())?[0];
        bytes.resize(length, 0);
        for piece in bytes.chunks_mut(PIECE_BYTES) {
            let tensor = turn.tensor(piece)?;
            turn.on_small(|small| small.broadcast(&tensor, 0))?;
            piece.copy_from_slice(&turn.bytes(&tensor)?);
        }
        Ok(bytes)
    }
}

/// Tells all ranks the number of this one's bytes, and returns those of all ranks.
fn announce_length(
    turn: &Turn<'_>,
    collective: Collective,
    n_bytes: usize,
) -> Result<Vec<usize>, Error> {
    let ours = u64::try_from(n_bytes).unwrap_or(u64::MAX).to_le_bytes();
    let frames = turn.announce(&PlannedCall::of_values(collective, 0), &ours)?;
    Ok(frames.iter().map(|values| read_length(values)).collect())
}

/// A piece of bytes, with zeros behind them where there are not so many.
fn piece_of(bytes: &[u8], start: usize, piece_bytes: usize) -> Vec<u8> {
    let mut piece = bytes[start.min(bytes.len())..(start + piece_bytes).min(bytes.len())].to_vec();
    piece.resize(piece_bytes, 0);
    piece
}
