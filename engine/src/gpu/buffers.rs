//! Memory that all steps share, allocated once: a decoding step allocates nothing, so that it can
//! be recorded as a graph.

use tch::{Device, Kind, Tensor};

use super::device_batch::{self, DeviceBatch};
use super::ops::{Activations, Heads};
use super::tuning::n_splits;
use crate::config::ModelConfig;
use crate::error::Error;

/// Sizes that the buffers have room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Maximum number of tokens per step.
    pub(super) n_tokens: usize,
    /// Maximum number of decoding rows, and of rows of logits, per step.
    pub(super) n_rows: usize,
    /// Maximum number of spans per decoding row.
    pub(super) n_spans: usize,
    /// Maximum number of tokens whose keys and values are gathered at a time.
    pub(super) n_gathered: usize,
}

impl Capacity {
    /// Bytes of the buffers for a model.
    pub(super) fn bytes(&self, config: &ModelConfig) -> usize {
        let heads = heads(config);
        let width = widest(config);
        let per_token = 4 * config.hidden_size // residual
            + 2 * config.hidden_size // what is added to it
            + 3 * width + 4 // activations in bf16 and FP8
            + 2 * heads.qkv_width() as usize
            + 4 * config.intermediate_size;
        let splits = most_splits(self.n_rows);
        let per_split = 4 * (heads.q_width() + heads.n_heads) as usize;
        self.n_tokens * per_token
            + splits * per_split
            + self.n_rows * 2 * padded_vocab(config)
            + 4 * device_batch::count(self.n_tokens, self.n_rows, self.n_spans)
            + self.n_gathered * 4 * config.n_kv_heads * config.head_dim
    }
}

/// Number of (row, split) pairs that any number of rows up to `n_rows` needs, cascade splits
/// included.
fn most_splits(n_rows: usize) -> usize {
    (1..=n_rows).map(|rows| rows * 2 * n_splits(rows)).max().unwrap_or(0)
}

pub(super) fn heads(config: &ModelConfig) -> Heads {
    Heads {
        n_heads: config.n_heads as i64,
        n_kv_heads: config.n_kv_heads as i64,
        head_dim: config.head_dim as i64,
        scale: config.attention_scale(),
    }
}

/// Width of a row of logits: the vocabulary, and what the sampling kernel's reads of 16 bytes take
/// beyond it.
fn padded_vocab(config: &ModelConfig) -> usize {
    config.vocab_size.next_multiple_of(8)
}

/// Number of inputs of the widest matrix.
fn widest(config: &ModelConfig) -> usize {
    let q_width = config.n_heads * config.head_dim;
    config.hidden_size.max(q_width).max(config.intermediate_size)
}

/// Buffers of one runner; their methods give views of the first rows.
pub(super) struct Buffers {
    pub(super) capacity: Capacity,
    heads: Heads,
    pub(super) numbers: DeviceBatch,
    residual: Tensor,
    added: Tensor,
    plain: Tensor,
    fp8: Tensor,
    scale: Tensor,
    qkv: Tensor,
    gate_up: Tensor,
    partial: Tensor,
    lse: Tensor,
    gathered: Tensor,
    logits: Tensor,
    hidden: i64,
    intermediate: i64,
    vocab: i64,
    padded_vocab: i64,
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
        let padded = padded_vocab(config) as i64;
        let intermediate = config.intermediate_size as i64;
        let width = widest(config) as i64;
        let zeros = |n_values: i64, kind| Tensor::f_zeros([n_values], (kind, device));
        let numbers =
            DeviceBatch::new(capacity.n_tokens, capacity.n_rows, capacity.n_spans, device)?;
        let n_gathered = 2 * capacity.n_gathered as i64 * heads.n_kv_heads * heads.head_dim;
        Ok(Self {
            capacity,
            heads,
            numbers,
            residual: zeros(n_tokens * hidden, Kind::Float)?,
            added: zeros(n_tokens * hidden, Kind::BFloat16)?,
            plain: zeros(n_tokens * width, Kind::BFloat16)?,
            fp8: zeros(n_tokens * width, Kind::Uint8)?.f_view_dtype(Kind::Float8e4m3fn)?,
            scale: zeros(n_tokens, Kind::Float)?,
            qkv: zeros(n_tokens * heads.qkv_width(), Kind::BFloat16)?,
            gate_up: zeros(n_tokens * 2 * intermediate, Kind::BFloat16)?,
            partial: zeros(splits * heads.q_width(), Kind::Float)?,
            lse: zeros(splits * heads.n_heads, Kind::Float)?,
            gathered: zeros(n_gathered, Kind::BFloat16)?,
            // tokens beyond the vocabulary have no probability
            logits: zeros(n_rows * padded, Kind::BFloat16)?.f_fill_(f64::NEG_INFINITY)?,
            hidden,
            intermediate,
            vocab,
            padded_vocab: padded,
        })
    }

    /// Memory for gathered keys and values: two of [T, Hkv, D] bf16.
    pub(super) fn gathered(&self, n_tokens: i64) -> Result<[Tensor; 2], Error> {
        let Heads { n_kv_heads, head_dim, .. } = self.heads;
        let n_values = n_tokens * n_kv_heads * head_dim;
        let part = |which: i64| -> Result<Tensor, Error> {
            let flat = self.gathered.f_narrow(0, which * n_values, n_values)?;
            Ok(flat.f_view([n_tokens, n_kv_heads, head_dim])?)
        };
        Ok([part(0)?, part(1)?])
    }

    /// The residual stream: [n, H] f32.
    pub(super) fn residual(&self, n: i64) -> Result<Tensor, Error> {
        view(&self.residual, n, self.hidden)
    }

    /// What is added to the residual stream: [n, H] bf16.
    pub(super) fn added(&self, n: i64) -> Result<Tensor, Error> {
        view(&self.added, n, self.hidden)
    }

    /// Inputs of a product: [n, width], in FP8 or bf16.
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

    /// Gate and up projections: [n, 2·I] bf16.
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

    /// Logits as they are sampled from: [n, V rounded up to 8] bf16, -inf beyond V.
    pub(super) fn logits(&self, n: i64) -> Result<Tensor, Error> {
        view(&self.logits, n, self.padded_vocab)
    }

    /// Logits as they are computed: [n, V] bf16, a view of [`Buffers::logits`].
    pub(super) fn vocab_logits(&self, n: i64) -> Result<Tensor, Error> {
        Ok(self.logits(n)?.f_narrow(1, 0, self.vocab)?)
    }
}

fn view(flat: &Tensor, n: i64, width: i64) -> Result<Tensor, Error> {
    Ok(flat.f_narrow(0, 0, n * width)?.f_view([n, width])?)
}
