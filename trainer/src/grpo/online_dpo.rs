//! Online preference optimisation: of each group, the completion with the highest reward is
//! preferred to the one with the lowest (Guo et al., "Direct Language Model Alignment from Online
//! AI Feedback", arXiv 2402.04792).
//!
//! Pure numbers; it does not know where rewards come from.

use joust_schema::group_rows::GroupRows;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dpo::label_smoothing_problems;
use crate::objective::PreferenceLoss;
use crate::objective::pairs::{PairLoss, PairSide};

/// Preference optimisation in place of a policy loss. Probabilities are those at temperature 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OnlineDpo {
    /// The loss of a pair. Default: `sigmoid`.
    pub loss: PreferenceLoss,
    /// How much the policy is held at the reference: the larger, the nearer it stays. Default: 0.1.
    #[schemars(range(max = 1e3), extend("exclusiveMinimum" = 0))]
    pub beta: f64,
    /// Share of the pairs whose labels are taken to be wrong (`sigmoid`, `sigmoid_norm`, `robust`,
    /// `exo_pair`). Default: 0.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 0.5))]
    pub label_smoothing: f64,
    /// Weight of the cross-entropy of the preferred completions beside the loss of the pairs (RPO,
    /// arXiv 2404.19733). Default: 0.
    #[schemars(range(min = 0.0, max = 1e3))]
    pub sft_weight: f64,
}

impl Default for OnlineDpo {
    fn default() -> Self {
        Self { loss: PreferenceLoss::Sigmoid, beta: 0.1, label_smoothing: 0.0, sft_weight: 0.0 }
    }
}

impl OnlineDpo {
    /// What contradicts itself, each named by its key.
    pub(super) fn contradictions(&self) -> Vec<String> {
        label_smoothing_problems(self.loss, self.label_smoothing)
    }

    pub(super) fn pair_loss(&self) -> PairLoss {
        let Self { loss, beta, label_smoothing, sft_weight } = *self;
        PairLoss { loss, beta, label_smoothing, sft_weight }
    }
}

/// Row by row, the side of its pair that a completion is on, as an advantage of 1 or −1; none for
/// all others. `rewards` of completions that may be on neither side are missing. A group whose
/// rewards are equal has no pair; of several completions with one reward the first is taken.
pub(super) fn sides(rewards: &[Option<f64>], groups: &GroupRows) -> Vec<Option<f64>> {
    let mut sides = vec![None; rewards.len()];
    for rows in groups.iter() {
        let known = || rows.clone().filter_map(|row| Some((row, rewards[row]?)));
        let first_of = |is_better: fn(f64, f64) -> bool| {
            known().reduce(|best, other| if is_better(other.1, best.1) { other } else { best })
        };
        let best_and_worst = first_of(|a, b| a > b).zip(first_of(|a, b| a < b));
        let Some((chosen, rejected)) = best_and_worst.filter(|(a, b)| a.1 > b.1) else { continue };
        sides[chosen.0] = Some(PairSide::Chosen.sign());
        sides[rejected.0] = Some(PairSide::Rejected.sign());
    }
    sides
}

#[cfg(test)]
mod tests {
    use super::sides;

    #[test]
    fn best_and_worst_completion_of_a_group_are_a_pair() {
        let rewards = [0.5, 0.9, 0.1, 0.9, 0.1].map(Some);
        let others = [Some(0.3), Some(0.3), None, Some(1.0), None, Some(0.0)];
        let groups = [5, 2, 4].into_iter().collect();
        let seen = sides(&[&rewards[..], &others].concat(), &groups);
        let (chosen, rejected) = (Some(1.0), Some(-1.0));
        let of_first = [None, chosen, rejected, None, None];
        let of_others = [None, None, None, chosen, None, rejected];
        assert_eq!(seen, [&of_first[..], &of_others].concat());
    }
}
