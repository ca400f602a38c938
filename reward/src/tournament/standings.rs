//! Points of a Swiss tournament or a round robin, and the ranking of the slots that follows.
//!
//! Knows results between slots. It does not know ratings: points only order later matches and the
//! winner.

use std::cmp::Ordering;

use super::score::MatchScore;
use crate::index::SlotIdx;

/// Half points for a win, or for a bye.
const WIN_HALF_POINTS: u32 = 2;
/// Half points for a draw or a match without any valid vote.
const DRAW_HALF_POINTS: u32 = 1;

/// Results of every slot so far.
#[derive(Debug)]
pub(super) struct Standings {
    half_points: Vec<u32>,
    n_byes: Vec<u32>,
    /// Per slot: its opponents with the half points won against them.
    results: Vec<Vec<(SlotIdx, u32)>>,
    /// Per slot: its opponents in ascending order, one entry per match.
    met: Vec<Vec<SlotIdx>>,
    max_played: usize,
}

impl Standings {
    pub(super) fn new(n_slots: usize) -> Self {
        Self {
            half_points: vec![0; n_slots],
            n_byes: vec![0; n_slots],
            results: vec![Vec::new(); n_slots],
            met: vec![Vec::new(); n_slots],
            max_played: 0,
        }
    }

    pub(super) fn n_slots(&self) -> usize {
        self.half_points.len()
    }

    /// Adds the result of a match: a point for the winner, half a point each for a draw.
    pub(super) fn record_score(&mut self, a: SlotIdx, b: SlotIdx, score: MatchScore) {
        for (own, other, own_score) in [(a, b, score), (b, a, score.swapped())] {
            let won = match own_score.outcome() {
                Ordering::Greater => WIN_HALF_POINTS,
                Ordering::Equal => DRAW_HALF_POINTS,
                Ordering::Less => 0,
            };
            self.half_points[own.0] += won;
            self.results[own.0].push((other, won));
            let met = &mut self.met[own.0];
            met.insert(met.partition_point(|&known| known < other), other);
            self.max_played = self.max_played.max(met.len());
        }
    }

    /// Gives a slot the point of a round in which it had no opponent.
    pub(super) fn record_bye(&mut self, slot: SlotIdx) {
        self.half_points[slot.0] += WIN_HALF_POINTS;
        self.n_byes[slot.0] += 1;
    }

    pub(super) fn n_byes(&self, slot: SlotIdx) -> u32 {
        self.n_byes[slot.0]
    }

    /// Number of matches that two slots played against each other.
    pub(super) fn n_meetings(&self, a: SlotIdx, b: SlotIdx) -> usize {
        let met = &self.met[a.0];
        met.partition_point(|&known| known <= b) - met.partition_point(|&known| known < b)
    }

    /// Maximum number of matches that any slot has played.
    pub(super) fn max_played(&self) -> usize {
        self.max_played
    }

    /// The slots by points, then by seed order: the order in which a round is paired.
    pub(super) fn ranked(&self) -> Vec<SlotIdx> {
        let mut slots: Vec<SlotIdx> = SlotIdx::first(self.n_slots()).collect();
        slots.sort_by_key(|&slot| (u32::MAX - self.half_points[slot.0], slot));
        slots
    }

    /// The first slot by points, Buchholz, points among the slots still level, and seed order.
    pub(super) fn best(&self) -> Option<SlotIdx> {
        let all = SlotIdx::first(self.n_slots()).collect();
        let level = highest(all, |slot| self.half_points[slot.0]);
        let level = highest(level, |slot| self.buchholz(slot));
        let mut is_level = vec![false; self.n_slots()];
        level.iter().for_each(|slot| is_level[slot.0] = true);
        highest(level, |slot| self.half_points_among(slot, &is_level)).first().copied()
    }

    /// The half points of all opponents met; a bye adds none.
    fn buchholz(&self, slot: SlotIdx) -> u32 {
        self.results[slot.0].iter().map(|&(other, _)| self.half_points[other.0]).sum()
    }

    /// The half points won against the slots that are level: head to head for two.
    fn half_points_among(&self, slot: SlotIdx, is_level: &[bool]) -> u32 {
        let results = self.results[slot.0].iter();
        results.filter(|(other, _)| is_level[other.0]).map(|&(_, won)| won).sum()
    }
}

/// Keeps the slots of the highest value, in their order.
fn highest(slots: Vec<SlotIdx>, value: impl Fn(SlotIdx) -> u32) -> Vec<SlotIdx> {
    let top = slots.iter().map(|&slot| value(slot)).max();
    slots.into_iter().filter(|&slot| Some(value(slot)) == top).collect()
}
