//! A batch in the GPU's order: rows of one token first, which are decoded together, then rows of
//! several tokens. Plain numbers, no tensors.

use crate::batch::{BatchRow, ForwardBatch};
use crate::kv::{BLOCK_TOKENS, Span};

/// A batch with its rows in order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct GpuBatch {
    pub(super) tokens: Vec<i32>,
    pub(super) positions: Vec<i32>,
    /// Slot of each token: block · BLOCK_TOKENS + offset.
    pub(super) slots: Vec<i32>,
    /// Context of each decoding row, a number per span: block << 5 | tokens.
    pub(super) decoding: Vec<Vec<i32>>,
    /// Rows of several tokens; `start` counts tokens of this batch.
    pub(super) prefilling: Vec<BatchRow>,
    /// Indices of the tokens whose logits are wanted, in the order of the forward batch.
    pub(super) wanted: Vec<i64>,
}

impl GpuBatch {
    pub(super) fn new(batch: &ForwardBatch) -> Self {
        let (decoding, prefilling): (Vec<&BatchRow>, Vec<&BatchRow>) =
            batch.rows.iter().partition(|row| row.len == 1);
        let mut table = Self::default();
        let mut moved = vec![0; batch.tokens.len()];
        for row in decoding.iter().chain(&prefilling) {
            let start = table.tokens.len();
            for (offset, at) in (row.start..row.start + row.len).enumerate() {
                moved[at] = (start + offset) as i64;
                table.tokens.push(batch.tokens[at] as i32);
                table.positions.push(batch.positions[at] as i32);
                let slot = batch.slots[at];
                let place = slot.block as usize * BLOCK_TOKENS + slot.offset as usize;
                table.slots.push(place as i32);
            }
            if row.len > 1 {
                table.prefilling.push(BatchRow { start, ..(*row).clone() });
            } else {
                table.decoding.push(row.spans.iter().map(pack).collect());
            }
        }
        table.wanted = batch.wanted.iter().map(|&at| moved[at]).collect();
        table
    }

    pub(super) fn n_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Whether every row is one token with wanted logits, in order: graphs are recorded for such
    /// batches only.
    pub(super) fn is_plain_decode(&self) -> bool {
        self.prefilling.is_empty() && self.wanted.iter().copied().eq(0..self.n_tokens() as i64)
    }

    /// Number of tokens of the longest context among rows of several tokens.
    pub(super) fn longest_prefill(&self) -> usize {
        self.prefilling.iter().map(|row| row.position + row.len).max().unwrap_or(0)
    }

    /// Number of spans of the longest context among decoding rows.
    pub(super) fn longest(&self) -> usize {
        self.decoding.iter().map(Vec::len).max().unwrap_or(0)
    }
}

fn pack(span: &Span) -> i32 {
    (span.block << 5 | span.n_tokens) as i32
}
