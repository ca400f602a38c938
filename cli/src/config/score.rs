//! The config of `joust score`, `joust judge` and `joust serve`.

use std::path::PathBuf;

use joust_reward::RewardConfig;
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
    /// Most groups that wait or are being judged; a further one is answered with 429.
    pub(crate) queue_capacity: usize,
    /// Longest time that a request waits for its result, in seconds; then it is answered with 504.
    pub(crate) timeout_s: f64,
    /// Folder for what it scores, a Parquet set every `dump_every` groups; leave out for none.
    pub(crate) dump: Option<PathBuf>,
    /// Groups a set.
    pub(crate) dump_every: usize,
}

impl Default for ServeSection {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8000,
            queue_capacity: 256,
            timeout_s: 3600.0,
            dump: None,
            dump_every: 64,
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
        let counts =
            [("queue_capacity", self.serve.queue_capacity), ("dump_every", self.serve.dump_every)];
        for (key, value) in counts {
            if value == 0 {
                problems.push(format!("serve.{key} is 0, wanted at least 1"));
            }
        }
        if !(self.serve.timeout_s > 0.0 && self.serve.timeout_s <= 1e9) {
            problems.push(format!("serve.timeout_s is {}, wanted above 0", self.serve.timeout_s));
        }
        super::refuse(problems)
    }
}
