//! Which slot of a match is shown first in its even votes; in odd votes the other slot is.
//!
//! It knows who opened earlier matches, and no votes.

use std::cmp::Ordering;

use joust_schema::seed::Seed;

use crate::index::SlotIdx;

/// Seed of the draws of the match of two players, named by their keys: permuting the players
/// changes no draw.
pub(crate) fn match_seed(group_seed: Seed, keys: [u64; 2]) -> Seed {
    group_seed.child_str("match", &format!("{:016x}{:016x}", keys[0], keys[1]))
}

/// The slots that opened the matches of a group so far. To *open* a match is to be shown first in
/// its even votes.
#[derive(Debug)]
pub(super) struct Openings {
    slot_keys: Vec<u64>,
    group_seed: Seed,
    /// Per slot: number of matches that it opened, less those that its opponent opened.
    balance: Vec<i32>,
    has_opened: Vec<bool>,
}

impl Openings {
    pub(super) fn new(slot_keys: &[u64], group_seed: Seed) -> Self {
        let n_slots = slot_keys.len();
        Self {
            slot_keys: slot_keys.to_vec(),
            group_seed,
            balance: vec![0; n_slots],
            has_opened: vec![false; n_slots],
        }
    }

    pub(super) fn n_slots(&self) -> usize {
        self.slot_keys.len()
    }

    /// Number of matches that a slot opened, less those that its opponent opened.
    pub(super) fn balance(&self, slot: SlotIdx) -> i32 {
        self.balance[slot.0]
    }

    /// Decides whether `a` opens its match with `b`, and counts it.
    ///
    /// The slot with the lower balance opens, so that the judge's preference for a position evens
    /// out over the tournament. At equal balance a slot that opened a match before does it again,
    /// else a coin decides.
    pub(super) fn decide(&mut self, a: SlotIdx, b: SlotIdx) -> bool {
        let a_opens = match self.balance(a).cmp(&self.balance(b)) {
            Ordering::Less => true,
            Ordering::Greater => false,
            // a prompt that begins like an earlier one costs the judge less
            Ordering::Equal if self.has_opened[a.0] != self.has_opened[b.0] => self.has_opened[a.0],
            Ordering::Equal => self.coin(a, b),
        };
        self.count(a, b, a_opens);
        a_opens
    }

    /// A fair coin of the match of two slots: true for `a`.
    pub(super) fn coin(&self, a: SlotIdx, b: SlotIdx) -> bool {
        let keys = [a, b].map(|slot| self.slot_keys[slot.0]);
        match_seed(self.group_seed, keys).child("order", 0).unit() < 0.5
    }

    /// Counts a match.
    pub(super) fn count(&mut self, a: SlotIdx, b: SlotIdx, a_opens: bool) {
        let (first, second) = if a_opens { (a, b) } else { (b, a) };
        self.has_opened[first.0] = true;
        self.balance[first.0] += 1;
        self.balance[second.0] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SlotIdx = SlotIdx(0);
    const B: SlotIdx = SlotIdx(1);
    const C: SlotIdx = SlotIdx(2);

    #[test]
    fn opening_goes_to_the_lower_balance_then_to_a_slot_that_opened_before() {
        let mut openings = Openings::new(&[7, 8, 9], Seed::new(3));
        let a_opened = openings.decide(A, B);
        let (first, second) = if a_opened { (A, B) } else { (B, A) };
        assert!(openings.decide(second, first), "the opponent has the lower balance");
        assert!(openings.decide(first, C), "at equal balance, C has opened nothing");
        assert!(!openings.decide(first, C), "now C has the lower balance");
    }

    #[test]
    fn opening_of_new_slots_is_a_fair_coin() {
        let a_opens = |key| Openings::new(&[1, 2], Seed::new(key)).decide(A, B);
        let n_a = (0..400).filter(|&key| a_opens(key)).count();
        assert!((150..250).contains(&n_a), "{n_a}");
    }
}
