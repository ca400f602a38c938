//! Sequences of a training batch without padding: those with a common prompt are a tree, whose
//! prompt is computed once.
//!
//! Pure numbers: where each token lies in the batch, and which tokens attend to which. It knows no
//! tensors.

use std::ops::Range;

/// Sequences that begin with the same tokens: a prefix, and the branches that follow it. A sequence
/// that shares nothing is a branch after an empty prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenTree {
    /// The common tokens.
    pub prefix: Vec<i64>,
    /// What follows them in each sequence; none is empty.
    pub branches: Vec<Vec<i64>>,
}

impl TokenTree {
    /// Number of tokens of the tree.
    pub fn n_tokens(&self) -> usize {
        self.prefix.len() + self.branches.iter().map(Vec::len).sum::<usize>()
    }

    /// Number of tokens of its longest sequence.
    pub fn longest(&self) -> usize {
        self.prefix.len() + self.branches.iter().map(Vec::len).max().unwrap_or(0)
    }
}

/// Consecutive tokens of a batch.
pub(super) type Segment = Range<usize>;

/// Where the tokens of trees lie in a batch: tree by tree, the prefix first, then the branches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TreeLayout {
    /// Position of each token in its sequence.
    pub(super) positions: Vec<i64>,
    /// Prefixes and branches that are not empty: each attends to itself, causally.
    pub(super) segments: Vec<Segment>,
    /// Of each tree with a prefix: the prefix, and all of its branches, which attend to the prefix.
    pub(super) crossings: Vec<(Segment, Segment)>,
}

impl TreeLayout {
    pub(super) fn new(trees: &[TokenTree]) -> Self {
        let mut layout = Self::default();
        for tree in trees {
            let start = layout.positions.len();
            let n_prefix = tree.prefix.len();
            layout.push(0, n_prefix);
            for branch in &tree.branches {
                layout.push(n_prefix, branch.len());
            }
            let (middle, end) = (start + n_prefix, layout.positions.len());
            if n_prefix > 0 && end > middle {
                layout.crossings.push((start..middle, middle..end));
            }
        }
        layout
    }

    fn push(&mut self, position: usize, n_tokens: usize) {
        let start = self.positions.len();
        self.positions.extend((position..position + n_tokens).map(|position| position as i64));
        if n_tokens > 0 {
            self.segments.push(start..start + n_tokens);
        }
    }
}

/// Puts segments of similar length together, so that at most a quarter of a rectangle of them is
/// padding; segments of one rectangle are in descending order of length.
pub(super) fn rectangles(segments: &[Segment]) -> Vec<Vec<Segment>> {
    let mut order = segments.to_vec();
    order.sort_by_key(|segment| (std::cmp::Reverse(segment.len()), segment.start));
    let mut rectangles: Vec<Vec<Segment>> = Vec::new();
    let (mut longest, mut n_tokens) = (0, 0);
    for segment in order {
        let fits = rectangles.last().is_some_and(|rectangle| {
            4 * (n_tokens + segment.len()) >= 3 * longest * (rectangle.len() + 1)
        });
        match rectangles.last_mut() {
            Some(rectangle) if fits => {
                n_tokens += segment.len();
                rectangle.push(segment);
            }
            _ => {
                (longest, n_tokens) = (segment.len(), segment.len());
                rectangles.push(vec![segment]);
            }
        }
    }
    rectangles
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{TokenTree, TreeLayout, rectangles};

    #[test]
    fn layout_puts_prefix_before_branches() {
        let tree = |prefix: &[i64], branches: &[&[i64]]| TokenTree {
            prefix: prefix.to_vec(),
            branches: branches.iter().map(|branch| branch.to_vec()).collect(),
        };
        let layout = TreeLayout::new(&[tree(&[5, 6], &[&[7], &[8, 9, 1]]), tree(&[], &[&[3, 2]])]);
        assert_eq!(layout.positions, [0, 1, 2, 2, 3, 4, 0, 1]);
        assert_eq!(layout.segments, [0..2, 2..3, 3..6, 6..8]);
        assert_eq!(layout.crossings, [(0..2, 2..6)]);
    }

    proptest! {
        #[test]
        fn rectangles_hold_every_segment_once_with_little_padding(
            lengths in prop::collection::vec(1usize..300, 0..40),
        ) {
            let mut start = 0;
            let segments: Vec<_> = lengths.iter().map(|&length| {
                start += length;
                start - length..start
            }).collect();
            let rectangles = rectangles(&segments);
            for rectangle in &rectangles {
                let n_tokens: usize = rectangle.iter().map(|segment| segment.len()).sum();
                prop_assert!(4 * n_tokens >= 3 * rectangle[0].len() * rectangle.len());
                let lengths = rectangle.iter().map(|segment| segment.len());
                prop_assert!(lengths.is_sorted_by(|a, b| a >= b));
            }
            let mut seen = rectangles.concat();
            seen.sort_by_key(|segment| segment.start);
            prop_assert_eq!(seen, segments);
        }
    }
}
