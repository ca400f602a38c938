//! Swiss: slots of similar score meet, and no two meet twice while that can be avoided.
//!
//! Knows the standings and which slots have met. It looks one round ahead and no further: in long
//! tournaments of small groups a later round may have unavoidable rematches; it then has as few as
//! possible.

use super::format::{MatchesInPlay, SlotMatch, TournamentFormat};
use super::matching::maximum_matching_size;
use super::score::MatchScore;
use super::standings::Standings;
use crate::index::SlotIdx;

/// Two slots that meet in a round.
type SlotPair = (SlotIdx, SlotIdx);

/// Maximum number of draws of one round that are examined for one that leaves a next round without
/// rematches. Six slots have fifteen; larger groups hardly ever need a second.
const MAX_DRAWS_TRIED: usize = 64;

/// A Swiss tournament between slots.
#[derive(Debug)]
pub(super) struct Swiss {
    standings: Standings,
    in_play: MatchesInPlay,
    n_rounds: u32,
    n_rounds_paired: u32,
}

impl Swiss {
    /// Plans `rounds`, or ceil(log2 n) + 1 if not given; at least one and at most as many as a
    /// round robin needs.
    pub(super) fn new(n_slots: usize, rounds: Option<u32>) -> Self {
        Self {
            standings: Standings::new(n_slots),
            in_play: MatchesInPlay::default(),
            n_rounds: n_rounds_planned(n_slots, rounds),
            n_rounds_paired: 0,
        }
    }
}

/// The rounds of a tournament of `n_slots` for which `rounds` were asked.
pub(super) fn n_rounds_planned(n_slots: usize, rounds: Option<u32>) -> u32 {
    if n_slots < 2 {
        return 0;
    }
    let most = if n_slots.is_multiple_of(2) { n_slots - 1 } else { n_slots };
    let most = u32::try_from(most).expect("A group is small. This is a bug.");
    rounds.unwrap_or_else(|| default_n_rounds(n_slots)).clamp(1, most)
}

/// ceil(log2 n) + 1: one round more than a knockout needs.
fn default_n_rounds(n_slots: usize) -> u32 {
    n_slots.next_power_of_two().ilog2() + 1
}

impl TournamentFormat for Swiss {
    fn take_ready_matches(&mut self) -> Vec<SlotMatch> {
        if !self.in_play.is_empty() || self.n_rounds_paired == self.n_rounds {
            return Vec::new();
        }
        let round = self.n_rounds_paired;
        self.n_rounds_paired += 1;
        let mut slots = self.standings.ranked();
        if !slots.len().is_multiple_of(2) {
            let resting = choose_bye(&self.standings, &mut slots);
            self.standings.record_bye(resting);
        }
        // With an odd number of slots, the next round's bye can avoid a rematch.
        let is_last = self.n_rounds_paired == self.n_rounds;
        let look_ahead = !is_last && self.standings.n_slots().is_multiple_of(2);
        let pairs = draw_round(&self.standings, &slots, look_ahead);
        for &(a, b) in &pairs {
            self.in_play.insert(a, b);
        }
        pairs.into_iter().map(|(a, b)| SlotMatch { a, b, round }).collect()
    }

    fn record_score(&mut self, a: SlotIdx, b: SlotIdx, score: MatchScore) -> bool {
        let was_in_play = self.in_play.remove(a, b);
        if was_in_play {
            self.standings.record_score(a, b, score);
        }
        was_in_play
    }

    fn is_done(&self) -> bool {
        self.n_rounds_paired == self.n_rounds && self.in_play.is_empty()
    }

    fn winner(&self) -> Option<SlotIdx> {
        if self.is_done() { self.standings.best() } else { None }
    }

    fn n_matches_planned(&self) -> usize {
        self.n_rounds as usize * (self.standings.n_slots() / 2)
    }
}

/// Whether `n_slots`, an even number, can all meet a new opponent if none has met more than `n_met`
/// others. By Dirac's theorem (1952) a graph in which every vertex is adjacent to at least half of
/// the others has a Hamiltonian cycle; every second edge of it is such a round.
pub(super) fn all_can_meet(n_slots: usize, n_met: usize) -> bool {
    n_slots == 0 || n_slots.saturating_sub(1 + n_met) >= n_slots.div_ceil(2)
}

/// Maximum number of disjoint pairs among `slots` that have not met.
fn n_fresh_pairs(standings: &Standings, slots: &[SlotIdx]) -> usize {
    if all_can_meet(slots.len(), standings.max_played()) {
        return slots.len() / 2;
    }
    maximum_matching_size(slots.len(), |i, j| standings.n_meetings(slots[i], slots[j]) == 0)
}

/// Removes from the ranked slots the one that gets the bye, and returns it.
///
/// The bye is chosen so that the other slots have the fewest rematches (none, if possible). Among
/// such slots, the one with the fewest byes so far gets it, then the lowest ranked.
fn choose_bye(standings: &Standings, slots: &mut Vec<SlotIdx>) -> SlotIdx {
    let n_pairs = slots.len() / 2;
    let mut lowest_first: Vec<usize> = (0..slots.len()).rev().collect();
    // A stable sort: lowest rank first among slots with equally many byes.
    lowest_first.sort_by_key(|&rank| standings.n_byes(slots[rank]));
    let mut best: Option<(usize, usize)> = None;
    for rank in lowest_first {
        let mut others = slots.clone();
        others.remove(rank);
        let n_fresh = n_fresh_pairs(standings, &others);
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
/// From the top, each slot meets the next in rank that leaves as many fresh pairs to the rest as
/// the best draw needs. The exact matching size of the rest decides, so that no greedy choice can
/// force an avoidable rematch. An unavoidable rematch goes to the slots that met least often, then
/// to the next in rank. With `look_ahead`, the first such draw is taken after which every slot can
/// meet a new opponent once more; if no examined draw allows that, the first draw is taken.
fn draw_round(standings: &Standings, slots: &[SlotIdx], look_ahead: bool) -> Vec<SlotPair> {
    let mut search =
        DrawSearch { standings, slots, look_ahead, n_tried: 0, first: None, chosen: None };
    search.extend(slots, n_fresh_pairs(standings, slots), &mut Vec::new());
    let found = search.chosen.or(search.first);
    found.expect("Some opponent belongs to a best draw. This is a bug.")
}

/// A walk through the draws of a round that have the fewest rematches, preferred ones first.
struct DrawSearch<'a> {
    standings: &'a Standings,
    slots: &'a [SlotIdx],
    look_ahead: bool,
    n_tried: usize,
    first: Option<Vec<SlotPair>>,
    chosen: Option<Vec<SlotPair>>,
}

impl DrawSearch<'_> {
    /// Pairs the slots left, of which `n_fresh` pairs can be fresh; true if the search is over.
    fn extend(&mut self, left: &[SlotIdx], n_fresh: usize, pairs: &mut Vec<SlotPair>) -> bool {
        let Some((&top, rest)) = left.split_first() else {
            return self.examine(pairs);
        };
        let mut candidates: Vec<usize> = (0..rest.len()).collect();
        // A stable sort: next in rank first among slots met equally often.
        candidates.sort_by_key(|&rank| self.standings.n_meetings(top, rest[rank]));
        for rank in candidates {
            let mut others = rest.to_vec();
            let opponent = others.remove(rank);
            let own = usize::from(self.standings.n_meetings(top, opponent) == 0);
            let n_left = n_fresh_pairs(self.standings, &others);
            if own + n_left == n_fresh {
                pairs.push((top, opponent));
                if self.extend(&others, n_left, pairs) {
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
        if !self.look_ahead || self.leaves_a_fresh_round(pairs) {
            self.chosen = Some(pairs.to_vec());
        }
        self.first.get_or_insert_with(|| pairs.to_vec());
        self.chosen.is_some() || self.n_tried == MAX_DRAWS_TRIED
    }

    /// Whether every slot could meet a new opponent once more after these pairs.
    fn leaves_a_fresh_round(&self, pairs: &[SlotPair]) -> bool {
        let slots = self.slots;
        if all_can_meet(slots.len(), self.standings.max_played() + 1) {
            return true;
        }
        let n_fresh = maximum_matching_size(slots.len(), |i, j| {
            let (a, b) = (slots[i], slots[j]);
            self.standings.n_meetings(a, b) == 0
                && !pairs.contains(&(a, b))
                && !pairs.contains(&(b, a))
        });
        n_fresh == slots.len() / 2
    }
}
