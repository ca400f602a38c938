//! Knockout: a single-elimination bracket of n - 1 matches, with byes in the first round if n is no
//! power of two.
//!
//! Knows which slot advanced, not by how many votes; a slot that lost is out.

use std::cmp::Ordering;

use joust_schema::seed::Seed;

use super::format::{SlotMatch, TournamentFormat};
use super::opening::Openings;
use super::score::MatchScore;
use crate::index::SlotIdx;

/// A position in the bracket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BracketNode {
    /// To be taken by the winner of a match that was not handed out yet.
    Open,
    /// To be taken by the winner of a match in play.
    Playing,
    /// Taken by this slot.
    Held(SlotIdx),
    /// The missing opponent of a bye.
    Empty,
}

/// A bracket as a binary heap: node 1 is the final, the children of node i are 2i and 2i + 1,
/// leaves come last.
#[derive(Debug)]
pub(super) struct Knockout {
    slot_keys: Vec<u64>,
    seed: Seed,
    openings: Openings,
    nodes: Vec<BracketNode>,
}

impl Knockout {
    /// Arranges the slots so that slot 0 can meet slot 1 only in the final and byes go to the first
    /// slots.
    pub(super) fn new(slot_keys: Vec<u64>, openings: Openings, seed: Seed) -> Self {
        let n_slots = slot_keys.len();
        let n_leaves = n_slots.next_power_of_two();
        let mut nodes = vec![BracketNode::Open; n_leaves];
        nodes.extend(bracket_order(n_leaves).into_iter().map(|slot| {
            if slot < n_slots { BracketNode::Held(SlotIdx(slot)) } else { BracketNode::Empty }
        }));
        let mut bracket = Self { slot_keys, seed, openings, nodes };
        for node in (1..n_leaves).rev() {
            bracket.pass_bye(node);
        }
        bracket
    }

    /// Advances a slot whose opponent is missing.
    fn pass_bye(&mut self, node: usize) {
        match (self.nodes[2 * node], self.nodes[2 * node + 1]) {
            (BracketNode::Held(slot), BracketNode::Empty)
            | (BracketNode::Empty, BracketNode::Held(slot)) => {
                self.nodes[node] = BracketNode::Held(slot);
            }
            _ => {}
        }
    }

    fn n_leaves(&self) -> usize {
        self.nodes.len() / 2
    }

    /// The two slots of a match, once both are known.
    fn opponents(&self, node: usize) -> Option<(SlotIdx, SlotIdx)> {
        match (self.nodes[2 * node], self.nodes[2 * node + 1]) {
            (BracketNode::Held(a), BracketNode::Held(b)) => Some((a, b)),
            _ => None,
        }
    }

    /// The round of a match, counted from 0.
    fn round(&self, node: usize) -> u32 {
        self.n_leaves().ilog2() - 1 - node.ilog2()
    }

    /// Decides a draw by a coin that depends on the seed and the two keys, not on their order.
    fn coin(&self, a: SlotIdx, b: SlotIdx) -> SlotIdx {
        let draw = |slot: SlotIdx, other: SlotIdx| {
            self.seed
                .child("draw_of", self.slot_keys[slot.0])
                .child("against", self.slot_keys[other.0])
                .0
        };
        match draw(a, b).cmp(&draw(b, a)) {
            Ordering::Greater => a,
            Ordering::Less => b,
            Ordering::Equal => a.min(b),
        }
    }
}

impl TournamentFormat for Knockout {
    fn take_ready_matches(&mut self) -> Vec<SlotMatch> {
        let mut matches = Vec::new();
        for node in (1..self.n_leaves()).rev() {
            if let (BracketNode::Open, Some((a, b))) = (self.nodes[node], self.opponents(node)) {
                self.nodes[node] = BracketNode::Playing;
                let a_opens = self.openings.decide(a, b);
                matches.push(SlotMatch { a, b, round: self.round(node), a_opens });
            }
        }
        matches
    }

    fn record_score(&mut self, a: SlotIdx, b: SlotIdx, score: MatchScore) -> bool {
        let in_play = (1..self.n_leaves()).find(|&node| {
            self.nodes[node] == BracketNode::Playing
                && self.opponents(node).is_some_and(|pair| pair == (a, b) || pair == (b, a))
        });
        let Some(node) = in_play else { return false };
        let winner = match score.outcome() {
            Ordering::Greater => a,
            Ordering::Less => b,
            Ordering::Equal => self.coin(a, b),
        };
        self.nodes[node] = BracketNode::Held(winner);
        true
    }

    fn is_done(&self) -> bool {
        matches!(self.nodes[1], BracketNode::Held(_) | BracketNode::Empty)
    }

    fn winner(&self) -> Option<SlotIdx> {
        match self.nodes[1] {
            BracketNode::Held(slot) => Some(slot),
            _ => None,
        }
    }

    fn n_matches_planned(&self) -> usize {
        self.slot_keys.len().saturating_sub(1)
    }
}

/// The usual order of slots along the leaves: 0, then (0 1), (0 3 1 2), (0 7 3 4 1 6 2 5), and so
/// on.
///
/// The two slots of each first match add up to `n_leaves - 1`, so at most one of them is missing.
fn bracket_order(n_leaves: usize) -> Vec<usize> {
    let mut order = vec![0];
    while order.len() < n_leaves {
        let last = 2 * order.len() - 1;
        order = order.into_iter().flat_map(|slot| [slot, last - slot]).collect();
    }
    order
}
