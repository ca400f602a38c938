//! From rewards to advantages: each completion against the others of its group, or of the batch.
//!
//! Pure numbers. Members without a reward take no part: they are left out of mean and deviation and
//! get no advantage.

use joust_schema::group_rows::GroupRows;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Added to the deviation before dividing, as TRL does.
const EPSILON: f64 = 1e-4;

/// Added to the variance before whitening, as verl and OpenRLHF do.
const WHITENING_EPSILON: f64 = 1e-8;

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
    /// Standard deviation of the other members of the group + 1e-4; no divisor where it is 0
    /// (NeMo-RL, which adds 1e-6).
    LeaveOneOut,
    /// Mean of the group: A = (r − mean) / mean, for rewards of at least 0. Of rewards 0 and 1 the
    /// gradient is that of the log of the probability of a right completion, as far as the group is
    /// large enough to tell (MaxRL, arXiv 2602.02710).
    Mean,
    /// The centred rewards a are whitened over the batch, each weighted by the number of trained
    /// tokens of its completion: A = (a − mean) / √(variance + 1e-8) (REINFORCE++, arXiv
    /// 2501.03262; `masked_whiten` in verl).
    Whiten,
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
    /// Nothing. It goes with `scale_rewards` `whiten` or `none`.
    None,
}

/// How advantages are made of rewards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdvantageRule {
    /// What is subtracted from a reward.
    pub baseline: Baseline,
    /// Divisor of the centred rewards.
    pub scale: ScaleRewards,
}

impl AdvantageRule {
    /// What is wrong with the two together, named by the key that has to change.
    pub(crate) fn contradiction(self) -> Option<String> {
        let is_bounded = matches!(self.scale, ScaleRewards::None | ScaleRewards::Whiten);
        (self.baseline == Baseline::None && !is_bounded).then(|| {
            "scale_rewards divides rewards without a baseline, wanted whiten or none with the \
             baseline none"
                .to_owned()
        })
    }
}

/// Advantage of each row; `None` where the reward is. `n_tokens`: number of trained tokens of each
/// row, of which only whitening takes account.
///
/// Deviations are unbiased (n − 1). With a baseline of the group, a group with fewer than two
/// rewards, or with equal ones, gets centred rewards of exactly 0: it says nothing about which
/// completion is better. Equal is decided by comparing the rewards, because the mean of equal
/// numbers may differ from them in the last bits. Whitening moves these zeros, as it does in verl.
pub fn advantages(
    rewards: &[Option<f64>],
    n_tokens: &[usize],
    groups: &GroupRows,
    rule: AdvantageRule,
) -> Vec<Option<f64>> {
    let scaled = scaled_by_group(rewards, groups, rule);
    match rule.scale {
        ScaleRewards::Whiten => whitened(&scaled, n_tokens),
        _ => scaled,
    }
}

/// Rewards minus the baseline, divided by the deviation where the scale has one.
fn scaled_by_group(
    rewards: &[Option<f64>],
    groups: &GroupRows,
    AdvantageRule { baseline, scale }: AdvantageRule,
) -> Vec<Option<f64>> {
    let known: Vec<f64> = rewards.iter().flatten().copied().collect();
    let batch_deviation = deviation(&known);
    let mut advantages = Vec::with_capacity(rewards.len());
    for rows in groups.iter() {
        let group = &rewards[rows];
        let known: Vec<f64> = group.iter().flatten().copied().collect();
        let group_deviation = deviation(&known);
        let is_flat = baseline != Baseline::None && are_equal(&known);
        let advantage = |(member, reward): (usize, &Option<f64>)| {
            let reward = (*reward)?;
            if is_flat {
                return Some(0.0);
            }
            let others = || others(group, member);
            let baseline = match baseline {
                Baseline::GroupMean => mean(&known),
                Baseline::LeaveOneOut => mean(&others()),
                Baseline::None => 0.0,
            };
            let divisor = match scale {
                ScaleRewards::Group => group_deviation + EPSILON,
                ScaleRewards::Batch => batch_deviation + EPSILON,
                ScaleRewards::None | ScaleRewards::Whiten => 1.0,
                ScaleRewards::Mean => mean(&known),
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

/// Rewards that cannot be divided by their mean: the first one below 0.
pub fn negative_reward(rewards: &[Option<f64>], rule: AdvantageRule) -> Option<f64> {
    let is_divided = rule.scale == ScaleRewards::Mean;
    rewards.iter().flatten().copied().find(|reward| is_divided && *reward < 0.0)
}

/// Advantages of tokens, of rewards that fall due at the end of a completion and of penalties that
/// fall due at each of its tokens: the sums of what follows, whitened over the batch without any
/// baseline (`compute_reinforce_plus_plus_outcome_advantage` in verl with γ = 1). `None` where the
/// reward is. `penalties`: of each row, one per trained token.
pub fn token_advantages(rewards: &[Option<f64>], penalties: &[Vec<f64>]) -> Vec<Option<Vec<f64>>> {
    let returns = |(reward, penalties): (&Option<f64>, &Vec<f64>)| {
        let mut sum = (*reward)?;
        let following = penalties.iter().rev().map(|penalty| {
            sum -= penalty;
            sum
        });
        let mut returns: Vec<f64> = following.collect();
        returns.reverse();
        Some(returns)
    };
    let returns: Vec<Option<Vec<f64>>> = rewards.iter().zip(penalties).map(returns).collect();
    let flat: Vec<Option<f64>> = returns.iter().flatten().flatten().copied().map(Some).collect();
    let mut whitened = whitened(&flat, &vec![1; flat.len()]).into_iter().flatten();
    let row = |returns: Option<Vec<f64>>| Some(whitened.by_ref().take(returns?.len()).collect());
    returns.into_iter().map(row).collect()
}

/// Values minus their mean, divided by their deviation; each value counts as many times as its row
/// has tokens. Equal values, and those of fewer than two tokens, become exactly 0.
fn whitened(values: &[Option<f64>], n_tokens: &[usize]) -> Vec<Option<f64>> {
    let counted = values.iter().zip(n_tokens);
    let counted: Vec<(f64, f64)> = counted
        .filter_map(|(value, &n)| Some(((*value)?, n as f64)))
        .filter(|(_, n)| *n > 0.0)
        .collect();
    let total: f64 = counted.iter().map(|(_, n)| n).sum();
    let known: Vec<f64> = counted.iter().map(|(value, _)| *value).collect();
    if total < 2.0 || are_equal(&known) {
        return values.iter().map(|value| value.map(|_| 0.0)).collect();
    }
    let mean = counted.iter().map(|(value, n)| n * value).sum::<f64>() / total;
    let squares: f64 = counted.iter().map(|(value, n)| n * (value - mean).powi(2)).sum();
    let deviation = (squares / (total - 1.0) + WHITENING_EPSILON).sqrt();
    values.iter().map(|value| Some(((*value)? - mean) / deviation)).collect()
}

/// The known rewards of a group without that of one member.
fn others(group: &[Option<f64>], member: usize) -> Vec<f64> {
    let others = group.iter().enumerate().filter(|(other, _)| *other != member);
    others.filter_map(|(_, reward)| *reward).collect()
}

/// Mean of some values; 0 of none.
pub fn mean(values: &[f64]) -> f64 {
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
