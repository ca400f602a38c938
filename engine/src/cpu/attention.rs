//! Keys and values of all layers in blocks, and grouped-query attention over them.
//!
//! The query heads that share a key/value head are rows of one small product. The softmax runs on
//! from block to block (Dao et al., FlashAttention, arXiv 2205.14135): a running maximum, a running
//! sum, and sums of values that are rescaled when the maximum grows.

use super::element::Element;
use super::math::exp;
use super::plan::{Tile, View};
use crate::ffi::simd::{LANES, RUN, Sums, vectorized};
use crate::ffi::threads;
use crate::kv::{BLOCK_TOKENS, Slot};

const _: () = assert!(BLOCK_TOKENS == LANES, "a block of keys is one vector of tokens");

/// Keys and values of one layer: `[Hkv, blocks, block]` units each.
struct LayerKv<E: Element> {
    keys: Vec<E::Unit>,
    values: Vec<E::Unit>,
}

/// Keys and values of all layers.
pub(super) struct KvArena<E: Element> {
    layers: Vec<LayerKv<E>>,
    n_kv_heads: usize,
    head_dim: usize,
    /// D rounded up to whole vectors; what is beyond D is 0.
    padded: usize,
    n_blocks: usize,
}

/// The shape of one head's block in units.
fn block_units<E: Element>(padded: usize) -> usize {
    padded * BLOCK_TOKENS / E::PER_UNIT
}

/// Bytes of keys and values that one token takes in all layers.
pub(super) fn bytes_per_token<E: Element>(
    n_layers: usize,
    n_kv_heads: usize,
    head_dim: usize,
) -> usize {
    let padded = head_dim.next_multiple_of(LANES);
    2 * n_layers * n_kv_heads * padded * size_of::<E>()
}

impl<E: Element> KvArena<E> {
    pub(super) fn new(
        n_layers: usize,
        n_kv_heads: usize,
        head_dim: usize,
        n_blocks: usize,
    ) -> Self {
        let padded = head_dim.next_multiple_of(LANES);
        let n_units = n_kv_heads * n_blocks * block_units::<E>(padded);
        // pages of zeros that nobody has touched cost nothing
        let zeros = || vec![E::Unit::default(); n_units];
        let layers = (0..n_layers).map(|_| LayerKv { keys: zeros(), values: zeros() }).collect();
        Self { layers, n_kv_heads, head_dim, padded, n_blocks }
    }

    /// Stores the keys and values of a batch: `qkv` [N, Hq + 2·Hkv, D], keys rotated.
    pub(super) fn store(&mut self, layer: usize, qkv: &[E], n_q_heads: usize, slots: &[Slot]) {
        let (head_dim, padded, n_kv_heads) = (self.head_dim, self.padded, self.n_kv_heads);
        let width = (n_q_heads + 2 * n_kv_heads) * head_dim;
        let per_head = self.n_blocks * block_units::<E>(padded);
        let LayerKv { keys, values } = &mut self.layers[layer];
        let keys = keys.chunks_exact_mut(per_head).enumerate();
        let values = values.chunks_exact_mut(per_head).enumerate();
        let items = keys.map(|(head, arena)| (n_q_heads + head, true, arena));
        let items =
            items.chain(values.map(|(head, arena)| (n_q_heads + n_kv_heads + head, false, arena)));
        threads::for_each(items.collect(), slots.len() < 64, |(head, is_key, arena)| {
            for (token, slot) in slots.iter().enumerate() {
                let row = &qkv[token * width + head * head_dim..][..head_dim];
                let units = block_units::<E>(padded);
                let block = &mut arena[slot.block as usize * units..][..units];
                let offset = slot.offset as usize;
                if is_key {
                    for (row_of_units, unit) in E::units(row).enumerate() {
                        block[row_of_units * LANES + offset] = unit;
                    }
                } else {
                    let place = offset % E::PER_UNIT;
                    let units = &mut block[offset / E::PER_UNIT * padded..][..head_dim];
                    for (unit, &value) in units.iter_mut().zip(row) {
                        E::put(unit, place, value);
                    }
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
        let mut cells: Vec<Option<&mut [E]>> =
            out.chunks_exact_mut(n_groups * self.head_dim).map(Some).collect();
        let mut items = Vec::with_capacity(tiles.len() * self.n_kv_heads);
        for tile in tiles {
            for head in 0..self.n_kv_heads {
                let cell = |&token: &usize| cells[token * self.n_kv_heads + head].take();
                let cells: Vec<&mut [E]> = tile.tokens.iter().filter_map(cell).collect();
                items.push((tile, head, cells));
            }
        }
        let n_views: usize = tiles.iter().map(|tile| tile.views.len() * tile.tokens.len()).sum();
        threads::for_each(items, n_views * self.n_kv_heads < 128, |(tile, head, cells)| {
            let query = |token: usize, group: usize| {
                &qkv[token * width + (head * n_groups + group) * self.head_dim..][..self.head_dim]
            };
            self.attend_tile(layer, head, tile, n_groups, query, cells);
        });
    }

    fn attend_tile<'q>(
        &self,
        layer: usize,
        head: usize,
        tile: &Tile,
        n_groups: usize,
        query: impl Fn(usize, usize) -> &'q [E],
        cells: Vec<&mut [E]>,
    ) {
        let padded = self.padded;
        let units_per_query = padded / E::PER_UNIT;
        let n_queries = tile.tokens.len() * n_groups;
        let mut queries = vec![E::Unit::default(); n_queries * units_per_query];
        for (at, units) in queries.chunks_exact_mut(units_per_query).enumerate() {
            let row = query(tile.tokens[at / n_groups], at % n_groups);
            for (to, unit) in units.iter_mut().zip(E::units(row)) {
                *to = unit;
            }
        }
        let mut state = State {
            maxima: vec![f32::NEG_INFINITY; n_queries],
            totals: vec![[0.0; LANES]; n_queries],
            sums: vec![0.0; n_queries * padded],
        };
        let mut scores = vec![Sums::default(); n_queries];
        let mut weights = vec![[[E::default(); LANES]; RUN]; n_queries];
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        let per_block = block_units::<E>(padded);
        let LayerKv { keys, values } = &self.layers[layer];
        let start = |view: &View| (head * self.n_blocks + view.block as usize) * per_block;
        for run in tile.runs() {
            let tokens = &run[0].tokens;
            let range = tokens.start * n_groups..tokens.end * n_groups;
            let scores = &mut scores[range.clone()];
            let weights = &mut weights[range.clone()];
            let queries = &queries[range.start * units_per_query..range.end * units_per_query];
            let (mut k, mut v): ([&[E::Unit]; RUN], [&[E::Unit]; RUN]) = ([&[]; RUN], [&[]; RUN]);
            for ((view, k), v) in run.iter().zip(&mut k).zip(&mut v) {
                let n_rows = (view.n_tokens as usize).div_ceil(E::PER_UNIT);
                *k = &keys[start(view)..][..per_block];
                *v = &values[start(view)..][..n_rows * padded];
            }
            E::scores(queries, &k[..run.len()], scores);
            soften::<E>(state.part(range.clone(), padded), run, n_groups, scale, scores, weights);
            E::weigh(weights, &v[..run.len()], state.part(range, padded).sums);
        }
        for (token, cell) in cells.into_iter().enumerate() {
            for (group, out) in cell.chunks_exact_mut(self.head_dim).enumerate() {
                let at = token * n_groups + group;
                let share = 1.0 / state.totals[at].iter().sum::<f32>();
                for (out, sum) in out.iter_mut().zip(&state.sums[at * padded..]) {
                    *out = E::from_f32(sum * share);
                }
            }
        }
    }
}

/// Where each query's softmax is.
struct State {
    maxima: Vec<f32>,
    /// Sums of weights, a lane each; they are added up at the end.
    totals: Vec<[f32; LANES]>,
    sums: Vec<f32>,
}

/// Some queries of a [`State`].
struct StatePart<'a> {
    maxima: &'a mut [f32],
    totals: &'a mut [[f32; LANES]],
    sums: &'a mut [f32],
}

impl State {
    fn part(&mut self, queries: std::ops::Range<usize>, padded: usize) -> StatePart<'_> {
        StatePart {
            maxima: &mut self.maxima[queries.clone()],
            totals: &mut self.totals[queries.clone()],
            sums: &mut self.sums[queries.start * padded..queries.end * padded],
        }
    }
}

/// The highest of some vectors, by halves: a chain of comparisons would wait for each.
#[inline(always)]
fn highest(values: &Sums) -> f32 {
    let higher = |a: f32, b: f32| if b > a { b } else { a };
    let sixteen: [f32; LANES] = std::array::from_fn(|at| {
        let lane = |block: usize| values[block][at];
        higher(higher(lane(0), lane(1)), higher(lane(2), lane(3)))
    });
    let eight: [f32; 8] = std::array::from_fn(|at| higher(sixteen[at], sixteen[at + 8]));
    let four: [f32; 4] = std::array::from_fn(|at| higher(eight[at], eight[at + 4]));
    higher(higher(four[0], four[2]), higher(four[1], four[3]))
}

vectorized! {
    /// Takes the scores of some blocks in: rescales what was summed up to now and gives the weights
    /// of the blocks' values.
    fn soften<E: Element>(
        state: StatePart<'_>,
        run: &[View],
        n_groups: usize,
        scale: f32,
        scores: &mut [Sums],
        weights: &mut [[[E; LANES]; RUN]],
    ) {
        let StatePart { maxima, totals, sums } = state;
        let is_whole = run.len() == RUN && run.iter().all(View::is_full);
        let padded = sums.len() / scores.len().max(1);
        for (at, scores) in scores.iter_mut().enumerate() {
            if !is_whole {
                for (block, scores) in scores.iter_mut().enumerate() {
                    let n_seen = run.get(block).map_or(0, |view| view.n_seen(at / n_groups));
                    for (lane, score) in scores.iter_mut().enumerate() {
                        *score = if lane < n_seen { *score } else { f32::NEG_INFINITY };
                    }
                }
            }
            let highest = highest(scores) * scale;
            if highest == f32::NEG_INFINITY {
                weights[at] = [[E::default(); LANES]; RUN];
                continue;
            }
            if highest > maxima[at] {
                let factor = exp(maxima[at] - highest);
                maxima[at] = highest;
                for total in &mut totals[at] {
                    *total *= factor;
                }
                for sum in &mut sums[at * padded..(at + 1) * padded] {
                    *sum *= factor;
                }
            }
            let maximum = maxima[at];
            for (scores, weights) in scores.iter().zip(&mut weights[at]) {
                let lanes = scores.iter().zip(weights).zip(&mut totals[at]);
                for ((score, weight), total) in lanes {
                    let share = exp(score * scale - maximum);
                    *total += share;
                    *weight = E::from_f32(share);
                }
            }
        }
    }
}
