//! What a rank is about to do, as the ranks tell each other before they do it. Knows no process
//! groups.

use std::fmt;

use tch::Kind;

/// Bytes of a frame: what one rank tells all others at the beginning of a collective. All frames
/// have one length, so that they fit together even where the ranks are out of step.
pub(crate) const FRAME_BYTES: usize = 256;

const HEAD_BYTES: usize = 4 * size_of::<i64>();

/// Bytes of a frame that carry values.
pub(crate) const INLINE_BYTES: usize = FRAME_BYTES - HEAD_BYTES;

/// Collectives, in the order of [`NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collective {
    AllReduceSum,
    ReduceScatterSum,
    AllGather,
    Broadcast,
    SumF64,
    MaxF64,
    All,
    Any,
    GatherBytes,
    AllGatherBytes,
    BroadcastBytes,
    Barrier,
    Fail,
}

const NAMES: [&str; 13] = [
    "all_reduce_sum",
    "reduce_scatter_sum",
    "all_gather",
    "broadcast",
    "sum_f64",
    "max_f64",
    "all",
    "any",
    "gather_bytes",
    "all_gather_bytes",
    "broadcast_bytes",
    "barrier",
    "fail",
];

/// Number formats of tensors that collectives take.
pub(crate) const FORMATS: [(Kind, &str); 5] = [
    (Kind::Float, "f32"),
    (Kind::BFloat16, "bf16"),
    (Kind::Double, "f64"),
    (Kind::Int64, "i64"),
    (Kind::Uint8, "u8"),
];

impl Collective {
    pub(crate) const fn name(self) -> &'static str {
        NAMES[self as usize]
    }
}

/// A collective with all that has to be the same on all ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlannedCall {
    collective: i64,
    /// Index in [`FORMATS`], or −1.
    format: i64,
    /// Number of values of the larger tensor, or of the numbers.
    n_values: i64,
    /// The rank whose values are copied, or −1.
    root: i64,
}

impl PlannedCall {
    /// A collective of `n_values` numbers, or of none.
    pub(crate) const fn of_values(collective: Collective, n_values: usize) -> Self {
        Self { collective: collective as i64, format: -1, n_values: n_values as i64, root: -1 }
    }

    /// A collective of tensors, the larger of which has `n_values` values of a format.
    pub(crate) fn of_tensors(collective: Collective, kind: Kind, n_values: usize) -> Self {
        let format = FORMATS.iter().position(|(format, _)| *format == kind);
        let format = format.and_then(|idx| i64::try_from(idx).ok()).unwrap_or(-1);
        Self { format, ..Self::of_values(collective, n_values) }
    }

    /// What a rank that has failed does in place of any collective.
    pub(crate) const FAILURE: Self = Self::of_values(Collective::Fail, 0);

    /// The same from one rank to all others.
    pub(crate) fn with_root(self, root: usize) -> Self {
        Self { root: i64::try_from(root).unwrap_or(i64::MAX), ..self }
    }

    /// A frame: this call, then values.
    ///
    /// # Panics
    /// Where there are more than [`INLINE_BYTES`] of them.
    pub(crate) fn frame(&self, values: &[u8]) -> [u8; FRAME_BYTES] {
        let mut frame = [0; FRAME_BYTES];
        let head = [self.collective, self.format, self.n_values, self.root];
        for (to, from) in frame.chunks_exact_mut(8).zip(head) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        frame[HEAD_BYTES..][..values.len()].copy_from_slice(values);
        frame
    }

    /// Reads a frame: the call, and the bytes that may carry values.
    ///
    /// # Panics
    /// Where it is no frame.
    pub(crate) fn read(frame: &[u8]) -> (Self, &[u8]) {
        let (head, values) = frame.split_at(HEAD_BYTES);
        let number = |idx: usize| {
            let bytes = head[idx * 8..][..8].try_into().expect("8 of 32 bytes. This is a bug.");
            i64::from_le_bytes(bytes)
        };
        let [collective, format, n_values, root] = [0, 1, 2, 3].map(number);
        (Self { collective, format, n_values, root }, values)
    }
}

impl fmt::Display for PlannedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |idx: i64| usize::try_from(idx).unwrap_or(usize::MAX);
        f.write_str(NAMES.get(at(self.collective)).unwrap_or(&"collective of another version"))?;
        if self.n_values > 0 {
            write!(f, " of {}", self.n_values)?;
        }
        if let Some((_, format)) = FORMATS.get(at(self.format)) {
            write!(f, " {format}")?;
        }
        if self.root >= 0 {
            write!(f, " from rank {}", self.root)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
