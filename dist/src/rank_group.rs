//! This process's connections to the other ranks: one collective after another, each announced, and
//! none after a failure. Knows no rendezvous, and not what tensors and bytes mean.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::fault;
use crate::ffi::{PendingWork, ProcessGroup, Store, Words};
use crate::peers::Peers;
use crate::planned_call::{FRAME_BYTES, PlannedCall};

/// The two groups of a rank: what is small does not queue behind tensors, and never needs a GPU.
pub(crate) struct Lanes {
    pub(crate) tensors: ProcessGroup,
    pub(crate) small: ProcessGroup,
    /// Rank 0 may serve it to all others.
    pub(crate) _store: Store,
}

impl Lanes {
    fn set_timeout(&self, limit: Duration) -> Result<(), Words> {
        self.small.set_timeout(limit)?;
        self.tensors.set_timeout(limit)
    }
}

/// The ranks, from the inside of one.
pub(crate) struct RankGroup {
    pub(crate) rank: usize,
    pub(crate) size: usize,
    limit: Duration,
    lanes: Mutex<Option<Lanes>>,
    pub(crate) peers: Peers,
    failure: OnceLock<Error>,
}

impl RankGroup {
    pub(crate) fn new(
        (rank, size): (usize, usize),
        limit: Duration,
        lanes: Lanes,
        peers: Peers,
    ) -> Self {
        let lanes = Mutex::new(Some(lanes));
        Self { rank, size, limit, lanes, peers, failure: OnceLock::new() }
    }

    /// The right to make one collective.
    ///
    /// # Errors
    /// [`Error::Unusable`] after a failure.
    pub(crate) fn turn(&self) -> Result<Turn<'_>, Error> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        match self.failure.get() {
            Some(cause) => Err(Error::Unusable { cause: Box::new(cause.clone()) }),
            None => Ok(Turn { group: self, lanes }),
        }
    }

    /// Waits for the end of a collective.
    pub(crate) fn finish(&self, work: PendingWork) -> Result<(), Error> {
        work.wait().map_err(|words| self.fail(&words))
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// Changes the time limit of collectives from that of joining to that of work.
    pub(crate) fn set_limit(&mut self, limit: Duration) -> Result<(), Words> {
        self.limit = limit;
        match self.lanes.get_mut().unwrap_or_else(PoisonError::into_inner) {
            Some(lanes) => lanes.set_timeout(limit),
            None => Ok(()),
        }
    }

    fn fail(&self, words: &Words) -> Error {
        let mut error = fault::of_collective(words, self.limit);
        if let Error::PeerLost { rank, peer, .. } = &mut error {
            *rank = self.peers.first_lost(*peer);
        }
        self.note(error)
    }

    /// Notes a failure, also one of this rank alone: the others go on, and this one is out of step.
    /// Later failures are consequences of the first.
    fn note(&self, error: Error) -> Error {
        let _ = self.failure.set(error.clone());
        error
    }
}

impl Drop for RankGroup {
    fn drop(&mut self) {
        let lanes = self.lanes.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        match lanes {
            Some(Lanes { tensors, small, _store }) if self.failure.get().is_none() => {
                tensors.close();
                small.close();
            }
            // destructors wait for work under way, which may never end
            lanes => std::mem::forget(lanes),
        }
    }
}

/// The right to make one collective, before which no other one of this process begins.
pub(crate) struct Turn<'a> {
    group: &'a RankGroup,
    lanes: MutexGuard<'a, Option<Lanes>>,
}

impl<'a> Turn<'a> {
    pub(crate) fn group(&self) -> &'a RankGroup {
        self.group
    }

    /// Tells all ranks what this one is about to do, with a few bytes beside, and returns the bytes
    /// of all ranks, each padded to the length of a frame.
    ///
    /// # Errors
    /// [`Error::RankFailed`] where a rank has failed, [`Error::OutOfStep`] where one is about to do
    /// something else.
    pub(crate) fn announce(
        &self,
        call: &PlannedCall,
        values: &[u8],
    ) -> Result<Vec<Vec<u8>>, Error> {
        let frames = self.gather_all(&call.frame(values))?;
        if let Some((rank, reason)) = self.failures(&frames, "")?.into_iter().next() {
            return Err(Error::RankFailed { rank, reason });
        }
        let frames = frames.chunks_exact(FRAME_BYTES).map(PlannedCall::read);
        let mut of_all = Vec::with_capacity(self.group.size);
        for (rank, (theirs, values)) in frames.enumerate() {
            if theirs != *call {
                return Err(self.group.note(Error::OutOfStep {
                    our_rank: self.group.rank,
                    ours: call.to_string(),
                    their_rank: rank,
                    theirs: theirs.to_string(),
                }));
            }
            of_all.push(values.to_owned());
        }
        Ok(of_all)
    }

    /// Tells all ranks that this one has failed, in place of the collective that they make, and
    /// returns the ranks that have failed, with their reasons.
    pub(crate) fn announce_failure(&self, reason: &str) -> Result<Vec<(usize, String)>, Error> {
        let length = (reason.len() as u64).to_le_bytes();
        let frames = self.gather_all(&PlannedCall::FAILURE.frame(&length))?;
        self.failures(&frames, reason)
    }

    /// The ranks that have failed, with their reasons, which all ranks give each other where there
    /// are some. `ours` is this rank's.
    fn failures(&self, frames: &[u8], ours: &str) -> Result<Vec<(usize, String)>, Error> {
        let length = |frame: &[u8]| match PlannedCall::read(frame) {
            (PlannedCall::FAILURE, values) => Some(read_length(values)),
            _ => None,
        };
        let lengths: Vec<_> = frames.chunks_exact(FRAME_BYTES).map(length).collect();
        let Some(longest) = lengths.iter().flatten().copied().max() else { return Ok(Vec::new()) };
        let mut padded = ours.as_bytes().to_vec();
        padded.resize(longest, 0);
        let texts = match longest {
            0 => Vec::new(),
            _ => self.gather_all(&padded)?,
        };
        let failure = |(rank, length): (usize, Option<usize>)| {
            let text = &texts[rank * longest..][..length?];
            Some((rank, String::from_utf8_lossy(text).into_owned()))
        };
        Ok(lengths.into_iter().enumerate().filter_map(failure).collect())
    }

    /// The bytes of all ranks, which have the same length on each, one after the other.
    pub(crate) fn gather_all(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let input = self.tensor(bytes)?;
        let output = self.zeros(bytes.len() * self.group.size)?;
        self.on_small(|small| small.all_gather(&output, &input))?;
        self.bytes(&output)
    }

    /// Bytes as a tensor.
    pub(crate) fn tensor(&self, bytes: &[u8]) -> Result<Tensor, Error> {
        Tensor::f_from_slice(bytes).map_err(|error| self.group.note(error.into()))
    }

    /// Room for bytes.
    pub(crate) fn zeros(&self, n_bytes: usize) -> Result<Tensor, Error> {
        let n_bytes = i64::try_from(n_bytes).unwrap_or(i64::MAX);
        let made = Tensor::f_zeros([n_bytes], (Kind::Uint8, Device::Cpu));
        made.map_err(|error| self.group.note(error.into()))
    }

    /// The bytes of a tensor.
    pub(crate) fn bytes(&self, tensor: &Tensor) -> Result<Vec<u8>, Error> {
        Vec::try_from(tensor).map_err(|error: tch::TchError| self.group.note(error.into()))
    }

    /// Makes a collective of small things, and waits for its end.
    pub(crate) fn on_small(
        &self,
        start: impl FnOnce(&ProcessGroup) -> Result<PendingWork, Words>,
    ) -> Result<(), Error> {
        let work = start(&self.lanes().small).map_err(|words| self.group.fail(&words))?;
        self.group.finish(work)
    }

    /// Starts a collective of tensors.
    pub(crate) fn on_tensors(
        &self,
        start: impl FnOnce(&ProcessGroup) -> Result<PendingWork, Words>,
    ) -> Result<PendingWork, Error> {
        start(&self.lanes().tensors).map_err(|words| self.group.fail(&words))
    }

    fn lanes(&self) -> &Lanes {
        self.lanes.as_ref().expect("only dropping takes the groups. This is a bug.")
    }
}

/// The number of bytes that the values of a frame begin with.
pub(crate) fn read_length(values: &[u8]) -> usize {
    let bytes = values[..8].try_into().expect("frames have more bytes. This is a bug.");
    usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX)
}
