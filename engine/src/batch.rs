//! One forward pass as plain numbers: which tokens, where their keys and values go, what they see.

use crate::kv::{Slot, Span};

/// Tokens of one sequence that follow each other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BatchRow {
    /// Its first token in the batch.
    pub(crate) start: usize,
    /// Its tokens in the batch.
    pub(crate) len: usize,
    /// The place of its first token in the sequence.
    pub(crate) position: usize,
    /// The sequence so far, the row's own tokens included.
    pub(crate) spans: Vec<Span>,
}

/// A forward pass. Keys and values of all tokens are stored before any token looks at them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ForwardBatch {
    /// The tokens, row by row: N.
    pub(crate) tokens: Vec<u32>,
    /// Their places in their sequences.
    pub(crate) positions: Vec<usize>,
    /// Where their keys and values go.
    pub(crate) slots: Vec<Slot>,
    /// The rows.
    pub(crate) rows: Vec<BatchRow>,
    /// Tokens whose next-token logits are wanted.
    pub(crate) wanted: Vec<usize>,
}
