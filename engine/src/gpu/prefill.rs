//! Prefill attention, of rows with several tokens. The contexts of a group of rows are gathered
//! from the blocks and go through one call of FlashAttention; on a CPU each row goes through plain
//! softmax with a mask.

use tch::{Kind, Tensor};

use super::arena::LayerArena;
use super::ops::{Heads, Ops};
use crate::batch::BatchRow;
use crate::error::Error;
use crate::ffi::cuda::flash::flash_attention;
use crate::kv::BLOCK_TOKENS;

/// A group of prefilling rows whose contexts are gathered together, for all layers.
pub(super) struct Prefill {
    rows: Vec<BatchRow>,
    /// `[T]` i32: the slots of all contexts, one after the other.
    slots: Tensor,
    /// Start of each row's queries, and of its context: `[rows + 1]` i32 each.
    starts: [Tensor; 2],
    longest: [i64; 2],
    by_flash: bool,
}

/// Number of tokens of a row's context.
fn n_context(row: &BatchRow) -> usize {
    row.position + row.len
}

impl Prefill {
    /// Groups of rows whose contexts have at most `most` tokens together; a longer row is a group
    /// alone. `like` gives the device; `by_flash` needs a GPU.
    pub(super) fn groups(
        rows: &[BatchRow],
        most: usize,
        like: &Tensor,
        by_flash: bool,
    ) -> Result<Vec<Self>, Error> {
        let mut groups: Vec<Vec<BatchRow>> = Vec::new();
        let mut n_gathered = 0;
        for row in rows {
            n_gathered += n_context(row);
            match groups.last_mut() {
                Some(group) if n_gathered <= most => group.push(row.clone()),
                _ => {
                    groups.push(vec![row.clone()]);
                    n_gathered = n_context(row);
                }
            }
        }
        groups.into_iter().map(|group| Self::new(group, like, by_flash)).collect()
    }

    fn new(rows: Vec<BatchRow>, like: &Tensor, by_flash: bool) -> Result<Self, Error> {
        let place = |values: &[i32]| Tensor::f_from_slice(values)?.f_to_device(like.device());
        let spans = rows.iter().flat_map(|row| &row.spans);
        let slots = spans.flat_map(|span| {
            let first = span.block as i32 * BLOCK_TOKENS as i32;
            first..first + span.n_tokens as i32
        });
        let slots = place(&slots.collect::<Vec<_>>())?;
        let lengths = [|row: &BatchRow| row.len, n_context];
        let starts = lengths.map(|length| {
            let mut end = 0;
            let ends = rows.iter().map(|row| {
                end += length(row) as i32;
                end
            });
            place(&std::iter::once(0).chain(ends).collect::<Vec<_>>())
        });
        let [q_starts, k_starts] = starts;
        Ok(Self {
            slots,
            starts: [q_starts?, k_starts?],
            longest: lengths.map(|length| rows.iter().map(length).max().unwrap_or(0) as i64),
            rows,
            by_flash,
        })
    }

    /// Index of these rows' first token in the step, and their number of tokens.
    pub(super) fn place(&self) -> (i64, i64) {
        let n: usize = self.rows.iter().map(|row| row.len).sum();
        (self.rows[0].start as i64, n as i64)
    }

    /// Number of tokens of all contexts.
    pub(super) fn n_gathered(&self) -> i64 {
        self.slots.size()[0]
    }

    /// Attention of these rows' queries in `qkv` [n, (Hq + 2·Hkv)·D] bf16: [M, Hq·D] bf16.
    /// `gathered`, two of [T, Hkv, D] bf16, is overwritten.
    pub(super) fn attend(
        &self,
        ops: &dyn Ops,
        qkv: &Tensor,
        arena: &LayerArena,
        heads: &Heads,
        gathered: &[Tensor; 2],
    ) -> Result<Tensor, Error> {
        ops.gather_kv(arena, &self.slots, gathered)?;
        let [keys, values] = gathered;
        let (start, n_queries) = self.place();
        let q = qkv.f_narrow(0, start, n_queries)?.f_narrow(1, 0, heads.q_width())?;
        let q = q.f_view([n_queries, heads.n_heads, heads.head_dim])?;
        if self.by_flash {
            let starts = [&self.starts[0], &self.starts[1]];
            let out = flash_attention([&q, keys, values], starts, self.longest, heads.scale)?;
            return Ok(out.f_view([n_queries, heads.q_width()])?);
        }
        let (mut q_start, mut k_start) = (0, 0);
        let mut outs = Vec::new();
        for row in &self.rows {
            let (len, n_context) = (row.len as i64, n_context(row) as i64);
            let of_row = |x: &Tensor, start, len| x.f_narrow(0, start, len)?.f_transpose(0, 1);
            let out = masked(
                &of_row(&q, q_start, len)?,
                &of_row(keys, k_start, n_context)?,
                &of_row(values, k_start, n_context)?,
                row.position as i64,
                heads.scale,
            )?; // [Hq, len, D]
            outs.push(out.f_transpose(0, 1)?.f_reshape([len, heads.q_width()])?);
            q_start += len;
            k_start += n_context;
        }
        Ok(Tensor::f_cat(&outs, 0)?)
    }
}

/// Causal attention of one sequence in f32: `q` [Hq, M, D], `k` and `v` [Hkv, T, D] → [Hq, M, D]
/// bf16. `position` keys precede the first query's own.
fn masked(q: &Tensor, k: &Tensor, v: &Tensor, position: i64, scale: f64) -> Result<Tensor, Error> {
    let (n_heads, len, head_dim) = (q.size()[0], q.size()[1], q.size()[2]);
    let (n_kv_heads, n_context) = (k.size()[0], k.size()[1]);
    let wide = |x: &Tensor| x.f_to_kind(Kind::Float);
    let q = wide(q)?.f_reshape([n_kv_heads, n_heads / n_kv_heads * len, head_dim])?;
    let scores = q.f_matmul(&wide(k)?.f_transpose(1, 2)?)? * scale;
    let options = (Kind::Int64, q.device());
    let keys = Tensor::f_arange(n_context, options)?.f_unsqueeze(0)?;
    let last = Tensor::f_arange(len, options)?.f_unsqueeze(1)? + position;
    let hidden = keys.f_gt_tensor(&last)?; // [M, T]
    let scores = scores.f_view([n_heads, len, n_context])?;
    let scores = scores.f_masked_fill(&hidden, f64::NEG_INFINITY)?;
    let weights = scores.f_softmax(-1, Kind::Float)?.f_view([n_kv_heads, -1, n_context])?;
    let out = weights.f_matmul(&wide(v)?)?; // [Hkv, G·M, D]
    Ok(out.f_view([n_heads, len, head_dim])?.f_to_kind(Kind::BFloat16)?)
}
