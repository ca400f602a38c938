//! From the numbers of several parts to one reward per member.
//!
//! Pure numbers. It does not know what the parts are.

use super::outcome::PartOutcome;
use crate::config::part::Combine;

/// Added to the deviation before dividing, as TRL does.
const EPSILON: f64 = 1e-4;

/// What a part says about a group, and how it counts.
pub(super) struct WeightedPart<'a> {
    pub(super) weight: f64,
    pub(super) is_optional: bool,
    pub(super) outcome: &'a PartOutcome,
}

/// The rewards of a group of n members: Σₖ wₖ rₖ over the parts in their order, with `Gdpo` of
/// (rₖ − mean) / (std + 1e-4) in place of rₖ (GDPO, arXiv 2601.05242; TRL's `normalize_then_sum`).
///
/// A part that was not asked adds nothing. A member to which a part gives no number has no reward;
/// where the part is optional, it adds nothing to this member, as TRL's `nansum`. A member without
/// any number has no reward. A part of weight 0 has no influence.
pub(super) fn rewards(parts: &[WeightedPart<'_>], n: usize, how: Combine) -> Vec<Option<f64>> {
    let mut rewards: Vec<Option<f64>> = vec![Some(0.0); n];
    let mut has_number = vec![false; n];
    let counts =
        |part: &&WeightedPart<'_>| part.weight != 0.0 && *part.outcome != PartOutcome::NotAsked;
    for part in parts.iter().filter(counts) {
        let values: Vec<Option<f64>> = (0..n).map(|member| part.outcome.value(member)).collect();
        let values = match how {
            Combine::Sum => values,
            Combine::Gdpo => normalised(&values),
        };
        for (member, value) in values.into_iter().enumerate() {
            has_number[member] |= value.is_some();
            rewards[member] = match (rewards[member], value) {
                (Some(sum), Some(value)) => Some(sum + part.weight * value),
                (sum, None) if part.is_optional => sum,
                _ => None,
            };
        }
    }
    let with_number = rewards.into_iter().zip(has_number);
    with_number.map(|(reward, has)| reward.filter(|_| has)).collect()
}

/// Whether no part has a number for any member, though none has failed, and all may have none: what
/// the parts leave open.
pub(super) fn are_silent(parts: &[WeightedPart<'_>], n: usize) -> bool {
    let is_silent = |part: &WeightedPart<'_>| match part.outcome {
        PartOutcome::NotAsked => true,
        PartOutcome::Failed(_) => false,
        PartOutcome::Given(_) => {
            part.is_optional && (0..n).all(|member| part.outcome.value(member).is_none())
        }
    };
    parts.iter().filter(|part| part.weight != 0.0).all(is_silent)
}

/// Whether some members have a reward, at least two, and these do not differ.
pub(super) fn are_tied(rewards: &[Option<f64>]) -> bool {
    let known: Vec<f64> = rewards.iter().flatten().copied().collect();
    known.len() > 1 && are_equal(&known)
}

/// (r − mean) / (std + 1e-4) of the known numbers; exactly 0 where they are equal.
fn normalised(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    let Some((mean, deviation)) = spread(&known) else {
        return values.iter().map(|value| value.map(|_| 0.0)).collect();
    };
    values.iter().map(|value| value.map(|value| (value - mean) / (deviation + EPSILON))).collect()
}

/// Mean and unbiased standard deviation (n − 1) of values that differ; none where they do not.
fn spread(values: &[f64]) -> Option<(f64, f64)> {
    if are_equal(values) {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((mean, (squares / (values.len() - 1) as f64).sqrt()))
}

fn are_equal(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests;
