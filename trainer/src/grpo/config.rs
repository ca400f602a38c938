//! Settings of GRPO, under the names of TRL.

use joust_schema::config::check::validate;
use joust_schema::config::keys::ConfigKeys;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::online_dpo::OnlineDpo;
use crate::advantage::{AdvantageRule, Baseline, ScaleRewards};
use crate::learner::config::LearnerConfig;
use crate::objective::{Correction, LossConfig};
use crate::reference::{SyncRefModel, sync_problem};

/// Settings of GRPO; names and meanings outside of `loss` and `baseline` are those of TRL's
/// `GRPOConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpoConfig {
    /// The loss: a published one by its name, and the parts that differ from it.
    pub loss: LossConfig,
    /// What is subtracted from a reward. Default: by `loss.preset`, `leave_one_out` with `rloo`,
    /// `none` with `reinforce++`, and `group_mean` with all others.
    pub baseline: Option<Baseline>,
    /// Divisor of the centred rewards. Default: by `loss.preset`, `none` with `rloo`, `mean` with
    /// `max_rl`, `whiten` with `reinforce++` and `reinforce++_baseline`, and `group` with all
    /// others.
    pub scale_rewards: Option<ScaleRewards>,
    /// Preference optimisation of the best and the worst completion of each group in place of the
    /// policy loss, such as `{ beta = 0.1 }` (TRL's `OnlineDPOTrainer`). It has no advantages:
    /// `loss`, `baseline` and `scale_rewards` keep their defaults. A reference policy is loaded.
    pub online_dpo: Option<OnlineDpo>,
    /// Number of passes over the completions of a step.
    #[schemars(range(min = 1, max = 1000))]
    pub num_iterations: usize,
    /// Number of updates per pass.
    #[schemars(range(min = 1, max = 1000))]
    pub updates_per_pass: usize,
    /// Whether the tokens of completions that reached the length limit are left out of the loss.
    /// As in TRL, their rewards still count in the mean of their group, and the completions in the
    /// number of completions that losses of completions divide by.
    pub mask_truncated_completions: bool,
    /// Refresh of the reference by the policy, such as `{ every = 512, mixup_alpha = 0.6 }`.
    /// Without it, the reference stays as it is. It goes with `loss.kl.weight` above 0 or
    /// `online_dpo`, and without `learner.lora`.
    pub sync_ref_model: Option<SyncRefModel>,
    /// Training of the policy.
    pub learner: LearnerConfig,
}

impl Default for GrpoConfig {
    fn default() -> Self {
        Self {
            loss: LossConfig::default(),
            baseline: None,
            scale_rewards: None,
            online_dpo: None,
            num_iterations: 1,
            updates_per_pass: 1,
            mask_truncated_completions: false,
            sync_ref_model: None,
            learner: LearnerConfig::default(),
        }
    }
}

impl GrpoConfig {
    /// All problems, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = validate(self, &ConfigKeys::of::<Self>());
        let correction = self.loss.correction.iter().flat_map(Correction::contradictions);
        problems.extend(correction.map(|problem| format!("loss.correction.{problem}")));
        problems.extend(self.advantage_rule().contradiction());
        if self.loss.kl.is_in_reward() && self.advantage_rule().scale == ScaleRewards::Mean {
            problems.push(
                "loss.kl.place is reward with scale_rewards mean (max_rl), wanted place loss: a \
                 divergence may make the mean reward negative, and a divisor of the wrong sign"
                    .to_owned(),
            );
        }
        problems.extend(self.loss.kl.contradiction().map(|text| format!("loss.kl.{text}")));
        if let Some(online_dpo) = &self.online_dpo {
            let found = online_dpo.contradictions().into_iter();
            problems.extend(found.map(|problem| format!("online_dpo.{problem}")));
            let has_advantages = self.baseline.is_some() || self.scale_rewards.is_some();
            if self.loss != LossConfig::default() || has_advantages {
                let text = "online_dpo is set, wanted loss, baseline and scale_rewards as they are \
                            by default: pairs have no advantages";
                problems.push(text.to_owned());
            }
        }
        problems.extend(self.learner.contradictions());
        problems.extend(sync_problem(self.sync_ref_model, self.learner.lora.as_ref()));
        if self.sync_ref_model.is_some() && !self.has_reference() {
            problems.push(
                "sync_ref_model is set, wanted loss.kl.weight above 0 or online_dpo: without them \
                 there is no reference"
                    .to_owned(),
            );
        }
        problems
    }

    /// How advantages are made of rewards: by the preset, and by the keys that differ from it.
    pub fn advantage_rule(&self) -> AdvantageRule {
        let AdvantageRule { baseline, scale } = self.loss.preset.advantage_rule();
        AdvantageRule {
            baseline: self.baseline.unwrap_or(baseline),
            scale: self.scale_rewards.unwrap_or(scale),
        }
    }

    /// Updates that a run of `steps` steps makes, for the schedule.
    pub fn n_updates(&self, steps: u64) -> u64 {
        let per_step = self.num_iterations.saturating_mul(self.updates_per_pass);
        steps.saturating_mul(per_step as u64)
    }

    /// Whether the loss needs a reference policy.
    pub fn has_reference(&self) -> bool {
        self.loss.kl.weight > 0.0 || self.online_dpo.is_some()
    }
}
