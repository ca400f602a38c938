//! The config of `joust train`.

use std::path::{Path, PathBuf};

use joust_engine::device::DeviceChoice;
use joust_reward::{JudgeKind, PartOf, RewardConfig};
use joust_rollout::{PromptsConfig, RolloutConfig};
use joust_trainer::GrpoConfig;
use joust_trainer::advantage::ScaleRewards;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sft::ExportSection;
use super::{CheckpointSection, RunSection, of_section};
use crate::error::Error;
use crate::inputs::InputPath;

/// A post-training run: policy, prompts, rollouts, rewards, updates.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainRun {
    /// The run and its run folder.
    pub run: RunSection,
    /// Length of the run.
    pub train: TrainSection,
    /// The policy: the model in training.
    pub policy: PolicySection,
    /// The prompts and their order.
    pub prompts: PromptsConfig,
    /// Sampling of groups of completions.
    pub rollout: RolloutConfig,
    /// Scoring of groups of completions.
    pub reward: RewardConfig,
    /// GRPO: the training of the policy. Names and meanings are those of TRL's `GRPOConfig`.
    pub trainer: GrpoConfig,
    /// Measurement of progress: accuracy of completions for held-out prompts with known answers.
    pub eval: EvalSection,
    /// Checkpoints: saved training states from which the run goes on.
    pub checkpoint: CheckpointSection,
    /// Model folder that is written when the run ends.
    pub export: ExportSection,
}

/// Length of a run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSection {
    /// Number of steps of the run. The run is shorter where `prompts.epochs` epochs have fewer
    /// steps; the schedule of the learning rate ends with the run.
    #[schemars(range(min = 1))]
    pub steps: u64,
    /// Number of prompts per step. Each prompt gets a group of completions.
    #[schemars(range(min = 1, max = 1048576))]
    pub prompts_per_step: usize,
    /// Maximum number of times per step that groups without spread, whose rewards are all equal or
    /// missing, are replaced by groups of new prompts: the dynamic sampling of DAPO (verl:
    /// `algorithm.filter_groups` with `max_num_gen_batches` one larger). Then groups with spread
    /// alone are trained on, also where there are fewer of them at this limit or at the end of the
    /// prompts; if no group has spread, there is no update. 0: no group is replaced, and all are
    /// trained on.
    #[schemars(range(max = 1000))]
    pub max_refills: u64,
    /// Number of steps that are sampled and scored while one is trained on. With n, the completions
    /// of a step are of the policy n steps before the one that they train, and the policy gradient
    /// is corrected for that (`trainer.loss.correction`, on by default then, except with `top_p`
    /// and `top_k`). A run that goes on from a checkpoint samples these steps anew, from the policy
    /// of the checkpoint: it does not end in the weights of an unbroken one. 0: one after the
    /// other.
    #[schemars(range(max = 16))]
    pub ahead: u64,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self { steps: 100, prompts_per_step: 16, max_refills: 0, ahead: 0 }
    }
}

/// The policy: the model in training.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySection {
    /// Model folder or GGUF file of the policy.
    #[schemars(length(min = 1))]
    pub path: PathBuf,
    /// Device that the policy is trained on and sampled from. The trained weights are f32.
    pub device: DeviceChoice,
}

/// Measurement of progress: accuracy of completions for held-out prompts with known answers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvalSection {
    /// File of held-out prompts with answers. Without it, nothing is measured.
    pub path: Option<PathBuf>,
    /// Number of steps between measurements. The start and the end of the run are always measured.
    /// 0: no other measurements.
    pub every: u64,
    /// Maximum number of prompts, counted from the beginning of the file. 0: all prompts.
    pub max_prompts: usize,
    /// Temperature of the sampling. 0: the most probable token is always taken. Default:
    /// `rollout.temperature`.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1000))]
    pub temperature: Option<f64>,
    /// Number of completions per prompt. The accuracy is the mean over all completions.
    #[schemars(range(min = 1, max = 1024))]
    pub samples: u32,
}

impl Default for EvalSection {
    fn default() -> Self {
        Self { path: None, every: 0, max_prompts: 0, temperature: None, samples: 1 }
    }
}

impl TrainRun {
    /// Refuses what makes no sense, all problems at once.
    ///
    /// # Errors
    /// [`Error::Input`]
    pub fn validate(&self) -> Result<(), Error> {
        super::refuse(self.problems())
    }

    /// All problems, each named by its key.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.run.problems();
        problems.extend(of_section("train", &self.train));
        problems.extend(of_section("policy", &self.policy));
        problems.extend(of_section("prompts", &self.prompts));
        problems.extend(of_section("eval", &self.eval));
        problems.extend(of_section("checkpoint", &self.checkpoint));
        let mut under = |prefix: &str, found: Vec<String>| {
            problems.extend(found.into_iter().map(|problem| format!("{prefix}.{problem}")));
        };
        under("rollout", self.rollout.validate());
        under("reward", self.reward.validate());
        under("trainer", self.trainer.validate());
        problems.extend(self.schedule_problem(self.train.steps));
        if self.trainer.advantage_rule().scale == ScaleRewards::Mean
            && let Some(reason) = self.reward.negative_part()
        {
            problems.push(format!(
                "reward.{reason}, with trainer.scale_rewards mean (max_rl); wanted rewards of at \
                 least 0: they are divided by their mean"
            ));
        }
        let device = self.rollout.engine.device;
        if device != DeviceChoice::Auto && device != self.policy.device {
            problems.push(
                "rollout.engine.device differs from policy.device, wanted auto or the same: the \
                 workers sample where the policy is trained"
                    .to_owned(),
            );
        }
        problems
    }

    /// What is wrong with the schedule of the learning rate in a run of `n_steps` steps.
    pub(crate) fn schedule_problem(&self, n_steps: u64) -> Option<String> {
        let schedule = &self.trainer.learner.optim.schedule;
        let problem = schedule.problem_with(self.trainer.n_updates(n_steps))?;
        Some(format!("trainer.learner.optim.schedule.{problem}"))
    }

    /// Number of steps of the whole run: `train.steps`, or fewer where the epochs of a file of
    /// `n_prompts` prompts have fewer.
    pub(crate) fn n_steps(&self, n_prompts: usize) -> u64 {
        let per_step = self.train.prompts_per_step.max(1) as u64;
        match self.prompts.epochs {
            0 => self.train.steps,
            epochs => {
                let n_uses = epochs.saturating_mul(n_prompts as u64);
                self.train.steps.min(n_uses.div_ceil(per_step))
            }
        }
    }

    /// Whether the reward is made of known answers, which every prompt then needs.
    pub(crate) fn needs_answers(&self) -> bool {
        self.reward.needs_answers()
    }

    /// The files and folders that the run reads.
    pub(crate) fn inputs(&self) -> Vec<InputPath> {
        let mut inputs = vec![
            InputPath::model("policy.path", &self.policy.path),
            InputPath::file("prompts.path", &self.prompts.path),
        ];
        inputs.extend(self.eval.path.iter().map(|path| InputPath::file("eval.path", path)));
        if self.reward.plays_matches() {
            match &self.reward.judge.kind {
                JudgeKind::Engine(judge) => {
                    inputs.push(InputPath::model("reward.judge.model", &judge.model));
                }
                JudgeKind::Replay(judge) => {
                    inputs.push(InputPath::dump("reward.judge.dump", &judge.dump));
                }
                JudgeKind::Http(judge) => {
                    let tokenizer = judge.tokenizer.iter();
                    let key = "reward.judge.tokenizer";
                    inputs.extend(tokenizer.map(|path| InputPath::model(key, path)));
                }
                JudgeKind::Rule => {}
            }
        }
        for (idx, part) in self.reward.parts.iter().enumerate() {
            let PartOf::Command(command) = &part.of else { continue };
            let words = command.run.iter().enumerate();
            let files = words.filter(|(_, word)| Path::new(word).is_file());
            inputs.extend(files.map(|(word_idx, word)| {
                let key = format!("reward.parts[{idx}].run[{word_idx}]");
                InputPath::file(key, Path::new(word))
            }));
        }
        inputs
    }
}
