//! The reward service: groups over HTTP and Arrow Flight in, rewards with their evidence out.
//!
//! `{problem, client, connection_end, tokens} ← {group, judged, wire} ← {cohort, desk, dump} ←
//! state ← input ← protocols ← api ← routes`. `cohort` collects completions that arrive one request
//! each into groups, `desk` is the handle to the judge thread, `dump` keeps results on disk. One OS
//! thread owns the judge and all open tournaments; tokio has the sockets and time limits, never a
//! tensor.
//! The crate does not know how a group is judged. One table, in `problem`, gives every problem its
//! HTTP status.

#![forbid(unsafe_code)]

mod api;
mod body_blocks;
mod body_budget;
mod client;
pub mod cohort;
mod config;
mod connection_end;
mod counted;
mod desk;
mod dump;
mod group;
mod heavy;
mod input;
mod judged;
pub mod metrics;
mod openapi;
mod page_guard;
mod problem;
mod protocols;
mod routes;
mod share_counts;
mod state;
mod tokens;
mod wire;

pub use config::{DumpConfig, ServeConfig, ServerConfig};
pub use connection_end::ConnectionEnd;
pub use desk::handle::ScorerHandle;
pub use routes::Server;
pub use tokens::BearerToken;
pub use wire::{ScoreGroupRequest, ScoreGroupResponse};

#[cfg(test)]
mod tests;
