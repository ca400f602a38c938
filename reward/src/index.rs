//! Typed positions: a player in its group, a slot in a tournament.
//!
//! A *member* is one completion of a group (`schema::ids::Member`). Members with equal completions
//! are one *player*. A *slot* is a position in the seed order of a tournament. This file does not
//! know how any of them is assigned.

use std::fmt;

/// Index of a player: a distinct completion of a group, in the order of their first members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlayerIdx(pub usize);

impl fmt::Display for PlayerIdx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Index of a slot: a position in the seed order of a tournament.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotIdx(pub(crate) usize);

impl SlotIdx {
    /// The first `n` slots, in seed order.
    pub(crate) fn first(n: usize) -> impl DoubleEndedIterator<Item = Self> {
        (0..n).map(Self)
    }
}
