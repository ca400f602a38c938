//! Judges compare two completions at a time. One file per judge.
//!
//! A judge takes vote requests and returns outcomes. It does not know tournaments.

mod cached;
mod chat;
mod engine;
mod http;
mod interface;
mod kept;
mod recording;
mod replay;
mod rule;
mod scripted;
mod vote;

pub use cached::{CacheStats, CachedJudge};
pub use chat::{ChatId, ChatModel, ChatOutcome, ChatReply, ChatRequest};
pub use engine::EngineJudge;
pub use http::HttpJudge;
pub use interface::{Judge, JudgeServers};
pub use kept::{KeepingJudge, KeptVotes};
pub use recording::RecordingJudge;
pub use replay::ReplayJudge;
pub use rule::RuleJudge;
pub use scripted::{ScriptControl, ScriptedJudge};
pub use vote::{JudgeError, ShownPair, VoteId, VoteOutcome, VoteReply, VoteRequest};
