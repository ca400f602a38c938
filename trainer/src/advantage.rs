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
}

/// Advantage of each row; `None` where the reward is.
///
/// Deviations are unbiased (n − 1). A group with fewer than two rewards, or with equal ones, gets
/// advantages of exactly 0: it says nothing about which completion is better. Equal is decided by
/// comparing the rewards, because the mean of equal numbers may differ from them in the last bits.
pub fn advantages(
    rewards: &[Option<f64>],
    groups: &GroupRows,
    scale: ScaleRewards,
) -> Vec<Option<f64>> {
    let known: Vec<f64> = rewards.iter().flatten().copied().collect();
    let batch_deviation = deviation(&known);
    let mut advantages = Vec::with_capacity(rewards.len());
    for rows in groups.iter() {
        let group = &rewards[rows];
        let known: Vec<f64> = group.iter().flatten().copied().collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        let divisor = match scale {
            ScaleRewards::Group => deviation(&known) + EPSILON,
            ScaleRewards::Batch => batch_deviation + EPSILON,
            ScaleRewards::None => 1.0,
        };
        let is_flat = are_equal(&known);
        let advantage = |reward: f64| {
            if is_flat { 0.0 } else { (reward - mean) / divisor }
        };
        advantages.extend(group.iter().map(|reward| reward.map(advantage)));
    }
    advantages
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
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests;
