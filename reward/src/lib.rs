//! Groups in; matches, verdicts, ratings and rewards out.
//!
//! A tournament chooses which completions meet, a judge votes on two at a time, ratings turn votes
//! into rewards; the arena plays many groups at once. A reward may have further parts. The crate
//! does not know policies, gradients or HTTP routes.

#![forbid(unsafe_code)]

pub mod arena;
mod batch;
mod config;
pub mod dump;
mod error;
mod index;
pub mod judge;
mod part;
mod pool;
pub mod prompt;
pub mod rating;
pub mod rule;
mod scorer;
mod tally;
pub mod tournament;
pub mod verdict;
mod votes;

pub use arena::{GroupRequest, GroupResult, GroupWork};
pub use config::judge::ReplayJudgeConfig;
pub use config::judge::{EngineJudgeConfig, HttpJudgeConfig, JudgeConfig, JudgeKind};
pub use config::part::{Combine, JudgeValue, JudgeWhen, LengthPartConfig, PartOf, RewardPart};
pub use config::part::{CommandPartConfig, FormatPartConfig, HttpPartConfig, JudgePartConfig};
pub use config::{RatingConfig, RatingMethod, RewardConfig, RewardKind, TournamentConfig};
pub use error::{Error, PoolError};
pub use index::PlayerIdx;
pub use part::end_all_commands;
pub use part::{PartGroup, PartMember, PartOutcome, PartScorer, PartScores, Scoring, StepSize};
pub use pool::RatingPool;
pub use scorer::Scorer;
pub use tally::{VoteTally, no_reply_text};
pub use votes::{Stop, VoteRule};
