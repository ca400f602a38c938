//! The config of `joust score`, `joust judge` and `joust serve`.

use std::path::PathBuf;

use joust_reward::RewardConfig;
use joust_server::cohort::terms::Incomplete;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RunSection;

/// Scoring without training. The sections of `joust train` that it has no use for may be there too,
/// so that one file serves both.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ScoreRun {
    /// Seed and threads; scoring writes where it is told to, not into a run's folder.
    pub(crate) run: RunSection,
    /// What completions are worth.
    pub(crate) reward: RewardConfig,
    /// The reward server.
    pub(crate) serve: ServeSection,
}

/// The reward server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServeSection {
    /// Address that it listens on.
    pub(crate) host: String,
    /// Port that it listens on.
    pub(crate) port: u16,
    /// Most groups that wait or are being judged; a further one is answered with 429. A client that has none waiting
    /// finds room for one beside them.
    pub(crate) queue_capacity: usize,
    /// Most estimated judge tokens of those groups; a further group is answered with 429. 0: as many as can be
    /// judged within `timeout_s` at the judge's measured pace.
    pub(crate) queue_tokens: u64,
    /// Longest time that a request waits for its result, in seconds; then it is answered with 504.
    pub(crate) timeout_s: f64,
    /// Members of a group whose completions come one by one (`/get_reward`, `/remote_rm`): the trainer's
    /// samples a prompt.
    pub(crate) group_size: usize,
    /// Longest time from a group's first completion to its last, in seconds.
    pub(crate) collect_s: f64,
    /// What becomes of a group that is not complete by then: `fail` answers with an error, `partial` judges
    /// those that came, `mask` answers without a reward where the protocol has a word for it.
    pub(crate) incomplete: Incomplete,
    /// How long results are kept for clients that ask again, in seconds; with a `dump`, also over a restart.
    pub(crate) keep_s: f64,
    /// Most memory for them, and most disk for the dump's journal, in MiB; the oldest go first.
    pub(crate) keep_mib: usize,
    /// Most groups that are put together or judged at once; a further one is answered with 429.
    pub(crate) max_cohorts: usize,
    /// File with tokens, one a line, one of which every request must bring (`Authorization: Bearer TOKEN`);
    /// those of the environment variable JOUST_TOKENS, with commas between, count too. Leave out both to
    /// ask for none.
    pub(crate) token_file: Option<PathBuf>,
    /// File with the server's certificate and those that lead to it (PEM), for TLS; with `tls_key`.
    pub(crate) tls_cert: Option<PathBuf>,
    /// File with the certificate's private key (PEM).
    pub(crate) tls_key: Option<PathBuf>,
    /// Folder for what it scores: a journal, by which a restarted server knows what it has answered and
    /// accepted, and sets of Parquet tables. Leave out for none.
    pub(crate) dump: Option<PathBuf>,
    /// Groups of a set.
    pub(crate) dump_every: usize,
    /// Age at which a set is written, however few its groups, in seconds.
    pub(crate) dump_every_s: f64,
}

impl Default for ServeSection {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8000,
            queue_capacity: 256,
            queue_tokens: 0,
            timeout_s: 3600.0,
            group_size: 8,
            collect_s: 600.0,
            incomplete: Incomplete::Fail,
            keep_s: 900.0,
            keep_mib: 512,
            max_cohorts: 4096,
            token_file: None,
            tls_cert: None,
            tls_key: None,
            dump: None,
            dump_every: 64,
            dump_every_s: 60.0,
        }
    }
}

/// Sections of `joust train` that scoring has no use for.
pub(crate) const UNUSED: [&str; 8] =
    ["train", "policy", "prompts", "rollout", "trainer", "eval", "checkpoint", "export"];

impl ScoreRun {
    /// Refuses what makes no sense, all problems at once.
    pub(crate) fn validate(&self) -> anyhow::Result<()> {
        let reward = self.reward.validate().into_iter();
        let mut problems: Vec<String> = reward.map(|problem| format!("reward.{problem}")).collect();
        let serve = &self.serve;
        let counts = [
            ("queue_capacity", serve.queue_capacity, 1),
            ("dump_every", serve.dump_every, 1),
            ("group_size", serve.group_size, 2),
            ("max_cohorts", serve.max_cohorts, 1),
            ("keep_mib", serve.keep_mib, 1),
        ];
        for (key, value, least) in counts {
            if value < least {
                problems.push(format!("serve.{key} is {value}, wanted at least {least}"));
            }
        }
        let times = [
            ("timeout_s", serve.timeout_s),
            ("collect_s", serve.collect_s),
            ("keep_s", serve.keep_s),
            ("dump_every_s", serve.dump_every_s),
        ];
        for (key, value) in times {
            if !(value > 0.0 && value <= 1e9) {
                problems.push(format!("serve.{key} is {value}, wanted above 0"));
            }
        }
        if serve.tls_cert.is_some() != serve.tls_key.is_some() {
            problems
                .push("serve.tls_cert and serve.tls_key go together; one is missing".to_owned());
        }
        super::refuse(problems)
    }
}
