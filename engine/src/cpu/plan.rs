//! Cuts a batch's attention into tiles: a few query tokens and the blocks that they attend to.
//!
//! Tokens that share a prefix of their contexts are put into one tile, so that shared keys and
//! values are read once for all of them. Each token's softmax runs on from block to block, which is
//! the log-sum-exp merge of the parts. No tensors.

use std::ops::Range;

use crate::batch::{BatchRow, ForwardBatch};
use crate::kv::BLOCK_TOKENS;

/// Query tokens that are computed together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tile {
    /// Indices of the tokens in the batch.
    pub(super) tokens: Vec<usize>,
    /// Blocks that the tokens attend to, in the order of their contexts.
    pub(super) views: Vec<View>,
}

/// A block, and the tokens of the tile that attend to it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) block: u32,
    /// Tokens of the tile that attend to the block.
    pub(super) tokens: Range<usize>,
    /// Number of slots that the first of these tokens sees; it may be zero or less.
    pub(super) n_visible: isize,
    /// Number of slots in use; each further token sees one slot more, up to this number.
    pub(super) n_tokens: u32,
}

impl View {
    /// Whether the block is full and all tokens see all of it: each token sees at least as much as
    /// the first.
    pub(super) fn is_full(&self) -> bool {
        self.n_tokens as usize == BLOCK_TOKENS && self.n_visible >= self.n_tokens as isize
    }

    /// Number of slots that the view's token `at` sees.
    pub(super) fn n_seen(&self, at: usize) -> usize {
        (self.n_visible + at as isize).clamp(0, self.n_tokens as isize) as usize
    }
}

/// The tiles of a batch, of at most `max_tokens` tokens, the costly ones first.
pub(super) fn tiles(batch: &ForwardBatch, max_tokens: usize) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut single: Vec<&BatchRow> = Vec::new();
    for row in &batch.rows {
        match row.len {
            1 => single.push(row),
            _ => tiles.extend(chunk_tiles(row, max_tokens)),
        }
    }
    // the last tokens attend to the most blocks
    tiles.reverse();
    single.sort_by(|a, b| a.spans.cmp(&b.spans));
    for group in single.chunk_by(|a, b| a.spans.first() == b.spans.first()) {
        for group in group.chunks(max_tokens) {
            let mut views = Vec::new();
            shared_views(group, 0..group.len(), 0, &mut views);
            tiles.push(Tile { tokens: group.iter().map(|row| row.start).collect(), views });
        }
    }
    tiles
}

/// Tiles of one sequence's following tokens.
fn chunk_tiles(row: &BatchRow, max_tokens: usize) -> Vec<Tile> {
    let starts = (0..row.len).step_by(max_tokens);
    let tile = |start: usize| {
        let n_tokens = max_tokens.min(row.len - start);
        let first = row.position + start;
        let mut views = Vec::new();
        let mut at = 0;
        for span in &row.spans {
            if at >= first + n_tokens {
                break;
            }
            views.push(View {
                block: span.block,
                tokens: 0..n_tokens,
                n_visible: (first + 1) as isize - at as isize,
                n_tokens: span.n_tokens,
            });
            at += span.n_tokens as usize;
        }
        let tokens = (row.start + start..row.start + start + n_tokens).collect();
        Tile { tokens, views }
    };
    starts.map(tile).collect()
}

/// Views of single tokens from span `depth` on: shared as long as the spans are equal.
fn shared_views(rows: &[&BatchRow], range: Range<usize>, mut depth: usize, views: &mut Vec<View>) {
    let group = &rows[range.clone()];
    while let Some(span) = group[0].spans.get(depth)
        && group.iter().all(|row| row.spans.get(depth) == Some(span))
    {
        views.push(View {
            block: span.block,
            tokens: range.clone(),
            n_visible: span.n_tokens as isize,
            n_tokens: span.n_tokens,
        });
        depth += 1;
    }
    let is_end = group.iter().all(|row| row.spans.get(depth).is_none());
    if group.len() == 1 || is_end {
        return;
    }
    let mut start = range.start;
    for part in group.chunk_by(|a, b| a.spans.get(depth) == b.spans.get(depth)) {
        shared_views(rows, start..start + part.len(), depth, views);
        start += part.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Span;

    fn row(start: usize, len: usize, position: usize, spans: &[(u32, u32)]) -> BatchRow {
        let spans = spans.iter().map(|&(block, n_tokens)| Span { block, n_tokens }).collect();
        BatchRow { start, len, position, spans }
    }

    fn seen(tile: &Tile, token: usize) -> Vec<(u32, u32)> {
        let views = tile.views.iter().filter(|view| view.tokens.contains(&token));
        let seen = views.map(|view| (view.block, view.n_seen(token - view.tokens.start) as u32));
        seen.filter(|&(_, n_seen)| n_seen > 0).collect()
    }

    #[test]
    fn tiles_join_single_tokens_that_share_blocks() {
        let rows = vec![
            row(0, 1, 40, &[(3, 16), (4, 9), (7, 16)]),
            row(1, 1, 9, &[(9, 10)]),
            row(2, 1, 30, &[(3, 16), (4, 9), (8, 6)]),
            row(3, 1, 16, &[(3, 16), (5, 1)]),
        ];
        let batch = ForwardBatch { rows, ..ForwardBatch::default() };
        let tiles = tiles(&batch, 8);
        assert_eq!(
            tiles.iter().map(|tile| tile.tokens.clone()).collect::<Vec<_>>(),
            [vec![0, 2, 3], vec![1]]
        );
        assert_eq!(tiles[0].views.iter().filter(|view| view.block == 3).count(), 1);
        for (place, token) in [(0, 0), (1, 2), (2, 3)] {
            let wanted: Vec<(u32, u32)> =
                batch.rows[token].spans.iter().map(|span| (span.block, span.n_tokens)).collect();
            assert_eq!(seen(&tiles[0], place), wanted);
        }
    }

    #[test]
    fn tiles_let_each_token_of_a_chunk_see_itself_and_earlier_tokens() {
        let batch = ForwardBatch {
            rows: vec![row(5, 20, 10, &[(1, 7), (2, 16), (3, 7)])],
            ..ForwardBatch::default()
        };
        for tile in tiles(&batch, 6) {
            for (place, token) in tile.tokens.iter().enumerate() {
                let n_seen: u32 = seen(&tile, place).iter().map(|(_, n)| n).sum();
                assert_eq!(n_seen as usize, 10 + (token - 5) + 1);
            }
        }
    }
}
