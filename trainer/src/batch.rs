//! Prompts with completions as tensors: right-padded, with the positions that are trained on.
//!
//! Alignment is fixed here once: the hidden state at position t − 1 predicts token t, and
//! `logprobs[c]` belongs to completion token c.

use tch::{Device, Kind, Tensor};

/// Token ids of one prompt with its completion, borrowed from a table's columns or an example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TokenRow<'a, Id> {
    /// Tokens that are given; at least one.
    pub(crate) prompt: &'a [Id],
    /// Tokens that are trained on.
    pub(crate) completion: &'a [Id],
}

impl<Id> TokenRow<'_, Id> {
    /// Number of tokens of prompt and completion together.
    pub(crate) fn n_tokens(&self) -> usize {
        self.prompt.len() + self.completion.len()
    }
}

/// Rows as tensors on one device: B rows, T tokens of the longest row, C tokens of the longest
/// completion, M completion tokens in all.
pub(crate) struct TokenBatch {
    /// Token ids, padded with 0: [B, T] i64.
    pub(crate) ids: Tensor,
    /// Flat positions (row · T + t) whose hidden states predict completion tokens: `[M]` i64.
    pub(crate) sources: Tensor,
    /// The completion tokens in the same order: `[M]` i64.
    pub(crate) targets: Tensor,
    /// Flat positions (row · C + c) of the same tokens in a [B, C] matrix: `[M]` i64.
    pub(crate) places: Tensor,
    /// 1 for completion tokens, 0 for padding: [B, C] f32.
    pub(crate) mask: Tensor,
}

impl TokenBatch {
    /// Lays rows out.
    pub(crate) fn new<Id: Copy + Into<i64>>(rows: &[TokenRow<'_, Id>], device: Device) -> Self {
        let n_time = rows.iter().map(TokenRow::n_tokens).max().unwrap_or(0);
        let n_completion = rows.iter().map(|row| row.completion.len()).max().unwrap_or(0);
        let mut ids = vec![0i64; rows.len() * n_time];
        let (mut sources, mut targets, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (row_idx, row) in rows.iter().enumerate() {
            let tokens = row.prompt.iter().chain(row.completion);
            for (t, &token) in tokens.enumerate() {
                ids[row_idx * n_time + t] = token.into();
            }
            for (c, &token) in row.completion.iter().enumerate() {
                sources.push((row_idx * n_time + row.prompt.len() + c) as i64 - 1);
                targets.push(token.into());
                places.push((row_idx * n_completion + c) as i64);
            }
        }
        let shape = [rows.len() as i64, n_completion as i64];
        let places = Tensor::from_slice(&places);
        let mask = Tensor::zeros([shape[0] * shape[1]], (Kind::Float, Device::Cpu))
            .index_fill(0, &places, 1.0)
            .view(shape);
        Self {
            ids: Tensor::from_slice(&ids)
                .view([rows.len() as i64, n_time as i64])
                .to_device(device),
            sources: Tensor::from_slice(&sources).to_device(device),
            targets: Tensor::from_slice(&targets).to_device(device),
            places: places.to_device(device),
            mask: mask.to_device(device),
        }
    }

    /// Spreads one value per completion token out: `[M]` → [B, C], 0 elsewhere.
    pub(crate) fn spread(&self, values: &Tensor) -> Tensor {
        let zeros = self.mask.zeros_like().to_kind(values.kind()).view([-1]);
        zeros.scatter(0, &self.places, values).view_as(&self.mask)
    }
}
