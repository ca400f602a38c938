//! Ratings: vote counts become Bradley-Terry strengths, online Elo numbers or plain win rates, in
//! f64. One file per method.
//!
//! In: the votes of a finished group, per match and split by presentation order, and the lengths of
//! its answers. It does not know why two players met, nor how a rating becomes a reward. Invalid
//! votes never get here: they are missing data, not half a win.

pub mod bradley_terry;
mod cholesky;
mod curvature;
pub mod elo;
pub mod length_control;
mod posterior;
mod scale;
mod votes;
mod win_rate;

pub use scale::{ELO_CENTRE, ELO_SCALE, elo_number};
pub use votes::{GroupVotes, MatchVotes, VoteCounts};
pub use win_rate::{expected_win_rate, win_rate};

#[cfg(test)]
mod tests;
