//! Memory that the steps share, set aside once: nothing is allocated while a step is computed, so that
//! steps can be recorded.

use tch::{Device, Kind, Tensor};

use super::ops::{Activations, Contexts, Heads, Shared};
use super::sharing::{BUNDLE_ROWS, Sharing, most_bundles};
use super::table::{Table, n_splits};
use crate::config::ModelConfig;
use crate::error::Error;

/// How much is set aside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    /// Most tokens of a step.
    pub(super) n_tokens: usize,
    /// Most rows of a step, and most logits.
    pub(super) n_rows: usize,
    /// Most blocks of a context.
    pub(super) n_spans: usize,
}

impl Capacity {
    /// Bytes that are set aside for a model.
    pub(super) fn bytes(&self, config: &ModelConfig) -> usize {
        let heads = heads(config);
        let width = widest(config);
        let per_token = 4 * config.hidden_size // residual
            + 2 * config.hidden_size // what is added to it
            + 3 * width + 4 // activations in bf16 and FP8
            + 2 * heads.qkv_width() as usize
            + 4 * config.intermediate_size
            + 20;
        let splits = most_splits(self.n_rows);
        let per_split = 4 * (heads.q_width() + heads.n_heads) as usize;
        self.n_tokens * per_token
            + splits * per_split
            + self.n_rows * (2 * config.vocab_size + 4 * self.n_spans + 8)
            + most_bundles(self.n_rows) * 4 * (BUNDLE_ROWS + 1)
    }
}

/// Rows of partial results that any number of rows up to `n_rows` needs, those of bundles included.
fn most_splits(n_rows: usize) -> usize {
    (1..=n_rows).map(|rows| rows * 2 * n_splits(rows)).max().unwrap_or(0)
}

pub(super) fn heads(config: &ModelConfig) -> Heads {
    Heads {
        n_heads: config.n_heads as i64,
        n_kv_heads: config.n_kv_heads as i64,
        head_dim: config.head_dim as i64,
    }
}

/// Inputs of the widest matrix.
fn widest(config: &ModelConfig) -> usize {
    let q_width = config.n_heads * config.head_dim;
    config.hidden_size.max(q_width).max(config.intermediate_size)
}

/// See the module.
pub(super) struct Buffers {
    pub(super) capacity: Capacity,
    heads: Heads,
    tokens: Tensor,
    positions: Tensor,
    slots: Tensor,
    spans: Tensor,
    n_spans: Tensor,
    n_shared: Tensor,
    bundle_rows: Tensor,
    bundle_spans: Tensor,
    residual: Tensor,
    added: Tensor,
    plain: Tensor,
    fp8: Tensor,
    scale: Tensor,
    qkv: Tensor,
    gate_up: Tensor,
    partial: Tensor,
    lse: Tensor,
    logits: Tensor,
    hidden: i64,
    intermediate: i64,
    vocab: i64,
}

impl Buffers {
    pub(super) fn new(
        config: &ModelConfig,
        capacity: Capacity,
        device: Device,
    ) -> Result<Self, Error> {
        let heads = heads(config);
        let (n_tokens, n_rows) = (capacity.n_tokens as i64, capacity.n_rows as i64);
        let splits = most_splits(capacity.n_rows) as i64;
        let (hidden, vocab) = (config.hidden_size as i64, config.vocab_size as i64);
        let intermediate = config.intermediate_size as i64;
        let width = widest(config) as i64;
        let zeros = |n_values: i64, kind| Tensor::f_zeros([n_values], (kind, device));
        Ok(Self {
            capacity,
            heads,
            tokens: zeros(n_tokens, Kind::Int64)?,
            positions: zeros(n_tokens, Kind::Int)?,
            slots: zeros(n_tokens, Kind::Int64)?,
            spans: zeros(n_rows * capacity.n_spans as i64, Kind::Int)?,
            n_spans: zeros(n_rows, Kind::Int)?,
            n_shared: zeros(n_rows, Kind::Int)?,
            bundle_rows: zeros((most_bundles(capacity.n_rows) * BUNDLE_ROWS) as i64, Kind::Int)?,
            bundle_spans: zeros(most_bundles(capacity.n_rows) as i64, Kind::Int)?,
            residual: zeros(n_tokens * hidden, Kind::Float)?,
            added: zeros(n_tokens * hidden, Kind::BFloat16)?,
            plain: zeros(n_tokens * width, Kind::BFloat16)?,
            fp8: zeros(n_tokens * width, Kind::Uint8)?.f_view_dtype(Kind::Float8e4m3fn)?,
            scale: zeros(n_tokens, Kind::Float)?,
            qkv: zeros(n_tokens * heads.qkv_width(), Kind::BFloat16)?,
            gate_up: zeros(n_tokens * 2 * intermediate, Kind::BFloat16)?,
            partial: zeros(splits * heads.q_width(), Kind::Float)?,
            lse: zeros(splits * heads.n_heads, Kind::Float)?,
            logits: zeros(n_rows * vocab, Kind::BFloat16)?,
            hidden,
            intermediate,
            vocab,
        })
    }

    /// Copies a batch to the device, filled up to `n_rows` rows of one token if it is more than there
    /// are.
    pub(super) fn load(
        &self,
        table: &Table,
        n_rows: usize,
        sharing: Option<&Sharing>,
    ) -> Result<(), Error> {
        let n_tokens = table.n_tokens().max(n_rows);
        let fill = |mut values: Vec<i64>, with: i64| {
            values.resize(n_tokens, with);
            values
        };
        let copy = |to: &Tensor, from: &Tensor| -> Result<(), Error> {
            Ok(to.f_narrow(0, 0, from.size()[0])?.f_copy_(from)?)
        };
        copy(&self.tokens, &Tensor::f_from_slice(&fill(table.tokens.clone(), 0))?)?;
        copy(&self.slots, &Tensor::f_from_slice(&fill(table.slots.clone(), -1))?)?;
        let mut positions = table.positions.clone();
        positions.resize(n_tokens, 0);
        copy(&self.positions, &Tensor::f_from_slice(&positions)?)?;
        let width = self.capacity.n_spans;
        let mut spans = vec![0; n_rows * width];
        let mut n_spans = vec![0; n_rows];
        for (row, context) in table.decoding.iter().enumerate() {
            spans[row * width..][..context.len()].copy_from_slice(context);
            n_spans[row] = context.len() as i32;
        }
        copy(&self.spans, &Tensor::f_from_slice(&spans)?)?;
        copy(&self.n_spans, &Tensor::f_from_slice(&n_spans)?)?;
        let Some(sharing) = sharing else { return Ok(()) };
        let padded = |values: &[i32], n: usize| {
            let mut values = values.to_vec();
            values.resize(n, 0);
            Tensor::f_from_slice(&values)
        };
        // those that are not there have no spans: their rows are not looked at
        let n_bundles = most_bundles(n_rows);
        copy(&self.n_shared, &padded(&sharing.n_shared, n_rows)?)?;
        copy(&self.bundle_rows, &padded(sharing.rows.as_flattened(), n_bundles * BUNDLE_ROWS)?)?;
        copy(&self.bundle_spans, &padded(&sharing.n_spans, n_bundles)?)
    }

    pub(super) fn tokens(&self, n: i64) -> Result<Tensor, Error> {
        Ok(self.tokens.f_narrow(0, 0, n)?)
    }

    pub(super) fn positions(&self, n: i64) -> Result<Tensor, Error> {
        Ok(self.positions.f_narrow(0, 0, n)?)
    }

    pub(super) fn slots(&self, n: i64) -> Result<Tensor, Error> {
        Ok(self.slots.f_narrow(0, 0, n)?)
    }

    /// The contexts of the first rows, with their bundles where rows share something.
    pub(super) fn contexts(&self, n_rows: i64, is_shared: bool) -> Result<Contexts, Error> {
        let n_splits = n_splits(n_rows as usize) as i64;
        let n_bundles = most_bundles(n_rows as usize) as i64;
        let shared = || -> Result<Shared, Error> {
            Ok(Shared {
                n_shared: self.n_shared.f_narrow(0, 0, n_rows)?,
                rows: view(&self.bundle_rows, n_bundles, BUNDLE_ROWS as i64)?,
                n_spans: self.bundle_spans.f_narrow(0, 0, n_bundles)?,
                n_splits,
            })
        };
        Ok(Contexts {
            spans: view(&self.spans, n_rows, self.capacity.n_spans as i64)?,
            n_spans: self.n_spans.f_narrow(0, 0, n_rows)?,
            n_splits,
            shared: is_shared.then(shared).transpose()?,
        })
    }

    /// The residual stream: [n, H] f32.
    pub(super) fn residual(&self, n: i64) -> Result<Tensor, Error> {
        view(&self.residual, n, self.hidden)
    }

    /// What is added to the residual stream: [n, H] bf16.
    pub(super) fn added(&self, n: i64) -> Result<Tensor, Error> {
        view(&self.added, n, self.hidden)
    }

    /// Inputs of a matrix: [n, width], in FP8 or bf16.
    pub(super) fn activations(&self, n: i64, width: i64, fp8: bool) -> Result<Activations, Error> {
        Ok(match fp8 {
            true => Activations::Fp8(view(&self.fp8, n, width)?, self.scale.f_narrow(0, 0, n)?),
            false => Activations::Plain(view(&self.plain, n, width)?),
        })
    }

    /// Queries, keys and values: [n, (Hq + 2·Hkv)·D] bf16.
    pub(super) fn qkv(&self, n: i64) -> Result<Tensor, Error> {
        view(&self.qkv, n, self.heads.qkv_width())
    }

    /// [n, 2·I] bf16.
    pub(super) fn gate_up(&self, n: i64) -> Result<Tensor, Error> {
        view(&self.gate_up, n, 2 * self.intermediate)
    }

    /// Partial attention of decoding rows: [R, S, Hq·D] and [R, S, Hq] f32.
    pub(super) fn partial(&self, n_rows: i64, n_splits: i64) -> Result<[Tensor; 2], Error> {
        let of = |flat: &Tensor, width: i64| -> Result<Tensor, Error> {
            Ok(view(flat, n_rows * n_splits, width)?.f_view([n_rows, n_splits, width])?)
        };
        Ok([of(&self.partial, self.heads.q_width())?, of(&self.lse, self.heads.n_heads)?])
    }

    /// [n, V] bf16.
    pub(super) fn logits(&self, n: i64) -> Result<Tensor, Error> {
        view(&self.logits, n, self.vocab)
    }
}

fn view(flat: &Tensor, n: i64, width: i64) -> Result<Tensor, Error> {
    Ok(flat.f_narrow(0, 0, n * width)?.f_view([n, width])?)
}
