//! The config of `joust train`.

use std::path::PathBuf;

use joust_engine::device::{DType, DeviceChoice};
use joust_reward::RewardConfig;
use joust_rollout::{PromptsConfig, RolloutConfig};
use joust_trainer::GrpoConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sft::ExportSection;
use super::{CheckpointSection, RunSection};
use crate::error::Error;

/// A post-training run: policy, prompts, rollouts, rewards, updates.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainRun {
    /// The run and its folder.
    pub run: RunSection,
    /// How long it goes on.
    pub train: TrainSection,
    /// The model in training.
    pub policy: PolicySection,
    /// What completions are sampled for.
    pub prompts: PromptsConfig,
    /// How completions are sampled.
    pub rollout: RolloutConfig,
    /// What completions are worth.
    pub reward: RewardConfig,
    /// How the policy learns.
    pub trainer: GrpoConfig,
    /// How its progress is measured.
    pub eval: EvalSection,
    /// When training states are saved.
    pub checkpoint: CheckpointSection,
    /// The finished model, beside the last checkpoint.
    pub export: ExportSection,
}

/// How long a run goes on.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSection {
    /// Steps of the run; it ends earlier where `prompts.epochs` are used up.
    pub steps: u64,
    /// Prompts a step, each with a group of completions.
    pub prompts_per_step: usize,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self { steps: 100, prompts_per_step: 16 }
    }
}

/// The model in training.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySection {
    /// Model folder or GGUF file.
    pub path: PathBuf,
    /// Where it trains and samples.
    pub device: DeviceChoice,
    /// What the sampling copies are kept and computed in; the trained weights are f32.
    pub dtype: DType,
    /// Most tokens of prompt and completion together; 0 means the model's own limit.
    pub max_context: usize,
}

/// How progress is measured: completions of held-out prompts against their known answers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvalSection {
    /// File of held-out prompts with answers; leave out to measure nothing.
    pub path: Option<PathBuf>,
    /// Steps between measurements, beside one at the start and one at the end; 0 takes only those.
    pub every: u64,
    /// Uses only this many prompts; 0 uses all.
    pub max_prompts: usize,
    /// Temperature; that of the rollouts if left out, 0 takes the most probable tokens.
    pub temperature: Option<f64>,
    /// Completions a prompt; the accuracy is their mean.
    pub samples: u32,
}

impl Default for EvalSection {
    fn default() -> Self {
        Self { path: None, every: 0, max_prompts: 0, temperature: None, samples: 1 }
    }
}

impl TrainRun {
    /// Refuses what makes no sense, all problems at once.
    pub fn validate(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        let mut under = |prefix: &str, found: Vec<String>| {
            problems.extend(found.into_iter().map(|problem| format!("{prefix}.{problem}")));
        };
        under("rollout", self.rollout.validate());
        under("reward", self.reward.validate());
        under("trainer", self.trainer.validate());
        let missing = |path: &PathBuf, what: &str| match path.as_os_str().is_empty() {
            true => vec![format!("path is missing, wanted {what}")],
            false => Vec::new(),
        };
        under("policy", missing(&self.policy.path, "a model folder or GGUF file"));
        under("prompts", missing(&self.prompts.path, "a JSON Lines or Parquet file"));
        let zero = |key: &str, value: u64| match value {
            0 => vec![format!("{key} is 0, wanted at least 1")],
            _ => Vec::new(),
        };
        under("train", zero("steps", self.train.steps));
        under("train", zero("prompts_per_step", self.train.prompts_per_step as u64));
        under("eval", zero("samples", u64::from(self.eval.samples)));
        if let Some(seen) = self.eval.temperature.filter(|seen| !(0.0..1e3).contains(seen)) {
            under("eval", vec![format!("temperature is {seen}, wanted ≥ 0")]);
        }
        super::refuse(problems)
    }
}
