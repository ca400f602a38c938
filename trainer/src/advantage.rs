//! From rewards to advantages: each completion against the others of its group.
//!
//! Pure numbers. Members without a reward take no part: they are left out of mean and deviation and
//! get no advantage.

use joust_schema::group_rows::GroupRows;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Added to the deviation before dividing, as TRL does.
const EPSILON: f64 = 1e-4;

/// Divisor of the centred rewards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// Standard deviation within the group: A = (r − mean) / (std + 1e-4) (GRPO, arXiv 2402.03300).
    #[default]
    Group,
    /// Standard deviation over the batch.
    Batch,
    /// No divisor: A = r − mean (Dr. GRPO, arXiv 2503.20783).
    None,
    /// Standard deviation of the other members of the group; no divisor where it is 0 (NeMo-RL).
    LeaveOneOut,
}

/// What is subtracted from a reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Mean of the group.
    #[default]
    GroupMean,
    /// Mean of the other members of the group: n / (n − 1) times the difference from the mean of
    /// the group (RLOO, arXiv 2402.14740).
    LeaveOneOut,
}

/// Advantage of each row; `None` where the reward is.
///
/// Deviations are unbiased (n − 1). A group with fewer than two rewards, or with equal ones, gets
/// advantages of exactly 0: it says nothing about which completion is better. Equal is decided by
/// comparing the rewards, because the mean of equal numbers may differ from them in the last bits.
pub fn advantages(
    rewards: &[Option<f64>],
    groups: &GroupRows,
    baseline: Baseline,
    scale: ScaleRewards,
) -> Vec<Option<f64>> {
    let known: Vec<f64> = rewards.iter().flatten().copied().collect();
    let batch_deviation = deviation(&known);
    let mut advantages = Vec::with_capacity(rewards.len());
    for rows in groups.iter() {
        let group = &rewards[rows];
        let known: Vec<f64> = group.iter().flatten().copied().collect();
        let group_deviation = deviation(&known);
        let is_flat = are_equal(&known);
        let advantage = |(member, reward): (usize, &Option<f64>)| {
            let reward = (*reward)?;
            if is_flat {
                return Some(0.0);
            }
            let others = || others(group, member);
            let baseline = match baseline {
                Baseline::GroupMean => mean(&known),
                Baseline::LeaveOneOut => mean(&others()),
            };
            let divisor = match scale {
                ScaleRewards::Group => group_deviation + EPSILON,
                ScaleRewards::Batch => batch_deviation + EPSILON,
                ScaleRewards::None => 1.0,
                ScaleRewards::LeaveOneOut => match deviation(&others()) {
                    0.0 => 1.0,
                    deviation => deviation + EPSILON,
                },
            };
            Some((reward - baseline) / divisor)
        };
        advantages.extend(group.iter().enumerate().map(advantage));
    }
    advantages
}

/// The known rewards of a group without that of one member.
fn others(group: &[Option<f64>], member: usize) -> Vec<f64> {
    let others = group.iter().enumerate().filter(|(other, _)| *other != member);
    others.filter_map(|(_, reward)| *reward).collect()
}

/// Mean of some values; 0 of none.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Whether no value differs from another; true for fewer than two values.
pub fn are_equal(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

/// Unbiased standard deviation; exactly 0 for equal values and for fewer than two.
pub fn deviation(values: &[f64]) -> f64 {
    if are_equal(values) {
        return 0.0;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests;
