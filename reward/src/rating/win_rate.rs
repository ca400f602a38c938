//! The plain share of votes won.
//!
//! It takes neither the strength of the opponents nor the presentation order into account.

use super::votes::MatchVotes;

/// Returns each player's share of the valid votes of its matches; `None` for a player without
/// votes.
///
/// # Panics
/// If a match names a player outside `0..n`.
pub fn win_rate(n: usize, matches: &[MatchVotes]) -> Vec<Option<f64>> {
    let mut won = vec![0_u64; n];
    let mut cast = vec![0_u64; n];
    for pair in matches {
        for (player, votes) in [(pair.a, pair.votes_a()), (pair.b, pair.votes_b())] {
            won[player] += votes;
            cast[player] += pair.votes_a() + pair.votes_b();
        }
    }
    won.into_iter()
        .zip(cast)
        .map(|(won, cast)| (cast > 0).then(|| won as f64 / cast as f64))
        .collect()
}
