//! Swiss rounds: members of like score meet, nobody meets twice while that can be avoided.
//!
//! Knows the standings and whom each slot has met. It looks one round ahead and no further: in long
//! tournaments of small groups a later round can come to a point where some rematch is unavoidable;
//! then it has as few as possible.

use super::matching::maximum_matching_size;
use super::standings::Standings;
use super::{Format, InPlay, MatchScore, SlotPairing};

/// Pairings of one round that are looked at for one that does not spoil the next round. Six members
/// have fifteen; larger groups hardly ever need a second.
const MAX_PAIRINGS_TRIED: usize = 64;

/// A Swiss tournament between slots.
#[derive(Debug)]
pub(super) struct Swiss {
    standings: Standings,
    in_play: InPlay,
    n_rounds: u32,
    n_rounds_paired: u32,
}

impl Swiss {
    /// Plans `rounds`, or ceil(log2 n) + 1 where not given; at least one and at most as many as a
    /// round robin needs.
    pub(super) fn new(n_slots: usize, rounds: Option<u32>) -> Self {
        let most = if n_slots.is_multiple_of(2) { n_slots.saturating_sub(1) } else { n_slots };
        let most = u32::try_from(most).expect("A group is small. This is a bug.");
        let n_rounds = if n_slots < 2 {
            0
        } else {
            rounds.unwrap_or_else(|| default_n_rounds(n_slots)).clamp(1, most)
        };
        Self {
            standings: Standings::new(n_slots),
            in_play: InPlay::default(),
            n_rounds,
            n_rounds_paired: 0,
        }
    }
}

/// ceil(log2 n) + 1: one round more than a knockout needs.
fn default_n_rounds(n_slots: usize) -> u32 {
    n_slots.next_power_of_two().ilog2() + 1
}

impl Format for Swiss {
    fn ready(&mut self) -> Vec<SlotPairing> {
        if !self.in_play.is_empty() || self.n_rounds_paired == self.n_rounds {
            return Vec::new();
        }
        let round = self.n_rounds_paired;
        self.n_rounds_paired += 1;
        let mut players = self.standings.ranked();
        if !players.len().is_multiple_of(2) {
            let resting = choose_bye(&self.standings, &mut players);
            self.standings.record_bye(resting);
        }
        // With an odd number, the next round's rest mends what a look ahead would avoid.
        let is_last = self.n_rounds_paired == self.n_rounds;
        let look_ahead = !is_last && self.standings.n_slots().is_multiple_of(2);
        let pairs = pair_round(&self.standings, &players, look_ahead);
        for &(a, b) in &pairs {
            self.in_play.push(a, b);
        }
        pairs.into_iter().map(|(a, b)| SlotPairing { a, b, round }).collect()
    }

    fn record(&mut self, a: usize, b: usize, score: MatchScore) -> bool {
        let played = self.in_play.take(a, b);
        if played {
            self.standings.record(a, b, score);
        }
        played
    }

    fn is_done(&self) -> bool {
        self.n_rounds_paired == self.n_rounds && self.in_play.is_empty()
    }

    fn winner(&self) -> Option<usize> {
        if self.is_done() { self.standings.best() } else { None }
    }

    fn n_matches_planned(&self) -> usize {
        self.n_rounds as usize * (self.standings.n_slots() / 2)
    }
}

/// Whether `n_players`, an even number, can all meet someone new where none has met more than `n_met` others. By
/// Dirac's theorem (1952) a graph whose vertices all have half of the others for neighbours has a
/// Hamiltonian cycle, every second edge of which is such a pairing.
pub(super) fn all_can_meet(n_players: usize, n_met: usize) -> bool {
    n_players == 0 || n_players.saturating_sub(1 + n_met) >= n_players.div_ceil(2)
}

/// The most pairs of distinct slots among `players` that have not met.
fn n_fresh_pairs(standings: &Standings, players: &[usize]) -> usize {
    if all_can_meet(players.len(), standings.most_played()) {
        return players.len() / 2;
    }
    maximum_matching_size(players.len(), |i, j| standings.n_meetings(players[i], players[j]) == 0)
}

/// Removes from the ranked players the one who rests, and returns it.
///
/// Among those whose rest leaves the fewest rematches to the others (none, if that can be had): who
/// rested least, then the lowest ranked.
fn choose_bye(standings: &Standings, players: &mut Vec<usize>) -> usize {
    let n_pairs = players.len() / 2;
    let mut lowest_first: Vec<usize> = (0..players.len()).rev().collect();
    // A stable sort: lowest rank first among those who rested equally often.
    lowest_first.sort_by_key(|&at| standings.n_byes(players[at]));
    let mut best: Option<(usize, usize)> = None;
    for at in lowest_first {
        let mut others = players.clone();
        others.remove(at);
        let n_fresh = n_fresh_pairs(standings, &others);
        if best.is_none_or(|(most, _)| n_fresh > most) {
            best = Some((n_fresh, at));
        }
        if n_fresh == n_pairs {
            break;
        }
    }
    let (_, at) = best.expect("An odd number of players is not zero. This is a bug.");
    players.remove(at)
}

/// Pairs an even number of ranked players with as few rematches as any pairing has.
///
/// From the top, each player meets the next in rank that leaves as many fresh pairs to the rest as
/// the best pairing needs; the exact matching size of the rest decides, so that no greedy choice
/// can force an avoidable rematch. An unavoidable rematch goes to those who met least often, then
/// the next in rank. With `look_ahead`, the first such pairing is taken after which everyone can
/// meet someone new once more, or simply the first if none of those tried is like that.
fn pair_round(standings: &Standings, players: &[usize], look_ahead: bool) -> Vec<(usize, usize)> {
    let mut search =
        PairSearch { standings, players, look_ahead, n_tried: 0, first: None, chosen: None };
    search.extend(players, n_fresh_pairs(standings, players), &mut Vec::new());
    let found = search.chosen.or(search.first);
    found.expect("Some opponent belongs to a best pairing. This is a bug.")
}

/// A walk through the pairings of a round that have the fewest rematches, preferred ones first.
struct PairSearch<'a> {
    standings: &'a Standings,
    players: &'a [usize],
    look_ahead: bool,
    n_tried: usize,
    first: Option<Vec<(usize, usize)>>,
    chosen: Option<Vec<(usize, usize)>>,
}

impl PairSearch<'_> {
    /// Pairs the players left, of whom `n_fresh` pairs can be fresh; true where the search is over.
    fn extend(&mut self, left: &[usize], n_fresh: usize, pairs: &mut Vec<(usize, usize)>) -> bool {
        let Some((&top, rest)) = left.split_first() else {
            return self.judge(pairs);
        };
        let mut candidates: Vec<usize> = (0..rest.len()).collect();
        // A stable sort: next in rank first among those met equally often.
        candidates.sort_by_key(|&at| self.standings.n_meetings(top, rest[at]));
        for at in candidates {
            let mut others = rest.to_vec();
            let opponent = others.remove(at);
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

    /// Keeps a complete pairing if it is good enough; true where no other needs to be tried.
    fn judge(&mut self, pairs: &[(usize, usize)]) -> bool {
        self.n_tried += 1;
        if !self.look_ahead || self.leaves_a_fresh_round(pairs) {
            self.chosen = Some(pairs.to_vec());
        }
        self.first.get_or_insert_with(|| pairs.to_vec());
        self.chosen.is_some() || self.n_tried == MAX_PAIRINGS_TRIED
    }

    /// Tells whether, after these pairs, everyone could still meet someone new.
    fn leaves_a_fresh_round(&self, pairs: &[(usize, usize)]) -> bool {
        let players = self.players;
        if all_can_meet(players.len(), self.standings.most_played() + 1) {
            return true;
        }
        let n_fresh = maximum_matching_size(players.len(), |i, j| {
            let (a, b) = (players[i], players[j]);
            self.standings.n_meetings(a, b) == 0
                && !pairs.contains(&(a, b))
                && !pairs.contains(&(b, a))
        });
        n_fresh == players.len() / 2
    }
}
