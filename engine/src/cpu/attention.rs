//! Keys and values of all layers in blocks, and grouped-query attention over them.
//!
//! The query heads that share a key/value head are rows of one small product. The softmax is
//! computed block by block (Dao et al., FlashAttention, arXiv 2205.14135): a running maximum, a
//! running sum, and weighted sums of values that are rescaled when the maximum grows.

use super::aligned::PageAligned;
use super::element::Element;
use super::math::{self, exp};
use super::plan::{Tile, View};
use crate::config::ModelConfig;
use crate::ffi::malloc;
use crate::ffi::simd::{LANES, RUN, prefetch, vectorized};
use crate::ffi::threads::{self, Parts};
use crate::kv::{BLOCK_TOKENS, KvSlot};

/// Number of scores that are kept at a time, so that they stay in the L1 cache.
const SCORES: usize = 3_072;

const _: () = assert!(BLOCK_TOKENS == LANES, "a block of keys is one vector of tokens");

/// Keys and values of all layers.
pub(super) struct KvArena<E: Element> {
    /// Per layer `[Hkv, blocks, keys | values]` units: a block's values follow its keys in memory.
    layers: Vec<PageAligned<E::Unit>>,
    n_kv_heads: usize,
    head_dim: usize,
    /// D rounded up to whole vectors; the values beyond D are 0.
    padded: usize,
    n_blocks: usize,
    /// Factor of the scores before the softmax.
    scale: f32,
}

/// Number of units of one head's keys, or of its values, per block.
fn block_units<E: Element>(padded: usize) -> usize {
    padded * BLOCK_TOKENS / E::PER_UNIT
}

/// Bytes of keys and values per token in all layers together.
pub(super) fn bytes_per_token<E: Element>(
    n_layers: usize,
    n_kv_heads: usize,
    head_dim: usize,
) -> usize {
    let padded = head_dim.next_multiple_of(LANES);
    2 * n_layers * n_kv_heads * padded * size_of::<E>()
}

impl<E: Element> KvArena<E> {
    pub(super) fn new(config: &ModelConfig, n_blocks: usize) -> Self {
        let &ModelConfig { n_layers, n_kv_heads, head_dim, .. } = config;
        let padded = head_dim.next_multiple_of(LANES);
        let n_units = 2 * n_kv_heads * n_blocks * block_units::<E>(padded);
        let layers = (0..n_layers).map(|_| PageAligned::zeros(n_units)).collect();
        let scale = config.attention_scale() as f32;
        Self { layers, n_kv_heads, head_dim, padded, n_blocks, scale }
    }

    /// Gives the memory of what is stored back; the arena is as new.
    pub(super) fn clear(&mut self) {
        for layer in &mut self.layers {
            malloc::discard(&mut *layer);
        }
    }

    /// Stores the keys and values of a batch: `qkv` [N, Hq + 2·Hkv, D], keys rotated.
    pub(super) fn store(&mut self, layer: usize, qkv: &[E], n_q_heads: usize, slots: &[KvSlot]) {
        let (head_dim, padded, n_kv_heads) = (self.head_dim, self.padded, self.n_kv_heads);
        let width = (n_q_heads + 2 * n_kv_heads) * head_dim;
        let per_block = block_units::<E>(padded);
        let heads = self.layers[layer].chunks_exact_mut(2 * self.n_blocks * per_block);
        threads::for_each(heads.enumerate().collect(), slots.len() < 64, |(head, arena)| {
            for (token, slot) in slots.iter().enumerate() {
                let row = |at: usize| &qkv[token * width + at * head_dim..][..head_dim];
                let block = &mut arena[slot.block as usize * 2 * per_block..][..2 * per_block];
                let (keys, values) = block.split_at_mut(per_block);
                let offset = slot.offset as usize;
                for (row_of_units, unit) in E::units(row(n_q_heads + head)).enumerate() {
                    keys[row_of_units * LANES + offset] = unit;
                }
                let place = offset % E::PER_UNIT;
                let units = &mut values[offset / E::PER_UNIT * padded..][..head_dim];
                for (unit, &value) in units.iter_mut().zip(row(n_q_heads + n_kv_heads + head)) {
                    E::put(unit, place, value);
                }
            }
        });
    }

    /// Attention of a batch: `qkv` [N, Hq + 2·Hkv, D] with rotated queries → `out` [N, Hq·D].
    pub(super) fn attend(
        &self,
        layer: usize,
        qkv: &[E],
        n_q_heads: usize,
        tiles: &[Tile],
        out: &mut [E],
    ) {
        let n_groups = n_q_heads / self.n_kv_heads;
        let width = (n_q_heads + 2 * self.n_kv_heads) * self.head_dim;
        let heads = |tile| (0..self.n_kv_heads).map(move |head| (tile, head));
        let items: Vec<_> = tiles.iter().flat_map(heads).collect();
        let n_views: usize = tiles.iter().map(|tile| tile.views.len() * tile.tokens.len()).sum();
        let outs = Parts::new(out, n_groups * self.head_dim);
        let is_small = n_views * self.n_kv_heads < 64;
        threads::for_each_with(items, is_small, Scratch::default, |scratch, (tile, head)| {
            let query = |token: usize, group: usize| {
                &qkv[token * width + (head * n_groups + group) * self.head_dim..][..self.head_dim]
            };
            self.attend_tile(layer, head, tile, n_groups, query, scratch);
            for (at, &token) in tile.tokens.iter().enumerate() {
                let out = outs.take(token * self.n_kv_heads + head);
                for (group, out) in out.chunks_exact_mut(self.head_dim).enumerate() {
                    let at = at * n_groups + group;
                    let share = 1.0 / scratch.state.totals[at].iter().sum::<f32>();
                    for (out, sum) in out.iter_mut().zip(&scratch.state.sums[at * self.padded..]) {
                        *out = E::from_f32(sum * share);
                    }
                }
            }
        });
    }

    /// Computes one key/value head's attention of a tile; leaves the weighted sums in `scratch`.
    fn attend_tile<'q>(
        &self,
        layer: usize,
        head: usize,
        tile: &Tile,
        n_groups: usize,
        query: impl Fn(usize, usize) -> &'q [E],
        scratch: &mut Scratch<E>,
    ) {
        let padded = self.padded;
        let units_per_query = padded / E::PER_UNIT;
        let n_queries = tile.tokens.len() * n_groups;
        let Scratch { queries, state, scores, weights } = scratch;
        queries.clear();
        queries.resize(n_queries * units_per_query, E::Unit::default());
        for (at, units) in queries.chunks_exact_mut(units_per_query).enumerate() {
            let row = query(tile.tokens[at / n_groups], at % n_groups);
            for (to, unit) in units.iter_mut().zip(E::units(row)) {
                *to = unit;
            }
        }
        state.reset(n_queries, padded);
        let scale = self.scale;
        let per_block = block_units::<E>(padded);
        let block = |view: &View| {
            let start = (head * self.n_blocks + view.block as usize) * 2 * per_block;
            self.layers[layer][start..start + 2 * per_block].split_at(per_block)
        };
        for same in tile.views.chunk_by(|a, b| a.tokens == b.tokens) {
            let range = same[0].tokens.start * n_groups..same[0].tokens.end * n_groups;
            let n_together = (SCORES / LANES / range.len()).max(1).next_multiple_of(RUN);
            let n_seen_by = range.len();
            let queries = &queries[range.start * units_per_query..range.end * units_per_query];
            let mut state = state.part(range, padded);
            for views in same.chunks(n_together) {
                let stride = views.len() * LANES;
                if scores.len() < n_seen_by * stride {
                    scores.resize(n_seen_by * stride, 0.0);
                    weights.resize(n_seen_by * stride, E::default());
                }
                let scores = &mut scores[..n_seen_by * stride];
                let weights = &mut weights[..n_seen_by * stride];
                for (at, run) in views.chunks(RUN).enumerate() {
                    let mut keys: [&[E::Unit]; RUN] = [&[]; RUN];
                    for (view, keys) in run.iter().zip(&mut keys) {
                        *keys = block(view).0;
                        prefetch(block(view).1);
                    }
                    let scores = &mut scores[at * RUN * LANES..];
                    E::scores(queries, units_per_query, &keys[..run.len()], scores, stride);
                }
                add_scores::<E>(&mut state, views, n_groups, scale, scores, weights);
                for (at, run) in views.chunks(RUN).enumerate() {
                    let mut values: [&[E::Unit]; RUN] = [&[]; RUN];
                    for (view, values) in run.iter().zip(&mut values) {
                        let n_rows = (view.n_tokens as usize).div_ceil(E::PER_UNIT);
                        *values = &block(view).1[..n_rows * padded];
                    }
                    let weights = &weights[at * RUN * LANES..];
                    E::weigh(weights, stride, &values[..run.len()], state.sums, padded);
                }
            }
        }
    }
}

/// Memory of one thread for a tile.
#[derive(Default)]
struct Scratch<E: Element> {
    queries: Vec<E::Unit>,
    state: SoftmaxState,
    scores: Vec<f32>,
    weights: Vec<E>,
}

/// Running softmax of each query.
#[derive(Default)]
struct SoftmaxState {
    maxima: Vec<f32>,
    /// Sums of weights per lane; the lanes are added at the end.
    totals: Vec<[f32; LANES]>,
    sums: Vec<f32>,
}

/// The state of some queries of a [`SoftmaxState`].
struct StatePart<'a> {
    maxima: &'a mut [f32],
    totals: &'a mut [[f32; LANES]],
    sums: &'a mut [f32],
}

impl SoftmaxState {
    fn reset(&mut self, n_queries: usize, padded: usize) {
        self.maxima.clear();
        self.maxima.resize(n_queries, f32::NEG_INFINITY);
        self.totals.clear();
        self.totals.resize(n_queries, [0.0; LANES]);
        self.sums.clear();
        self.sums.resize(n_queries * padded, 0.0);
    }

    fn part(&mut self, queries: std::ops::Range<usize>, padded: usize) -> StatePart<'_> {
        StatePart {
            maxima: &mut self.maxima[queries.clone()],
            totals: &mut self.totals[queries.clone()],
            sums: &mut self.sums[queries.start * padded..queries.end * padded],
        }
    }
}

/// Adds the scores [queries, blocks, 16] of some blocks to the running softmax: rescales the sums
/// where the maximum grew, and computes the weights of the blocks' values.
fn add_scores<E: Element>(
    state: &mut StatePart<'_>,
    views: &[View],
    n_groups: usize,
    scale: f32,
    scores: &mut [f32],
    weights: &mut [E],
) {
    let stride = views.len() * LANES;
    let padded = state.sums.len() / state.maxima.len();
    for (block, view) in views.iter().enumerate().filter(|(_, view)| !view.is_full()) {
        for (at, scores) in scores.chunks_exact_mut(stride).enumerate() {
            let scores = &mut scores[block * LANES..(block + 1) * LANES];
            scores[view.n_seen(at / n_groups)..].fill(f32::NEG_INFINITY);
        }
    }
    let rows = scores.chunks_exact_mut(stride).zip(weights.chunks_exact_mut(stride));
    for (at, (scores, weights)) in rows.enumerate() {
        let highest = math::highest(scores) * scale;
        if highest > state.maxima[at] {
            rescale(state, at, padded, exp(state.maxima[at] - highest));
            state.maxima[at] = highest;
        }
        softmax_weights(scores, scale, state.maxima[at], &mut state.totals[at], weights);
    }
}

/// Multiplies the sums of query `at` by `factor`.
fn rescale(state: &mut StatePart<'_>, at: usize, padded: usize, factor: f32) {
    for total in &mut state.totals[at] {
        *total *= factor;
    }
    for sum in &mut state.sums[at * padded..(at + 1) * padded] {
        *sum *= factor;
    }
}

vectorized! {
    /// Weights exp(score · scale − maximum), which are also added to `totals`.
    fn softmax_weights<E: Element>(
        scores: &mut [f32],
        scale: f32,
        maximum: f32,
        totals: &mut [f32; LANES],
        weights: &mut [E],
    ) {
        // a query without visible tokens so far has maximum -inf, and -inf - -inf is NaN
        let maximum = maximum.max(f32::MIN);
        for score in scores.iter_mut() {
            *score = exp(*score * scale - maximum);
        }
        for scores in scores.chunks_exact(LANES) {
            for (total, &score) in totals.iter_mut().zip(scores) {
                *total += score;
            }
        }
        for (weight, &score) in weights.iter_mut().zip(scores.iter()) {
            *weight = E::from_f32(score);
        }
    }
}
