//! Settings of GRPO, under the names of TRL.

use joust_schema::config::check::validate;
use joust_schema::config::keys::ConfigKeys;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::advantage::ScaleRewards;
use crate::learner::LearnerConfig;
use crate::loss::{LossConfig, LossType};

/// Settings of GRPO; names and meanings are those of TRL's `GRPOConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpoConfig {
    /// Reduction of the token losses to one number.
    pub loss_type: LossType,
    /// Divisor of the centred rewards of a group.
    pub scale_rewards: ScaleRewards,
    /// Clip range below 1: a probability ratio below 1 − `epsilon` is clipped.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub epsilon: f64,
    /// Clip range above 1: a probability ratio above 1 + `epsilon_high` is clipped. Default:
    /// `epsilon`.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub epsilon_high: Option<f64>,
    /// Weight of the KL divergence from the reference policy, which is the policy at the start of
    /// the run. 0: no reference policy is loaded.
    #[schemars(range(min = 0.0, max = 1e3))]
    pub beta: f64,
    /// Whether the KL divergence is multiplied by the probability ratio, which removes its bias for
    /// completions of an older policy.
    pub kl_bias_correction: bool,
    /// Number of passes over the completions of a step.
    #[schemars(range(min = 1, max = 1000))]
    pub num_iterations: usize,
    /// Number of updates per pass.
    #[schemars(range(min = 1, max = 1000))]
    pub updates_per_pass: usize,
    /// Whether the tokens of completions that reached the length limit are left out of the loss.
    /// As in TRL, their rewards still count in the mean of their group, and the completions in the
    /// number of completions that `grpo` and `dr_grpo` divide by.
    pub mask_truncated_completions: bool,
    /// Training of the policy.
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
    /// All problems, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        validate(self, &ConfigKeys::of::<Self>())
    }

    /// Updates that a run of `steps` steps makes, for the schedule.
    pub fn n_updates(&self, steps: u64) -> u64 {
        let per_step = self.num_iterations.saturating_mul(self.updates_per_pass);
        steps.saturating_mul(per_step as u64)
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
