//! Owns how vote counts become numbers: Bradley-Terry strengths, online Elo and plain win rates, in
//! f64.
//!
//! In: the games of a finished group, votes split by presentation order. It does not know who was
//! paired why, nor how a rating becomes a reward. Invalid votes never get here: they are missing
//! data, not half a win.

pub mod bradley_terry;
mod cholesky;
pub mod elo;

/// The Elo number of a member of average strength.
pub const ELO_CENTRE: f64 = 1000.0;
/// Elo points for odds of ten to one.
pub const ELO_SCALE: f64 = 400.0;

/// Votes of one match in one presentation order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Votes for member a.
    pub a: u32,
    /// Votes for member b.
    pub b: u32,
}

/// The valid votes of one match between two members of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Game {
    /// Position of one member in its group.
    pub a: usize,
    /// Position of the other member, different from `a`.
    pub b: usize,
    /// Votes cast when a was shown first.
    pub a_first: Order,
    /// Votes cast when b was shown first.
    pub b_first: Order,
}

impl Game {
    /// Votes for a in both orders.
    pub fn votes_a(&self) -> u64 {
        u64::from(self.a_first.a) + u64::from(self.b_first.a)
    }

    /// Votes for b in both orders.
    pub fn votes_b(&self) -> u64 {
        u64::from(self.a_first.b) + u64::from(self.b_first.b)
    }
}

/// Writes a Bradley-Terry strength as an Elo number: 1000 + theta * 400 / ln 10.
///
/// Both scales then give the same win probability, sigmoid(d theta) = 1 / (1 + 10^(-d elo / 400)).
pub fn elo_number(theta: f64) -> f64 {
    ELO_CENTRE + theta * ELO_SCALE / std::f64::consts::LN_10
}

/// Returns each member's share of the valid votes of its games, none for a member without any.
///
/// Neither the strength of the opponents nor the presentation order is taken into account.
///
/// # Panics
/// If a game names a member outside `0..n`.
pub fn win_rate(n: usize, games: &[Game]) -> Vec<Option<f64>> {
    let mut won = vec![0_u64; n];
    let mut cast = vec![0_u64; n];
    for game in games {
        for (member, votes) in [(game.a, game.votes_a()), (game.b, game.votes_b())] {
            won[member] += votes;
            cast[member] += game.votes_a() + game.votes_b();
        }
    }
    won.into_iter()
        .zip(cast)
        .map(|(won, cast)| (cast > 0).then(|| won as f64 / cast as f64))
        .collect()
}

/// The logistic function 1 / (1 + e^-x), without overflow.
fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let odds = x.exp();
        odds / (1.0 + odds)
    }
}

#[cfg(test)]
mod tests;
