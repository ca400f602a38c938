//! The size of a tournament, from its format and its number of players alone.
//!
//! It builds no tournament: the size of a group of any length is known at once.

use super::kind::TournamentKind;
use super::swiss::n_rounds_planned;

/// Number of matches of a whole tournament.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TournamentSize {
    /// All matches, byes not counted.
    pub(crate) n_matches: u64,
    /// Maximum number of matches of one player.
    pub(crate) max_per_player: u64,
}

impl TournamentSize {
    /// The size of a tournament of `n_players`. Only Swiss reads `rounds`.
    pub(crate) fn of(kind: TournamentKind, n_players: usize, rounds: Option<u32>) -> Self {
        let n = n_players as u64;
        let others = n.saturating_sub(1);
        match kind {
            TournamentKind::Swiss => {
                let n_rounds = u64::from(n_rounds_planned(n_players, rounds));
                Self { n_matches: n_rounds * (n / 2), max_per_player: n_rounds }
            }
            TournamentKind::Knockout => {
                let n_rounds = n.max(1).next_power_of_two().ilog2();
                Self { n_matches: others, max_per_player: u64::from(n_rounds) }
            }
            TournamentKind::RoundRobin => {
                let n_matches = u128::from(n) * u128::from(others) / 2;
                let n_matches = u64::try_from(n_matches).unwrap_or(u64::MAX);
                Self { n_matches, max_per_player: others }
            }
        }
    }
}
