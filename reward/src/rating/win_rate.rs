//! Win rates: the plain share of votes won, and the share of wins that ratings let expect.
//!
//! The plain share takes neither the strength of the opponents nor the presentation order into
//! account.

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

/// Returns each player's expected share of wins against the other members of its group: of each of
/// the others the probability `beats(player, other)`, of members that are the same player a half.
/// Several members are one player where their completions are equal; `n_members` counts those with
/// a rating. `None` for a player that meets no such member.
pub fn expected_win_rate(
    n_members: &[u32],
    beats: &dyn Fn(usize, usize) -> f64,
) -> Vec<Option<f64>> {
    let of_player = |player: usize| {
        // summed in the order of the players, which does not depend on that of the members
        let (mut sum, mut n_others) = (0.0, 0);
        for (other, &n_members) in n_members.iter().enumerate() {
            let (n, chance) = match other == player {
                true => (n_members.saturating_sub(1), 0.5),
                false if n_members == 0 => continue,
                false => (n_members, beats(player, other)),
            };
            sum += f64::from(n) * chance;
            n_others += n;
        }
        (n_others > 0).then(|| sum / f64::from(n_others))
    };
    (0..n_members.len()).map(of_player).collect()
}
