//! The draw of one Swiss round: who rests, who meets.
//!
//! In: standings and openings. Out: pairs of slots. It does not know votes, nor how many rounds
//! there are.
//!
//! What a draw aims at, in this order: no rematch; opponents of whom one was shown first more often
//! than the other, so that their match evens both out; opponents of similar score. Under a judge
//! that prefers a position, scores follow who was shown first: pairs by score alone would bring
//! together those who were first equally often, and the preference would stay in the ratings. Chess
//! federations pair by colours for the same reason (FIDE Handbook C.04).

use super::matching::Matching;
use super::opening::Openings;
use super::standings::Standings;
use crate::index::SlotIdx;

/// Two slots that meet in a round.
pub(super) type SlotPair = (SlotIdx, SlotIdx);

/// Maximum number of draws of one round that are examined for one that leaves a next round without
/// rematches. Six slots have fifteen; larger groups hardly ever need a second.
const MAX_DRAWS_TRIED: usize = 64;

/// Maximum number of slots whose draws are compared. More slots take the first maximum matching by
/// rank: they have so many opponents that a second draw is no better.
const MAX_SLOTS_COMPARED: usize = 64;

/// A drawn round.
pub(super) struct DrawnRound {
    pub(super) pairs: Vec<SlotPair>,
    /// The pairs of a further round without rematches, if one is left.
    pub(super) next: Option<Vec<SlotPair>>,
}

/// What is known before a round is drawn.
pub(super) struct RoundDraw<'a> {
    pub(super) standings: &'a Standings,
    pub(super) openings: &'a Openings,
    /// Whether opponents should even out who was shown first.
    pub(super) balances: bool,
    /// Whether the draw should leave a further round without rematches.
    pub(super) looks_ahead: bool,
}

impl RoundDraw<'_> {
    /// Removes from the ranked slots the one that gets the bye, and returns it.
    ///
    /// The bye is chosen so that the other slots have the fewest rematches (none, if possible).
    /// Among such slots, the one with the fewest byes so far gets it, then the lowest ranked.
    pub(super) fn take_bye(&self, slots: &mut Vec<SlotIdx>) -> SlotIdx {
        let n_pairs = slots.len() / 2;
        let mut lowest_first: Vec<usize> = (0..slots.len()).rev().collect();
        // A stable sort: lowest rank first among slots with equally many byes.
        lowest_first.sort_by_key(|&rank| self.standings.n_byes(slots[rank]));
        let mut best: Option<(usize, usize)> = None;
        for rank in lowest_first {
            let mut others = slots.clone();
            others.remove(rank);
            let n_fresh = self.n_fresh_pairs(&others);
            if best.is_none_or(|(most, _)| n_fresh > most) {
                best = Some((n_fresh, rank));
            }
            if n_fresh == n_pairs {
                break;
            }
        }
        let (_, rank) = best.expect("An odd number of slots is not zero. This is a bug.");
        slots.remove(rank)
    }

    /// Draws a round of an even number of ranked slots, with as few rematches as any draw has.
    ///
    /// From the top, each slot meets the next in rank that evens out who was shown first, as far as
    /// all pairs can be fresh and do so; else the next in rank that leaves as many fresh pairs to
    /// the rest as the best draw has. The exact size of a matching of the rest decides, so that no
    /// greedy choice can force an avoidable rematch. An unavoidable rematch goes to the slots that
    /// met least often, then to the next in rank. With `looks_ahead`, the first such draw is taken
    /// after which every slot can meet a new opponent once more; if no examined draw allows that,
    /// the first draw is taken.
    pub(super) fn draw(&self, slots: &[SlotIdx]) -> DrawnRound {
        let fresh = |i: usize, j: usize| self.standings.n_meetings(slots[i], slots[j]) == 0;
        let evens_out = self.evens_out(slots);
        let fresh_and_even = |i: usize, j: usize| evens_out(i, j) && fresh(i, j);
        let even = Matching::maximum(slots.len(), &fresh_and_even);
        let mut first = None;
        if even.size() == slots.len() / 2 {
            match self.draw_wanted(slots, &fresh_and_even, &even, &evens_out) {
                Ok(drawn) => return drawn,
                Err(pairs) => first = Some(pairs),
            }
        }
        let any = Matching::maximum(slots.len(), &fresh);
        self.draw_wanted(slots, &fresh, &any, &evens_out)
            .unwrap_or_else(|pairs| DrawnRound { pairs: first.unwrap_or(pairs), next: None })
    }

    /// Draws a round with as many wanted pairs as `matching`. The error is the first such draw, if
    /// none of those examined leaves a further round.
    fn draw_wanted(
        &self,
        slots: &[SlotIdx],
        wanted: &dyn Fn(usize, usize) -> bool,
        matching: &Matching<'_>,
        evens_out: &dyn Fn(usize, usize) -> bool,
    ) -> Result<DrawnRound, Vec<SlotPair>> {
        if slots.len() > MAX_SLOTS_COMPARED {
            let pairs = self.by_matching(slots, matching);
            let next = if self.looks_ahead { self.next_round(slots, &pairs) } else { None };
            return Ok(DrawnRound { pairs, next });
        }
        let (first, chosen) = (None, None);
        let mut search =
            DrawSearch { draw: self, slots, wanted, evens_out, n_tried: 0, first, chosen };
        let ranks: Vec<usize> = (0..slots.len()).collect();
        search.extend(&ranks, matching, &mut Vec::new());
        search.chosen.ok_or_else(|| {
            search.first.expect("Some opponent belongs to a best draw. This is a bug.")
        })
    }

    /// Whether two of the slots, given by rank, even out who was shown first. If the slots are
    /// ordered by balance, no pair has both its slots in one half.
    fn evens_out(&self, slots: &[SlotIdx]) -> impl Fn(usize, usize) -> bool {
        let balances: Vec<i32> = slots.iter().map(|&slot| self.openings.balance(slot)).collect();
        let mut sorted = balances.clone();
        sorted.sort_unstable();
        let half = slots.len() / 2;
        let middle = sorted.get(half.wrapping_sub(1)).copied().zip(sorted.get(half).copied());
        let (low, high) = middle.unwrap_or_default();
        let always = !self.balances;
        move |i, j| {
            let (one, other) = (balances[i], balances[j]);
            always || (one.min(other) <= low && one.max(other) >= high)
        }
    }

    /// The pairs of a matching by rank; slots without a partner meet again.
    fn by_matching(&self, slots: &[SlotIdx], matching: &Matching<'_>) -> Vec<SlotPair> {
        let mut alone: Vec<usize> =
            (0..slots.len()).filter(|&rank| matching.partner(rank).is_none()).collect();
        let mut pairs: Vec<(usize, usize)> = (0..slots.len())
            .filter_map(|rank| matching.partner(rank).map(|partner| (rank, partner)))
            .filter(|(rank, partner)| rank < partner)
            .collect();
        while let Some(top) = (!alone.is_empty()).then(|| alone.remove(0)) {
            let n_meetings = |&at: &usize| self.standings.n_meetings(slots[top], slots[alone[at]]);
            let at = (0..alone.len()).min_by_key(n_meetings);
            let at = at.expect("An even number of slots is alone. This is a bug.");
            pairs.push((top, alone.remove(at)));
        }
        pairs.sort_unstable();
        pairs.into_iter().map(|(one, other)| (slots[one], slots[other])).collect()
    }

    /// Maximum number of disjoint pairs among `slots` that have not met.
    fn n_fresh_pairs(&self, slots: &[SlotIdx]) -> usize {
        if all_can_meet(slots.len(), self.standings.max_played()) {
            return slots.len() / 2;
        }
        let fresh = |i: usize, j: usize| self.standings.n_meetings(slots[i], slots[j]) == 0;
        Matching::maximum(slots.len(), &fresh).size()
    }

    /// A round in which every slot meets a new opponent once more after `pairs`; `None` if there is
    /// none.
    fn next_round(&self, slots: &[SlotIdx], pairs: &[SlotPair]) -> Option<Vec<SlotPair>> {
        let mut opponent = vec![None; self.standings.n_slots()];
        for &(a, b) in pairs {
            opponent[a.0] = Some(b);
            opponent[b.0] = Some(a);
        }
        let fresh = |i: usize, j: usize| {
            let (a, b) = (slots[i], slots[j]);
            opponent[a.0] != Some(b) && self.standings.n_meetings(a, b) == 0
        };
        let matching = Matching::maximum(slots.len(), &fresh);
        let is_whole = matching.size() == slots.len() / 2;
        is_whole.then(|| self.by_matching(slots, &matching))
    }
}

/// Whether `n_slots`, an even number, can all meet a new opponent if none has met more than `n_met`
/// others. By Dirac's theorem (1952) a graph in which every vertex is adjacent to at least half of
/// the others has a Hamiltonian cycle; every second edge of it is such a round.
pub(super) fn all_can_meet(n_slots: usize, n_met: usize) -> bool {
    n_slots == 0 || n_slots.saturating_sub(1 + n_met) >= n_slots.div_ceil(2)
}

/// A walk through the draws of a round that have the most wanted pairs, preferred ones first.
struct DrawSearch<'a> {
    draw: &'a RoundDraw<'a>,
    slots: &'a [SlotIdx],
    /// Whether two slots, given by rank, should meet.
    wanted: &'a dyn Fn(usize, usize) -> bool,
    evens_out: &'a dyn Fn(usize, usize) -> bool,
    n_tried: usize,
    first: Option<Vec<SlotPair>>,
    chosen: Option<DrawnRound>,
}

impl DrawSearch<'_> {
    /// Pairs the ranks left, which have `matching` as a maximum; true if the search is over.
    fn extend(
        &mut self,
        left: &[usize],
        matching: &Matching<'_>,
        pairs: &mut Vec<SlotPair>,
    ) -> bool {
        let Some((&top, rest)) = left.split_first() else {
            return self.examine(pairs);
        };
        let (slots, standings) = (self.slots, self.draw.standings);
        let mut candidates = rest.to_vec();
        // A stable sort: next in rank first among slots met equally often.
        candidates.sort_by_key(|&rank| {
            (standings.n_meetings(slots[top], slots[rank]), !(self.evens_out)(top, rank))
        });
        for opponent in candidates {
            let own = usize::from((self.wanted)(top, opponent));
            let of_rest = matching.without(top, opponent);
            if own + of_rest.size() == matching.size() {
                let others: Vec<usize> =
                    rest.iter().copied().filter(|&rank| rank != opponent).collect();
                pairs.push((slots[top], slots[opponent]));
                if self.extend(&others, &of_rest, pairs) {
                    return true;
                }
                pairs.pop();
            }
        }
        false
    }

    /// Keeps a complete draw if it is good enough; true if no further draw must be examined.
    fn examine(&mut self, pairs: &[SlotPair]) -> bool {
        self.n_tried += 1;
        let next = match self.draw.looks_ahead {
            true => self.draw.next_round(self.slots, pairs),
            false => None,
        };
        if !self.draw.looks_ahead || next.is_some() {
            self.chosen = Some(DrawnRound { pairs: pairs.to_vec(), next });
        }
        self.first.get_or_insert_with(|| pairs.to_vec());
        self.chosen.is_some() || self.n_tried == MAX_DRAWS_TRIED
    }
}
