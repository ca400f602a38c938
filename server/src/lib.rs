//! The reward service: groups over HTTP and Arrow Flight in, rewards with their evidence out.
//!
//! `problem ← state ← input ← protocols ← api ← routes`. `cohort` puts groups together whose
//! completions arrive one request each, `desk` is the handle to the judge thread, `dump` keeps
//! results on disk. One OS thread owns the judge and all open tournaments; sockets and time limits
//! are tokio's, tensors never are. Knows nothing of how a group is judged. The statuses stand in
//! [`problem`](self), in one table.

#![forbid(unsafe_code)]

mod api;
pub mod cohort;
mod config;
mod desk;
mod dump;
pub mod figures;
mod input;
mod judged;
mod openapi;
mod problem;
mod protocols;
mod routes;
mod state;
mod wire;

pub use config::{DumpConfig, ServeConfig, ServerConfig};
pub use desk::handle::ScorerHandle;
pub use routes::Server;
pub use wire::{ScoreGroupRequest, ScoreGroupResponse};

#[cfg(test)]
mod tests;
