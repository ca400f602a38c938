//! Points of a Swiss tournament or a round robin, and the order of the members they give.
//!
//! Knows results between slots. It does not know ratings: points only order pairings and the
//! winner.

use std::cmp::Ordering;

use super::MatchScore;

/// Half points for a win, or for a bye.
const WIN_HALF_POINTS: u32 = 2;
/// Half points for a draw or a match without any valid vote.
const DRAW_HALF_POINTS: u32 = 1;

/// What every slot has played so far.
#[derive(Debug)]
pub(super) struct Standings {
    half_points: Vec<u32>,
    n_byes: Vec<u32>,
    /// The opponents of each slot with the half points won against them.
    results: Vec<Vec<(usize, u32)>>,
}

impl Standings {
    pub(super) fn new(n_slots: usize) -> Self {
        Self {
            half_points: vec![0; n_slots],
            n_byes: vec![0; n_slots],
            results: vec![Vec::new(); n_slots],
        }
    }

    pub(super) fn n_slots(&self) -> usize {
        self.half_points.len()
    }

    /// Adds the result of a match: a point for the winner, half a point each for a draw.
    pub(super) fn record(&mut self, a: usize, b: usize, score: MatchScore) {
        for (own, other, told) in [(a, b, score), (b, a, score.swapped())] {
            let won = match told.outcome() {
                Ordering::Greater => WIN_HALF_POINTS,
                Ordering::Equal => DRAW_HALF_POINTS,
                Ordering::Less => 0,
            };
            self.half_points[own] += won;
            self.results[own].push((other, won));
        }
    }

    /// Gives a slot the point of a round in which it had no opponent.
    pub(super) fn record_bye(&mut self, slot: usize) {
        self.half_points[slot] += WIN_HALF_POINTS;
        self.n_byes[slot] += 1;
    }

    pub(super) fn n_byes(&self, slot: usize) -> u32 {
        self.n_byes[slot]
    }

    /// Counts the matches that two slots played against each other.
    pub(super) fn n_meetings(&self, a: usize, b: usize) -> usize {
        self.results[a].iter().filter(|&&(other, _)| other == b).count()
    }

    /// The most matches that any slot has played.
    pub(super) fn most_played(&self) -> usize {
        self.results.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The slots by points, then by seed order: the order in which a round is paired.
    pub(super) fn ranked(&self) -> Vec<usize> {
        let mut slots: Vec<usize> = (0..self.n_slots()).collect();
        slots.sort_by_key(|&slot| (u32::MAX - self.half_points[slot], slot));
        slots
    }

    /// The first slot by points, Buchholz, points among those still level, and seed order.
    pub(super) fn best(&self) -> Option<usize> {
        let level = highest((0..self.n_slots()).collect(), |slot| self.half_points[slot]);
        let level = highest(level, |slot| self.buchholz(slot));
        let among = level.clone();
        highest(level, |slot| self.half_points_among(slot, &among)).first().copied()
    }

    /// The half points of all opponents met; a bye adds none.
    fn buchholz(&self, slot: usize) -> u32 {
        self.results[slot].iter().map(|&(other, _)| self.half_points[other]).sum()
    }

    /// The half points won against the named slots: head to head where there are two.
    fn half_points_among(&self, slot: usize, among: &[usize]) -> u32 {
        let results = self.results[slot].iter();
        results.filter(|(other, _)| among.contains(other)).map(|&(_, won)| won).sum()
    }
}

/// Keeps the slots of the highest value, in their order.
fn highest(slots: Vec<usize>, value: impl Fn(usize) -> u32) -> Vec<usize> {
    let top = slots.iter().map(|&slot| value(slot)).max();
    slots.into_iter().filter(|&slot| Some(value(slot)) == top).collect()
}
