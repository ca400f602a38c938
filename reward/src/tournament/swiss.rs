//! Swiss: slots of similar score meet, no two meet twice while that can be avoided, and each is
//! shown first as often as second.
//!
//! Knows the rounds; `draw` knows who meets. It looks one round ahead and no further: in long
//! tournaments of small groups a later round may have unavoidable rematches; it then has as few as
//! possible.

use std::collections::BTreeMap;

use super::draw::{DrawnRound, RoundDraw, SlotPair};
use super::format::{MatchesInPlay, SlotMatch, TournamentFormat};
use super::opening::Openings;
use super::score::MatchScore;
use super::standings::Standings;
use crate::index::SlotIdx;

/// A Swiss tournament between slots.
#[derive(Debug)]
pub(super) struct Swiss {
    standings: Standings,
    openings: Openings,
    /// Whether opponents should even out who was shown first.
    balances: bool,
    in_play: MatchesInPlay,
    n_rounds: u32,
    n_rounds_paired: u32,
}

impl Swiss {
    /// Plans `rounds`, or ceil(log2 n) + 1 if not given; at least one and at most as many as a
    /// round robin needs. With `balances`, the draws even out who was shown first.
    pub(super) fn new(openings: Openings, rounds: Option<u32>, balances: bool) -> Self {
        let n_slots = openings.n_slots();
        Self {
            standings: Standings::new(n_slots),
            openings,
            balances,
            in_play: MatchesInPlay::default(),
            n_rounds: n_rounds_planned(n_slots, rounds),
            n_rounds_paired: 0,
        }
    }

    /// Decides who opens the matches of a drawn round.
    ///
    /// In a round of opponents with equal balances, such as the first, coins decide so that the
    /// slots of each pair of a possible `next` round end with opposite balances: that round can
    /// bring all of them to zero. The pairs of both rounds form even cycles, and the openings
    /// alternate along each.
    fn open_round(&mut self, DrawnRound { pairs, next }: DrawnRound, round: u32) -> Vec<SlotMatch> {
        let openings = &self.openings;
        let is_level = |&(a, b): &SlotPair| openings.balance(a) == openings.balance(b);
        let opens = match next {
            Some(next) if self.balances && pairs.iter().all(is_level) => {
                Some(alternating(&pairs, &next, |a, b| openings.coin(a, b)))
            }
            _ => None,
        };
        let open = |(a, b): SlotPair| {
            let a_opens = match &opens {
                None => self.openings.decide(a, b),
                Some(opens) => {
                    self.openings.count(a, b, opens[&a]);
                    opens[&a]
                }
            };
            SlotMatch { a, b, round, a_opens }
        };
        pairs.into_iter().map(open).collect()
    }
}

/// Who opens, such that the slots of each pair of both rounds differ; the coin of a pair decides
/// for its cycle.
fn alternating(
    pairs: &[SlotPair],
    next: &[SlotPair],
    coin: impl Fn(SlotIdx, SlotIdx) -> bool,
) -> BTreeMap<SlotIdx, bool> {
    let both_ways = |pairs: &[SlotPair]| -> BTreeMap<SlotIdx, SlotIdx> {
        pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect()
    };
    let (now, later) = (both_ways(pairs), both_ways(next));
    let mut opens = BTreeMap::new();
    for &(a, b) in pairs {
        let a_opens = coin(a, b);
        let mut slot = a;
        while !opens.contains_key(&slot) {
            let opponent = now[&slot];
            opens.insert(slot, a_opens);
            opens.insert(opponent, !a_opens);
            slot = later[&opponent];
        }
    }
    opens
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
        let is_last = self.n_rounds_paired == self.n_rounds;
        let mut slots = self.standings.ranked();
        let is_odd = !slots.len().is_multiple_of(2);
        let draw = RoundDraw {
            standings: &self.standings,
            openings: &self.openings,
            balances: self.balances,
            // With an odd number of slots, the next round's bye can avoid a rematch.
            looks_ahead: !is_last && !is_odd,
        };
        let resting = is_odd.then(|| draw.take_bye(&mut slots));
        let drawn = draw.draw(&slots);
        if let Some(slot) = resting {
            self.standings.record_bye(slot);
        }
        for &(a, b) in &drawn.pairs {
            self.in_play.insert(a, b);
        }
        self.open_round(drawn, round)
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
