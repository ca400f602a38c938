//! The reward server: groups over HTTP in, rewards with their evidence out.
//!
//! Routes: `POST /v1/score_group`, `/compare` (NeMo-Gym), `/rerank` and `/v1/rerank` (vLLM) for a whole group;
//! `POST /get_reward` (OpenRLHF), `/remote_rm` (slime) and `/verify` (NeMo-Gym) for one completion, whose
//! group is put together here; `POST /v1/score_groups` and Arrow Flight's `DoExchange` for streams of groups;
//! `GET /health`, `/ready`, `/metrics`, `/info`, `/v1/models`. One OS thread owns the
//! judge and all open tournaments; requests reach it through a bounded queue, so that groups of many
//! clients are judged together. Sockets and time limits are tokio's, tensors never are.
//!
//! | status | when |
//! |---|---|
//! | 200 | the group was scored; members without a valid vote have a null reward and say so |
//! | 400, 422 | the body is no JSON, or not a group |
//! | 401 | tokens are set, and the request brings none of them |
//! | 409 | a member of the group is there already and says something else |
//! | 410 | the group was judged without this member |
//! | 413, 415 | a line, batch or group of a stream is too large; the stream is neither JSON lines nor Arrow |
//! | 429 | the queue is full; `Retry-After` says when to come again |
//! | 503 | the judge failed for every member (for one completion: for it), or the judge or the server stops |
//! | 504 | the result took longer than the time limit, or the group was not complete in time |

mod barrier;
pub mod cohort;
pub mod figures;
mod flight;
mod groups;
mod ipc;
mod lines;
mod responses;
mod routes;
mod singles;
mod streams;
mod table;
mod thread;
mod turns;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use cohort::CohortConfig;
pub use routes::Server;
pub use thread::ScorerHandle;
pub use wire::{ScoreGroupRequest, ScoreGroupResponse};

/// Limits of the server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Most groups that wait or are being judged.
    pub queue_capacity: usize,
    /// Longest time that a request waits for its result.
    pub timeout: Duration,
    /// Folder for what is scored.
    pub dump: Option<PathBuf>,
    /// Groups a dumped set.
    pub dump_every: usize,
    /// Key of groups that bring no seed of their own.
    pub seed: u64,
    /// Tokens one of which every request must bring; none asks for none.
    pub tokens: Vec<String>,
    /// How groups are put together whose completions come one by one.
    pub cohorts: CohortConfig,
}

#[cfg(test)]
mod tests;
