//! The parts of a reward: a judge, rules, programs and servers of users, and how their numbers
//! become one reward.
//!
//! A file per kind of part. `combine`, `length` and `format` are pure; `command` and `http` ask
//! somebody outside, by the contract in `wire`. The parts do not know where groups come from.

mod combine;
mod command;
mod correct;
#[cfg(test)]
mod fixture;
mod format;
mod group;
mod http;
mod length;
mod open;
pub(crate) mod outcome;
pub(crate) mod pattern;
mod portions;
mod result;
mod scorer;
mod scoring;
mod source;
mod wire;

pub use command::end_all as end_all_commands;
pub use group::{PartGroup, PartMember};
pub use outcome::{PartOutcome, PartScores};
pub use scorer::{PartScorer, StepSize};
pub use scoring::Scoring;
