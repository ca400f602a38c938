//! The reward server: groups over HTTP in, rewards with their evidence out.
//!
//! Routes: `POST /v1/score_group`, `/compare` (NeMo-Gym), `/rerank` and `/v1/rerank` (vLLM) for a whole group;
//! `POST /get_reward` (OpenRLHF), `/remote_rm` (slime) and `/verify` (NeMo-Gym) for one completion, whose
//! group is put together here; `POST /v1/score_groups` and Arrow Flight's `DoExchange` for streams of groups;
//! `/v1/jobs` for groups whose result is asked for later; `/score`, `/classify` and
//! `/v1/chat/completions` as other servers offer them; `GET /health`, `/ready`, `/metrics`, `/info`,
//! `/v1/models`. One OS thread owns the
//! judge and all open tournaments; requests reach it through a bounded queue, so that groups of many
//! clients are judged together. Sockets and time limits are tokio's, tensors never are.
//!
//! | status | when |
//! |---|---|
//! | 200 | the group was scored; members without a valid vote have a null reward and say so |
//! | 400, 422 | the body is no JSON, or not a group; the judge refuses it, and would again |
//! | 401 | tokens are set, and the request brings none of them |
//! | 409 | a member of the group is there already and says something else; its judging was cancelled; others want a job that is to be cancelled |
//! | 410 | the group was judged without this member |
//! | 413, 415 | a line, batch or group of a stream is too large; the stream is neither JSON lines nor Arrow |
//! | 429 | the queue is full; `Retry-After` says when to come again |
//! | 503 | the judge failed for every member (for one completion: for it; for a conversation: in it), or the judge or the server stops |
//! | 504 | the result took longer than the time limit, or the group was not complete in time |

#![forbid(unsafe_code)]

mod api;
mod barrier;
mod chat;
pub mod cohort;
mod commands;
mod desk;
pub mod figures;
mod flight;
mod groups;
mod input;
mod ipc;
mod jobs;
mod journal;
mod lines;
mod load;
mod queue;
mod recorder;
mod responses;
mod results;
mod routes;
mod scores;
mod singles;
mod streams;
mod table;
mod thread;
mod turns;
mod unscored;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use cohort::CohortConfig;
pub use desk::ScorerHandle;
use joust_schema::ids::GroupId;
pub use routes::Server;
pub use wire::{ScoreGroupRequest, ScoreGroupResponse};

use joust_reward::arena::GroupResult;

/// Limits of the server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Most groups that wait or are being judged.
    pub queue_capacity: usize,
    /// Most estimated tokens of them; 0: as many as can be judged within `timeout` at the judge's pace.
    pub queue_tokens: u64,
    /// Longest time that a request waits for its result.
    pub timeout: Duration,
    /// Most memory for results that are kept for clients that ask again.
    pub keep_bytes: usize,
    /// Where what is scored is kept on disk; none keeps it in memory only.
    pub dump: Option<DumpConfig>,
    /// Key of groups that bring no seed of their own.
    pub seed: u64,
    /// Tokens one of which every request must bring; none asks for none.
    pub tokens: Vec<String>,
    /// How groups are put together whose completions come one by one.
    pub cohorts: CohortConfig,
}

/// What is scored, on disk.
#[derive(Clone, Debug)]
pub struct DumpConfig {
    /// The folder.
    pub dir: PathBuf,
    /// Groups of a set.
    pub every_groups: usize,
    /// Age at which a set is written, however few its groups.
    pub every: Duration,
    /// Size of the journal at which a set is written.
    pub max_set_bytes: u64,
    /// How long the journal is kept behind the sets.
    pub keep: Duration,
    /// Most bytes of it.
    pub keep_bytes: u64,
    /// Who judges and how; set by [`ScorerHandle::spawn`].
    pub judged_by: String,
}

/// Gives a result another group id, and its matches theirs.
fn rename(result: &mut GroupResult, group_id: GroupId) {
    let inner = std::mem::replace(&mut result.group_id, group_id.clone());
    let renamed = |text: &str| match text.strip_prefix(&inner.0) {
        Some(rest) => format!("{group_id}{rest}"),
        None => text.to_owned(),
    };
    for row in &mut result.rewards {
        row.group_id = group_id.clone();
    }
    for row in &mut result.matches {
        row.group_id = group_id.clone();
        row.match_id.0 = renamed(&row.match_id.0);
    }
    for row in &mut result.votes {
        row.match_id.0 = renamed(&row.match_id.0);
    }
}

#[cfg(test)]
mod tests;
