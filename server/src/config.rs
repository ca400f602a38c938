//! The `[serve]` section, and the limits of the server made from it.

use std::path::PathBuf;
use std::time::Duration;

use joust_reward::TournamentConfig;
use joust_reward::arena::GroupWork;
use joust_schema::config::check::validate;
use joust_schema::config::keys::ConfigKeys;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cohort::terms::{CohortConfig, Incomplete};
use crate::group::check_work;
use crate::tokens::BearerToken;

/// Journal size at which a set is written, however few its groups.
const MAX_SET_BYTES: u64 = 256 << 20;

/// Settings of the reward server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServeConfig {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: u16,
    /// Maximum number of queued and judged groups; a further group is answered with 429. A tenant
    /// (without tokens: an address) without a queued group is admitted beside them, up to a quarter
    /// more.
    #[schemars(range(min = 1))]
    pub queue_capacity: usize,
    /// Maximum estimated judge tokens of queued and judged groups; a further group is answered with
    /// 429. 0: as many as can be judged within `timeout_s` at the measured pace of the judge.
    pub queue_tokens: u64,
    /// Maximum time that a request waits for its result, in seconds; then it is answered with 504.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1e9))]
    pub timeout_s: f64,
    /// Number of members of a group whose completions arrive one request each (`/get_reward`,
    /// `/remote_rm`): the trainer's samples per prompt.
    #[schemars(range(min = 2, max = 1024))]
    pub group_size: usize,
    /// Maximum time from the first to the last completion of a group of single completions, in
    /// seconds.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1e9))]
    pub collect_s: f64,
    /// Time that a group of single completions waits before it is judged if it is complete only
    /// because of equal completions from different requests without an index, in seconds. In this
    /// time the server sees that a client has gone, whose completion came again.
    #[schemars(range(min = 0, max = 1e9))]
    pub settle_s: f64,
    /// Maximum time from the moment at which a client is seen to have given up to its next try, in
    /// seconds. After it, a group of single completions for which no request waits is forgotten,
    /// and an equal completion without an index is no retry of a member of a judged group: the
    /// client has ended, and the members of its next run are others.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1e9))]
    pub retry_s: f64,
    /// Policy for a group that is not complete after `collect_s`: `fail` answers with an error,
    /// `partial` judges the members that came, `mask` answers without a reward where the protocol
    /// has a value for it.
    pub incomplete: Incomplete,
    /// Time for which results are cached for repeated requests, in seconds; with a `dump`, also
    /// over a restart.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1e9))]
    pub keep_s: f64,
    /// Maximum memory for cached results and maximum disk for the journal, in MiB; oldest evicted
    /// first.
    #[schemars(range(min = 1))]
    pub keep_mib: usize,
    /// Maximum number of groups of single completions that are collected or judged; a further group
    /// is answered with 429. A tenant (without tokens: an address) with less than a quarter of them
    /// is admitted beside the others, up to a quarter more.
    #[schemars(range(min = 1))]
    pub max_cohorts: usize,
    /// Maximum memory for completions that wait for their groups (and for the bodies of `/verify`,
    /// which its answers repeat), and as much again for groups that are queued or judged, and as
    /// much again for bodies and Arrow Flight's messages that are read, in MiB; further requests
    /// are answered with 429 (Flight: `RESOURCE_EXHAUSTED`). The first one is always taken. A
    /// tenant (without tokens: an address) with less than a quarter of the memory is admitted
    /// beside the others, up to a quarter more.
    #[schemars(range(min = 1))]
    pub body_mib: usize,
    /// File with tokens, one per line: `TOKEN` or `NAME TOKEN`. Every request must have one of them
    /// (`Authorization: Bearer TOKEN`), or one of the environment variable JOUST_TOKENS (separated
    /// by commas). Without both, no token is required. Groups, jobs and results of different
    /// tokens never meet; tokens with the same name are those of one tenant.
    pub token_file: Option<PathBuf>,
    /// Names under which the server is reached, for a server without tokens: it refuses requests of
    /// web pages (`Origin`) and requests to other names (`Host`). Always allowed are addresses,
    /// `localhost` and names without a dot. `*`: any name and any page.
    pub host_names: Vec<String>,
    /// File with the server's certificate chain (PEM), for TLS; with `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// File with the certificate's private key (PEM).
    pub tls_key: Option<PathBuf>,
    /// Folder for results: a journal, from which a restarted server knows its answers and accepted
    /// jobs, and sets of Parquet tables. Without it, results are kept in memory only.
    pub dump: Option<PathBuf>,
    /// Number of groups per set of Parquet tables.
    #[schemars(range(min = 1))]
    pub dump_every: usize,
    /// Maximum age of a set before it is written, in seconds.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1e9))]
    pub dump_every_s: f64,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8000,
            queue_capacity: 256,
            queue_tokens: 0,
            timeout_s: 3600.0,
            group_size: 8,
            collect_s: 600.0,
            settle_s: 1.0,
            retry_s: 90.0,
            incomplete: Incomplete::Fail,
            keep_s: 900.0,
            keep_mib: 512,
            max_cohorts: 4096,
            body_mib: 1024,
            token_file: None,
            host_names: Vec::new(),
            tls_cert: None,
            tls_key: None,
            dump: None,
            dump_every: 64,
            dump_every_s: 60.0,
        }
    }
}

impl ServeConfig {
    /// Refuses a `group_size` whose groups would all be refused: their work under `tournament` is
    /// above the limit of a group.
    pub fn problem_with(&self, tournament: &TournamentConfig) -> Option<String> {
        let completions: Vec<String> = (0..self.group_size).map(|idx| idx.to_string()).collect();
        let problem = check_work(&GroupWork::of(tournament, "", &completions)).err()?;
        Some(format!(
            "serve.group_size is {}, which reward.tournament does not allow: {problem}",
            self.group_size
        ))
    }

    /// All problems, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = validate(self, &ConfigKeys::of::<Self>());
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            problems.push("tls_cert and serve.tls_key go together; one is missing".to_owned());
        }
        problems
    }
}

/// Settings of the server: durations and bytes of the `[serve]` section, and what no config file
/// holds.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Maximum number of queued and judged groups.
    pub queue_capacity: usize,
    /// Maximum estimated judge tokens of queued and judged groups. 0: as many as can be judged
    /// within `timeout` at the measured pace of the judge.
    pub queue_tokens: u64,
    /// Maximum time that a request waits for its result.
    pub timeout: Duration,
    /// Maximum memory for cached results.
    pub keep_bytes: usize,
    /// Maximum memory for bodies that are read, and as much again for groups that are queued or
    /// judged.
    pub max_body_memory: usize,
    /// Names under which the server is reached, beside those that no web page can have.
    pub host_names: Vec<String>,
    /// Dump of the results. `None`: results are kept in memory only.
    pub dump: Option<DumpConfig>,
    /// Seed of groups without a seed of their own.
    pub seed: u64,
    /// Tokens of which every request must have one. Empty: no token is required.
    pub tokens: Vec<BearerToken>,
    /// Collection of groups whose completions arrive one request each.
    pub cohorts: CohortConfig,
}

/// Dump of the results: a journal, and sets of Parquet tables.
#[derive(Clone, Debug)]
pub struct DumpConfig {
    /// Folder of the dump.
    pub dir: PathBuf,
    /// Number of groups per set.
    pub every_groups: usize,
    /// Maximum age of a set before it is written, however few its groups.
    pub every: Duration,
    /// Maximum size of the journal before a set is written.
    pub max_set_bytes: u64,
    /// Time for which journal segments are kept after their sets are written.
    pub keep: Duration,
    /// Maximum size of these segments, in bytes.
    pub keep_bytes: u64,
    /// Judge and its settings; set by [`crate::ScorerHandle::spawn`].
    pub judged_by: String,
}

impl ServerConfig {
    /// Reads the `[serve]` section; `seed` is the seed of the run.
    pub fn new(serve: &ServeConfig, seed: u64, tokens: Vec<BearerToken>) -> Self {
        let keep = Duration::from_secs_f64(serve.keep_s);
        let dump = serve.dump.clone().map(|dir| DumpConfig {
            dir,
            every_groups: serve.dump_every,
            every: Duration::from_secs_f64(serve.dump_every_s),
            max_set_bytes: MAX_SET_BYTES,
            keep,
            keep_bytes: (serve.keep_mib as u64) << 20,
            judged_by: String::new(),
        });
        Self {
            queue_capacity: serve.queue_capacity,
            queue_tokens: serve.queue_tokens,
            timeout: Duration::from_secs_f64(serve.timeout_s),
            keep_bytes: serve.keep_mib << 20,
            max_body_memory: serve.body_mib << 20,
            host_names: serve.host_names.clone(),
            dump,
            seed,
            tokens,
            cohorts: CohortConfig {
                group_size: serve.group_size,
                collect: Duration::from_secs_f64(serve.collect_s),
                settle: Duration::from_secs_f64(serve.settle_s),
                retry: Duration::from_secs_f64(serve.retry_s),
                keep,
                incomplete: serve.incomplete,
                max_open: serve.max_cohorts,
                max_bytes: serve.body_mib << 20,
            },
        }
    }
}
