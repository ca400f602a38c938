//! Collectives of bytes of any length, such as tables and texts. They travel in pieces, so that
//! neither libtorch's lengths nor a rank's memory bound them.

use tch::{Device, Kind, Tensor};

use crate::collectives::Collectives;
use crate::error::Error;
use crate::planned_call::{Collective, PlannedCall};
use crate::rank_group::Turn;

/// Bytes of a piece.
#[cfg(not(test))]
const PIECE_BYTES: usize = 32 << 20;
/// Tests have several pieces of few bytes.
#[cfg(test)]
const PIECE_BYTES: usize = 1 << 10;

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
        let mut of_all = self.world().is_first().then(|| vec![Vec::new(); lengths.len()]);
        // equal lengths: a rank without so many bytes sends zeros, which rank 0 leaves out
        for start in (0..longest).step_by(PIECE_BYTES) {
            let piece_bytes = PIECE_BYTES.min(longest - start);
            let mut piece = vec![0; piece_bytes];
            let ours = &bytes[start.min(bytes.len())..(start + piece_bytes).min(bytes.len())];
            piece[..ours.len()].copy_from_slice(ours);
            let piece = Tensor::f_from_slice(&piece)?;
            let mut outputs = Vec::new();
            if of_all.is_some() {
                for _ in &lengths {
                    outputs.push(Tensor::f_zeros(piece.size(), (Kind::Uint8, Device::Cpu))?);
                }
            }
            turn.on_small(|small| small.gather(&outputs, &piece))?;
            let collected = of_all.iter_mut().flatten().zip(&lengths).zip(&outputs);
            for ((collected, length), output) in collected {
                let theirs = Vec::<u8>::try_from(output)?;
                collected
                    .extend_from_slice(&theirs[..piece_bytes.min(length.saturating_sub(start))]);
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
            let tensor = Tensor::f_from_slice(piece)?;
            turn.on_small(|small| small.broadcast(&tensor, 0))?;
            piece.copy_from_slice(&Vec::<u8>::try_from(&tensor)?);
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
    let length = |frame: Vec<u8>| {
        let bytes = frame[..8].try_into().expect("frames have more bytes. This is a bug.");
        usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX)
    };
    Ok(frames.into_iter().map(length).collect())
}
