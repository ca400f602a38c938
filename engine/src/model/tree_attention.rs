//! Causal attention over a batch of trees, forward and backward.
//!
//! A token of a branch attends to its prefix and to its branch. Both parts are computed apart, and
//! merged by their log-sum-exp: the keys and values of a prefix are neither copied nor computed
//! again for each branch, and there are no masks. Segments of similar length share a call.
//!
//! Queries, keys and values arrive rotated and flat. This file knows nothing of projections.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::attention::repeat_heads;
use super::attention_kernel::{self as kernel, Attended, Scores};
use super::tree::{Segment, TreeLayout, rectangles};
use crate::error::Error;

/// Rows of tokens as a rectangle, shorter ones padded with their last token.
struct Rectangle {
    n_rows: i64,
    n_time: i64,
    /// The token at each place: [B·T] i64.
    tokens: Tensor,
    /// The places that are no padding, and their tokens, `[n]` i64 each; none without padding.
    filled: Option<(Tensor, Tensor)>,
}

/// One call: the tokens of `queries` attend to those of `keys`, or causally to themselves.
struct AttentionCall {
    queries: Rectangle,
    keys: Option<Rectangle>,
}

/// The attention of a batch of trees.
pub(super) struct TreeAttention {
    calls: Vec<AttentionCall>,
    scale: f64,
}

/// What the gradient of attention is computed from, beside queries, keys and values.
pub(super) struct AttendedTokens {
    /// [N, Hq, D]
    pub(super) out: Tensor,
    /// [N, Hq] f32, f64 of f64 inputs.
    lse: Tensor,
}

impl Rectangle {
    /// `n_time`: number of tokens of the longest row.
    fn new(rows: &[Vec<i64>], device: Device) -> Self {
        let n_time = rows.iter().map(Vec::len).max().unwrap_or(0);
        let (mut tokens, mut filled) = (Vec::new(), Vec::new());
        for row in rows {
            let start = tokens.len();
            filled.extend((start..start + row.len()).map(|place| place as i64));
            tokens.extend(row);
            tokens.resize(start + n_time, row[row.len() - 1]);
        }
        let of = |numbers: &[i64]| Tensor::from_slice(numbers).to_device(device);
        let is_padded = filled.len() < tokens.len();
        let filled = is_padded.then(|| (of(&filled), of(&rows.concat())));
        Self { n_rows: rows.len() as i64, n_time: n_time as i64, tokens: of(&tokens), filled }
    }

    /// The rows of `x` [N, ..]: [B, T, ..].
    fn gather(&self, x: &Tensor) -> Tensor {
        let gathered = x.index_select(0, &self.tokens);
        let tail = &x.size()[1..];
        gathered.view(&[&[self.n_rows, self.n_time], tail].concat()[..])
    }

    /// The heads of `x` [N, heads, D], repeated to `n_heads`: [B, Hq, T, D].
    fn heads(&self, x: &Tensor, n_heads: i64) -> Tensor {
        repeat_heads(&self.gather(x).transpose(1, 2), n_heads)
    }

    /// Places without padding, flat: `x` [B, T, ..] → [n, ..], and their tokens `[n]`.
    fn flat<'a>(&'a self, x: &Tensor) -> (Tensor, &'a Tensor) {
        let size = x.size();
        let x = x.reshape(&[&[self.n_rows * self.n_time], &size[2..]].concat()[..]);
        match &self.filled {
            Some((places, tokens)) => (x.index_select(0, places), tokens),
            None => (x, &self.tokens),
        }
    }

    /// The rows of a gradient `x` [N, ..], 0 for padding: [B, T, ..].
    fn gather_gradient(&self, x: &Tensor) -> Tensor {
        let Some((places, tokens)) = &self.filled else { return self.gather(x) };
        let tail = &x.size()[1..];
        let size = &[&[self.n_rows * self.n_time], tail].concat()[..];
        let rows = Tensor::zeros(size, (x.kind(), x.device()));
        let rows = rows.index_copy(0, places, &x.index_select(0, tokens));
        rows.view(&[&[self.n_rows, self.n_time], tail].concat()[..])
    }
}

impl TreeAttention {
    pub(super) fn new(layout: &TreeLayout, scale: f64, device: Device) -> Self {
        let tokens =
            |segment: &Segment| -> Vec<i64> { segment.clone().map(|token| token as i64).collect() };
        let rectangle = |segments: &[Segment]| {
            Rectangle::new(&segments.iter().map(tokens).collect::<Vec<_>>(), device)
        };
        let own = rectangles(&layout.segments).into_iter();
        let own = own.map(|segments| AttentionCall { queries: rectangle(&segments), keys: None });
        // prefixes of one length, so that keys have no padding
        let mut by_length: BTreeMap<usize, Vec<(Segment, Segment)>> = BTreeMap::new();
        for crossing in &layout.crossings {
            by_length.entry(crossing.0.len()).or_default().push(crossing.clone());
        }
        let across = by_length.into_values().flat_map(|crossings| {
            let branches: Vec<Segment> = crossings.iter().map(|(_, it)| it.clone()).collect();
            let prefix_of = |branches: &Segment| {
                let (prefix, _) = crossings
                    .iter()
                    .find(|(_, it)| it == branches)
                    .expect("branches come of a crossing. This is a bug.");
                prefix.clone()
            };
            let calls = rectangles(&branches).into_iter().map(|branches| {
                let prefixes: Vec<Segment> = branches.iter().map(prefix_of).collect();
                AttentionCall { queries: rectangle(&branches), keys: Some(rectangle(&prefixes)) }
            });
            calls.collect::<Vec<_>>()
        });
        Self { calls: own.chain(across).collect(), scale }
    }

    fn scores(&self, call: &AttentionCall) -> Scores {
        Scores { is_causal: call.keys.is_none(), scale: self.scale }
    }

    /// # Shapes
    /// `q` [N, Hq, D], `k` and `v` [N, Hkv, D].
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub(super) fn forward(&self, [q, k, v]: [&Tensor; 3]) -> Result<AttendedTokens, Error> {
        let n_heads = q.size()[1];
        let wide = if q.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let mut out = q.zeros_like(); // [N, Hq, D]
        let mut lse = Tensor::zeros([q.size()[0], n_heads], (wide, q.device()));
        for call in &self.calls {
            let keys = call.keys.as_ref().unwrap_or(&call.queries);
            let inputs =
                [&call.queries.heads(q, n_heads), &keys.heads(k, n_heads), &keys.heads(v, n_heads)];
            let attended = kernel::forward(inputs, self.scores(call))?;
            let (mut part, tokens) = call.queries.flat(&attended.out.transpose(1, 2));
            let (mut part_lse, _) = call.queries.flat(&attended.lse.transpose(1, 2));
            if call.keys.is_some() {
                let own = AttendedTokens {
                    out: out.index_select(0, tokens),
                    lse: lse.index_select(0, tokens),
                };
                (part, part_lse) = own.merged(&part, &part_lse);
            }
            let _ = out.f_index_copy_(0, tokens, &part)?;
            let _ = lse.f_index_copy_(0, tokens, &part_lse)?;
        }
        Ok(AttendedTokens { out, lse })
    }

    /// The gradients of `q`, `k` and `v` from that of the output [N, Hq, D].
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub(super) fn backward(
        &self,
        [q, k, v]: [&Tensor; 3],
        attended: &AttendedTokens,
        gradient: &Tensor,
    ) -> Result<[Tensor; 3], Error> {
        let n_heads = q.size()[1];
        let mut gradients = [q.zeros_like(), k.zeros_like(), v.zeros_like()];
        for call in &self.calls {
            let queries = &call.queries;
            let keys = call.keys.as_ref().unwrap_or(queries);
            let inputs =
                [&queries.heads(q, n_heads), &keys.heads(k, n_heads), &keys.heads(v, n_heads)];
            let of_queries = |x: &Tensor| queries.gather(x).transpose(1, 2); // [B, Hq, T, ..]
            let part = Attended {
                out: of_queries(&attended.out),
                lse: of_queries(&attended.lse).contiguous(),
            };
            let gradient = queries.gather_gradient(gradient).transpose(1, 2);
            let parts = kernel::backward(inputs, &part, &gradient, self.scores(call))?;
            let places = [queries, keys, keys];
            for ((sum, part), place) in gradients.iter_mut().zip(parts).zip(places) {
                let part = sum_heads(&part, sum.size()[1]).transpose(1, 2); // [B, T, heads, D]
                let (part, tokens) = place.flat(&part);
                let _ = sum.f_index_add_(0, tokens, &part)?;
            }
        }
        Ok(gradients)
    }
}

impl AttendedTokens {
    /// Attention over two disjoint sets of keys from the attention over each: the outputs weighted
    /// by the shares of their sums of exponentials.
    fn merged(&self, out: &Tensor, lse: &Tensor) -> (Tensor, Tensor) {
        let both = self.lse.logaddexp(lse); // [n, Hq]
        let weight = |lse: &Tensor| (lse - &both).exp().to_kind(out.kind()).unsqueeze(2);
        (&self.out * weight(&self.lse) + out * weight(lse), both)
    }
}

/// Sums the gradients of the query heads that share a key/value head: [B, Hq, T, D] → [B, heads, T,
/// D].
fn sum_heads(x: &Tensor, n_heads: i64) -> Tensor {
    let size = x.size();
    if size[1] == n_heads {
        return x.shallow_clone();
    }
    x.reshape([size[0], n_heads, -1, size[2], size[3]]).sum_dim_intlist(
        [2i64].as_slice(),
        false,
        None::<Kind>,
    )
}
