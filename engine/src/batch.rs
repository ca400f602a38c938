//! Input of one forward pass as plain data: tokens, the slots of their keys and values, and the
//! context of each row. It knows nothing of tensors and devices.

use crate::kv::{KvSlot, Span};

/// A row: consecutive tokens of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BatchRow {
    /// Index of the row's first token in the batch.
    pub(crate) start: usize,
    /// Number of the row's tokens in the batch.
    pub(crate) len: usize,
    /// Position of the row's first token in the sequence.
    pub(crate) position: usize,
    /// Spans of the context, the row's own tokens included.
    pub(crate) spans: Vec<Span>,
}

/// A forward pass. Keys and values of all tokens are stored before any token attends to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ForwardBatch {
    /// Token ids `[N]`, row by row.
    pub(crate) tokens: Vec<u32>,
    /// Position of each token in its sequence, `[N]`.
    pub(crate) positions: Vec<usize>,
    /// Slot of each token's keys and values, `[N]`.
    pub(crate) slots: Vec<KvSlot>,
    /// Rows that the tokens form.
    pub(crate) rows: Vec<BatchRow>,
    /// Indices of the tokens whose next-token logits are wanted.
    pub(crate) wanted: Vec<usize>,
}
