//! Policy losses by the names that users know, with the advantages that belong to them, and the
//! settings that change a part of one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aggregate::Aggregate;
use super::correction::{Correction, SamplerNumbers};
use super::entropy::EntropyTerm;
use super::kl::KlTerm;
use super::policy_loss::PolicyLoss;
use super::ratio::Ratio;
use super::surrogate::{
    CispoBounds, ClipBounds, DroPenalty, LogBounds, NoBounds, ProbabilityBounds, SapoTemperatures,
    Surrogate, VespoShape,
};
use crate::advantage::{AdvantageRule, Baseline, ScaleRewards};

/// A published loss: the values of all parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Clipped ratio, mean over completions of their token means (arXiv 2402.03300).
    Grpo,
    /// Clipped ratio, mean over the tokens of each update.
    Bnpo,
    /// Clipped ratio, mean over the tokens of a step (arXiv 2503.14476). The paper clips at 0.28
    /// above: `surrogate = { kind = "clip", high = 0.28 }`.
    #[default]
    Dapo,
    /// Clipped ratio, divided by a constant length (arXiv 2503.20783).
    DrGrpo,
    /// Clipped ratio of whole completions (arXiv 2507.18071).
    Gspo,
    /// Length-unbiased sequence policy optimisation: ratio of whole completions, sum over tokens.
    Luspo,
    /// Clipped weight, no token without gradient (arXiv 2506.13585).
    Cispo,
    /// A soft gate in place of the clip (arXiv 2511.20347).
    Sapo,
    /// Geometric mean of the clipped ratios (arXiv 2507.20673).
    Gmpo,
    /// Bounded change of probabilities in place of ratios (arXiv 2602.04879).
    Dppo,
    /// Weights of whole completions (arXiv 2602.10693). A correction multiplies the loss; TRL takes
    /// it into the weights of completions.
    Vespo,
    /// Direct reward optimisation (arXiv 2405.19107).
    Dro,
    /// Clipped ratio, dual clip at 3, mean over tokens: verl's default.
    Ppo,
    /// No ratio.
    Reinforce,
    /// `dapo` with advantages that are divided by the mean reward of their group (arXiv
    /// 2602.02710): rare right completions count more.
    MaxRl,
    /// Clipped ratio of the probabilities of whole completions, advantages against the other
    /// members of the group (arXiv 2402.14740; the loss of TRL's `RLOOTrainer`). With one update
    /// per step its gradient is that of REINFORCE. TRL takes the divergence from the reference out
    /// of the rewards: `kl = { weight = 0.05, estimator = "k1", place = "reward" }`.
    Rloo,
    /// `ppo` with rewards that are whitened over the batch, whatever their group (arXiv 2501.03262;
    /// `reinforce_plus_plus` in verl). The paper takes the divergence from the reference out of the
    /// rewards of tokens: `kl = { weight = 0.01, estimator = "k1", place = "reward" }`.
    #[serde(rename = "reinforce++")]
    ReinforcePlusPlus,
    /// `ppo` with rewards minus the mean of their group that are whitened over the batch (there;
    /// `reinforce_plus_plus_baseline` in verl).
    #[serde(rename = "reinforce++_baseline")]
    ReinforcePlusPlusBaseline,
}

/// A loss in a config: a preset, and the parts that differ from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// The published loss whose parts are taken where nothing else is said.
    pub preset: Preset,
    /// What the importance ratio is taken over. Default: by preset.
    pub ratio: Option<Ratio>,
    /// The loss of one token. Default: by preset.
    pub surrogate: Option<Surrogate>,
    /// Reduction to one number. Default: by preset.
    pub aggregate: Option<Aggregate>,
    /// Correction for a sampler whose probabilities are not the trainer's. Default: where sampling
    /// computes in another number format than training (bf16 or FP8 weights, FP8 keys and values),
    /// on servers or steps ahead (`train.ahead`), and draws from the whole vocabulary, completions
    /// have weights (`weights = "sequence"`), and those with one above 3 are left out, as in TRL;
    /// none elsewhere, since `top_p` and `top_k` alone lower the weights. A table replaces all of
    /// it: keys that it does not name have the values below. `{ weights = "none" }` is none
    /// everywhere.
    pub correction: Option<Correction>,
    /// Divergence from the reference policy, which is the policy at the start of the run.
    pub kl: KlTerm,
    /// Bonus for the policy's entropy, and choice of tokens by it.
    pub entropy: EntropyTerm,
}

impl LossConfig {
    /// The loss with all of its parts.
    pub fn loss(&self, sampler: SamplerNumbers) -> PolicyLoss {
        let (ratio, surrogate, aggregate) = self.preset.parts();
        PolicyLoss {
            ratio: self.ratio.unwrap_or(ratio),
            surrogate: self.surrogate.unwrap_or(surrogate),
            correction: self.correction_for(sampler),
            aggregate: self.aggregate.unwrap_or(aggregate),
            kl: self.kl,
            entropy: self.entropy,
        }
    }

    fn correction_for(&self, sampler: SamplerNumbers) -> Option<Correction> {
        let by_default = match sampler {
            SamplerNumbers::Same => None,
            SamplerNumbers::Other => Some(Correction::OF_OTHER_NUMBERS),
        };
        self.correction.or(by_default).filter(|correction| *correction != Correction::NONE)
    }
}

impl Preset {
    /// The parts of a published loss: a line each.
    fn parts(self) -> (Ratio, Surrogate, Aggregate) {
        use Aggregate::{ConstantLength, SequenceMean, SequenceSum, StepTokenMean, TokenMean};
        use Ratio::{Sequence, Token};
        let clip = Surrogate::Clip(ClipBounds::default());
        let dual = Surrogate::Clip(ClipBounds { dual: Some(3.0), ..ClipBounds::default() });
        match self {
            Self::Grpo => (Token, clip, SequenceMean),
            Self::Bnpo => (Token, clip, TokenMean),
            Self::Dapo => (Token, clip, StepTokenMean),
            Self::DrGrpo => (Token, clip, ConstantLength),
            Self::Gspo => (Sequence, clip, SequenceMean),
            Self::Luspo => (Sequence, clip, SequenceSum),
            Self::Cispo => (Token, Surrogate::Cispo(CispoBounds::default()), StepTokenMean),
            Self::Sapo => (Token, Surrogate::Sapo(SapoTemperatures::default()), SequenceMean),
            Self::Gmpo => (Token, Surrogate::Gmpo(LogBounds::default()), SequenceMean),
            Self::Dppo => (Token, Surrogate::DppoTv(ProbabilityBounds::default()), TokenMean),
            Self::Vespo => (Token, Surrogate::Vespo(VespoShape::default()), StepTokenMean),
            Self::Dro => (Token, Surrogate::Dro(DroPenalty::default()), TokenMean),
            Self::Ppo => (Token, dual, TokenMean),
            Self::Reinforce => (Token, Surrogate::Reinforce(NoBounds {}), TokenMean),
            Self::MaxRl => (Token, clip, StepTokenMean),
            Self::Rloo => (Ratio::SequenceSum, clip, SequenceMean),
            Self::ReinforcePlusPlus | Self::ReinforcePlusPlusBaseline => (Token, dual, TokenMean),
        }
    }

    /// How a published loss makes advantages of rewards.
    pub(crate) fn advantage_rule(self) -> AdvantageRule {
        let (baseline, scale) = match self {
            Self::Rloo => (Baseline::LeaveOneOut, ScaleRewards::None),
            Self::MaxRl => (Baseline::GroupMean, ScaleRewards::Mean),
            Self::ReinforcePlusPlus => (Baseline::None, ScaleRewards::Whiten),
            Self::ReinforcePlusPlusBaseline => (Baseline::GroupMean, ScaleRewards::Whiten),
            _ => (Baseline::GroupMean, ScaleRewards::Group),
        };
        AdvantageRule { baseline, scale }
    }
}
