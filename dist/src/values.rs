//! Collectives of numbers, and the barrier. The numbers of all ranks come to every rank, which
//! computes with them in the order of the ranks: same bits everywhere, whatever Gloo's algorithm.

use crate::collectives::Collectives;
use crate::error::Error;
use crate::planned_call::{Collective, INLINE_BYTES, PlannedCall};

/// Bytes of a reason that the ranks tell each other; what is longer is cut.
const MAX_REASON_BYTES: usize = 2_048;

/// Numbers and decisions, in the CPU's memory. As many on each rank.
impl Collectives {
    /// Replaces each number by its sum over all ranks.
    ///
    /// # Errors
    /// [`Error::RankFailed`], [`Error::OutOfStep`], [`Error::PeerLost`], [`Error::TimedOut`] or
    /// [`Error::Unusable`].
    pub fn sum_f64(&self, values: &mut [f64]) -> Result<(), Error> {
        self.combine(Collective::SumF64, values, |a, b| a + b)
    }

    /// Replaces each number by the largest of all ranks; NaN where one rank has NaN.
    ///
    /// # Errors
    /// As [`Self::sum_f64`].
    pub fn max_f64(&self, values: &mut [f64]) -> Result<(), Error> {
        let larger = |a: f64, b: f64| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) };
        self.combine(Collective::MaxF64, values, larger)
    }

    /// Whether all ranks say yes.
    ///
    /// # Errors
    /// As [`Self::sum_f64`].
    pub fn all(&self, yes: bool) -> Result<bool, Error> {
        Ok(self.votes(Collective::All, yes)?.into_iter().all(|yes| yes))
    }

    /// Whether at least one rank says yes.
    ///
    /// # Errors
    /// As [`Self::sum_f64`].
    pub fn any(&self, yes: bool) -> Result<bool, Error> {
        Ok(self.votes(Collective::Any, yes)?.into_iter().any(|yes| yes))
    }

    /// Waits until all ranks have come here.
    ///
    /// # Errors
    /// As [`Self::sum_f64`].
    pub fn barrier(&self) -> Result<(), Error> {
        let Some(turn) = self.turn()? else { return Ok(()) };
        turn.announce(&PlannedCall::of_values(Collective::Barrier, 0), &[])?;
        Ok(())
    }

    /// Tells all ranks that this one has failed. The collective that they make next fails with
    /// [`Error::RankFailed`], whichever it is. Returns the ranks that have failed at the same time,
    /// this one among them, with their reasons; afterwards all ranks may make collectives again. A
    /// rank alone fails alone.
    ///
    /// # Errors
    /// As [`Self::sum_f64`].
    pub fn fail(&self, reason: &str) -> Result<Vec<(usize, String)>, Error> {
        let reason = &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)];
        match self.turn()? {
            Some(turn) => turn.announce_failure(reason),
            None => Ok(vec![(0, reason.to_owned())]),
        }
    }

    fn votes(&self, collective: Collective, yes: bool) -> Result<Vec<bool>, Error> {
        let Some(turn) = self.turn()? else { return Ok(vec![yes]) };
        let votes = turn.announce(&PlannedCall::of_values(collective, 0), &[u8::from(yes)])?;
        Ok(votes.iter().map(|vote| vote[0] != 0).collect())
    }

    fn combine(
        &self,
        collective: Collective,
        values: &mut [f64],
        combined: impl Fn(f64, f64) -> f64,
    ) -> Result<(), Error> {
        let Some(turn) = self.turn()? else { return Ok(()) };
        let ours: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let call = PlannedCall::of_values(collective, values.len());
        let of_all = if ours.len() <= INLINE_BYTES {
            turn.announce(&call, &ours)?
        } else {
            turn.announce(&call, &[])?;
            turn.gather_all(&ours)?.chunks_exact(ours.len()).map(<[u8]>::to_vec).collect()
        };
        for (rank, theirs) in of_all.iter().enumerate() {
            for (value, bytes) in values.iter_mut().zip(theirs.chunks_exact(size_of::<f64>())) {
                let bytes = bytes.try_into().expect("chunks of 8 bytes. This is a bug.");
                let their = f64::from_le_bytes(bytes);
                *value = if rank == 0 { their } else { combined(*value, their) };
            }
        }
        Ok(())
    }
}
