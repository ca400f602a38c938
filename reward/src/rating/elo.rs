//! Online Elo: one update per vote, in a seeded order.
//!
//! The classical rating. It depends on the order of votes and does not model position bias; the fit
//! of `bradley_terry` has neither fault.

use std::collections::BTreeMap;

use joust_schema::config::check::validate;
use joust_schema::config::keys::ConfigKeys;
use joust_schema::seed::Seed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scale::{ELO_CENTRE, ELO_SCALE, sigmoid};
use super::votes::MatchVotes;

/// Settings of online Elo.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct EloConfig {
    /// Elo points at stake in one vote (Elo's K).
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub k: f64,
    /// Elo number of every completion before the first vote.
    pub start: f64,
}

impl Default for EloConfig {
    fn default() -> Self {
        Self { k: 32.0, start: ELO_CENTRE }
    }
}

impl EloConfig {
    /// All problems, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        validate(self, &ConfigKeys::of::<Self>())
    }
}

/// Votes that do not differ: the same two players, the same player shown first, the same winner.
/// Fields are seen from the player with the lower key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct VoteClass {
    /// Keys of the two players, the lower one first.
    keys: [u64; 2],
    lower_first: bool,
    lower_won: bool,
    /// Numbers of the two players, in the order of the keys.
    players: [usize; 2],
}

/// Applies the votes one after the other and returns the Elo number of each player, in the order of
/// `keys`.
///
/// After each vote the winner gains, and the loser gives, k (1 - p) with p = 1 / (1 + 10^((R_loser
/// - R_winner) / 400)).
///
/// `keys` holds one key per player. The order of votes is drawn from the seed and the keys of the
/// two players of each vote. It depends neither on the players' numbers, nor on the order of
/// matches, nor on which player is a: permuting the players permutes the Elo numbers. Players with
/// equal keys are ordered by number.
///
/// Source: A. Elo, "The Rating of Chessplayers", 1978.
///
/// # Panics
/// If a match names a player without a key.
pub fn elo(keys: &[u64], matches: &[MatchVotes], config: &EloConfig, seed: Seed) -> Vec<f64> {
    let mut ratings = vec![config.start; keys.len()];
    for [winner, loser] in shuffled_votes(keys, matches, seed) {
        let ln_odds = (ratings[winner] - ratings[loser]) * std::f64::consts::LN_10 / ELO_SCALE;
        let gain = config.k * sigmoid(-ln_odds);
        ratings[winner] += gain;
        ratings[loser] -= gain;
    }
    ratings
}

/// Every vote as winner and loser, in the drawn order.
fn shuffled_votes(keys: &[u64], matches: &[MatchVotes], seed: Seed) -> Vec<[usize; 2]> {
    let mut n_votes: BTreeMap<VoteClass, u32> = BTreeMap::new();
    for pair in matches {
        let a_is_lower = (keys[pair.a], pair.a) < (keys[pair.b], pair.b);
        let players = if a_is_lower { [pair.a, pair.b] } else { [pair.b, pair.a] };
        for (a_first, votes) in [(true, pair.a_first), (false, pair.b_first)] {
            for (a_won, count) in [(true, votes.a), (false, votes.b)] {
                let class = VoteClass {
                    keys: players.map(|player| keys[player]),
                    lower_first: a_first == a_is_lower,
                    lower_won: a_won == a_is_lower,
                    players,
                };
                *n_votes.entry(class).or_default() += count;
            }
        }
    }
    let seed = seed.child_str("elo", "vote_order");
    let mut votes: Vec<(u64, VoteClass)> = Vec::new();
    for (class, count) in n_votes {
        let kind = 2 * u64::from(class.lower_first) + u64::from(class.lower_won);
        let [lower, higher] = class.keys;
        let of_class = seed.child("lower", lower).child("higher", higher).child("kind", kind);
        votes.extend((0..count).map(|vote| (of_class.child("vote", u64::from(vote)).0, class)));
    }
    votes.sort_unstable();
    votes
        .into_iter()
        .map(
            |(_, VoteClass { players: [lower, higher], lower_won, .. })| {
                if lower_won { [lower, higher] } else { [higher, lower] }
            },
        )
        .collect()
}
