//! The config of `joust score`, `joust judge` and `joust serve`.

use joust_reward::RewardConfig;
use joust_server::ServeConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use joust_run::config::RunSection;

/// Scoring without training. The sections of `joust train` that it has no use for may be there too,
/// so that one file serves both.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ScoreRun {
    /// Seed and threads. The other keys belong to `joust train`: scoring has no run folder.
    pub(crate) run: RunSection,
    /// Scoring of groups of completions.
    pub(crate) reward: RewardConfig,
    /// The reward server.
    pub(crate) serve: ServeConfig,
}

/// Sections of `joust train` that scoring has no use for.
pub(crate) const UNUSED: [&str; 8] =
    ["train", "policy", "prompts", "rollout", "trainer", "eval", "checkpoint", "export"];

impl ScoreRun {
    /// All problems, each named by its key.
    pub(crate) fn problems(&self) -> Vec<String> {
        let reward = self.reward.validate().into_iter();
        let mut problems: Vec<String> = reward.map(|problem| format!("reward.{problem}")).collect();
        if !self.reward.parts.is_empty() {
            problems.push(
                "reward.parts is set, which only `joust train` knows; score by one kind of reward"
                    .to_owned(),
            );
        }
        let serve = self.serve.validate().into_iter();
        problems.extend(serve.map(|problem| format!("serve.{problem}")));
        problems
    }
}
