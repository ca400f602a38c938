//! Settings of GRPO, under the names of TRL.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::advantage::ScaleRewards;
use crate::learner::LearnerConfig;
use crate::loss::{LossConfig, LossType};

/// Settings of GRPO; names and meanings are those of TRL's `GRPOConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpoConfig {
    /// How token losses become one number.
    pub loss_type: LossType,
    /// What the centred rewards of a group are divided by.
    pub scale_rewards: ScaleRewards,
    /// How far below 1 the probability ratio counts.
    pub epsilon: f64,
    /// How far above 1 the probability ratio counts; as `epsilon` if left out.
    pub epsilon_high: Option<f64>,
    /// Weight of the divergence from the reference, which is the policy that the run began with; 0
    /// needs no reference.
    pub beta: f64,
    /// Corrects the divergence's bias where completions come from an older policy.
    pub kl_bias_correction: bool,
    /// Passes over the completions of a step.
    pub num_iterations: usize,
    /// Updates that one pass is split into.
    pub updates_per_pass: usize,
    /// Leaves completions that were cut off at the length limit out of the loss; their rewards
    /// count in their group's mean all the same.
    pub mask_truncated_completions: bool,
    /// How the model is trained.
    pub learner: LearnerConfig,
}

impl Default for GrpoConfig {
    fn default() -> Self {
        Self {
            loss_type: LossType::Dapo,
            scale_rewards: ScaleRewards::Group,
            epsilon: 0.2,
            epsilon_high: None,
            beta: 0.0,
            kl_bias_correction: true,
            num_iterations: 1,
            updates_per_pass: 1,
            mask_truncated_completions: false,
            learner: LearnerConfig::default(),
        }
    }
}

impl GrpoConfig {
    /// All that is wrong, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        let learner = self.learner.validate().into_iter();
        let mut problems: Vec<String> = learner.map(|p| format!("learner.{p}")).collect();
        if !(0.0..1.0).contains(&self.epsilon) {
            problems.push(format!("epsilon is {}, wanted 0 ≤ epsilon < 1", self.epsilon));
        }
        let others = [("epsilon_high", self.epsilon_high.unwrap_or(0.0)), ("beta", self.beta)];
        for (key, value) in others {
            if value.is_nan() || value < 0.0 {
                problems.push(format!("{key} is {value}, wanted ≥ 0"));
            }
        }
        let counts =
            [("num_iterations", self.num_iterations), ("updates_per_pass", self.updates_per_pass)];
        for (key, value) in counts {
            if value == 0 {
                problems.push(format!("{key} is 0, wanted at least 1"));
            }
        }
        problems
    }

    /// Updates that a run of `steps` steps makes, for the schedule.
    pub fn n_updates(&self, steps: u64) -> u64 {
        steps * (self.num_iterations * self.updates_per_pass) as u64
    }

    pub(super) fn loss(&self) -> LossConfig {
        LossConfig {
            loss_type: self.loss_type,
            epsilon: self.epsilon,
            epsilon_high: self.epsilon_high.unwrap_or(self.epsilon),
            beta: self.beta,
            kl_bias_correction: self.kl_bias_correction,
        }
    }
}
