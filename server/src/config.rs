//! Settings of the server.

use std::path::PathBuf;
use std::time::Duration;

use crate::cohort::terms::CohortConfig;

/// Limits of the server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Most groups that wait or are being judged.
    pub queue_capacity: usize,
    /// Most estimated tokens of them; 0: as many as can be judged within `timeout` at the judge's
    /// pace.
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
    /// Who judges and how; set by [`crate::ScorerHandle::spawn`].
    pub judged_by: String,
}
