//! From the step's two tables to the completions that are trained on.

use std::collections::BTreeMap;

use joust_schema::ids::{GroupId, Member};
use joust_schema::tables::{FinishReason, Reward, Rollout};

use crate::batch::Row;
use crate::error::Error;

/// One completion that takes part in the updates.
pub(super) struct Trainee {
    pub(super) row: Row,
    pub(super) advantage: f64,
    pub(super) sampled_logprobs: Vec<f32>,
}

/// Takes cut-off completions out of the loss. Their rewards count in their group's mean, as in TRL.
pub(super) fn mask_truncated(rollouts: &[Rollout], rewards: &mut [Reward]) -> Result<(), Error> {
    let by_member = index(rollouts)?;
    for reward in rewards {
        let key = (&reward.group_id, reward.member);
        let is_cut = by_member
            .get(&key)
            .is_some_and(|&row| rollouts[row].finish_reason != FinishReason::Stop);
        if is_cut {
            reward.advantage = None;
        }
    }
    Ok(())
}

fn index(rollouts: &[Rollout]) -> Result<BTreeMap<(&GroupId, Member), usize>, Error> {
    let mut by_member = BTreeMap::new();
    for (row, rollout) in rollouts.iter().enumerate() {
        if by_member.insert((&rollout.group_id, rollout.member), row).is_some() {
            return Err(Error::Batch(format!(
                "group {} has member {} twice in rollouts",
                rollout.group_id, rollout.member
            )));
        }
    }
    Ok(by_member)
}

/// Joins the two tables and takes the completions that have an advantage.
pub(super) fn trainees(rollouts: &[Rollout], rewards: &[Reward]) -> Result<Vec<Trainee>, Error> {
    let by_member = index(rollouts)?;
    if rollouts.len() != rewards.len() {
        return Err(Error::Batch(format!(
            "rollouts has {} rows, rewards {}",
            rollouts.len(),
            rewards.len()
        )));
    }
    let mut found = Vec::new();
    for reward in rewards {
        let row = by_member.get(&(&reward.group_id, reward.member)).ok_or_else(|| {
            Error::Batch(format!(
                "group {} member {} is in rewards, not in rollouts",
                reward.group_id, reward.member
            ))
        })?;
        let rollout = &rollouts[*row];
        let Some(advantage) = reward.advantage else {
            continue;
        };
        if rollout.completion_logprobs.len() != rollout.completion_token_ids.len() {
            return Err(Error::Batch(format!(
                "group {} member {}: {} log-probabilities for {} tokens",
                reward.group_id,
                reward.member,
                rollout.completion_logprobs.len(),
                rollout.completion_token_ids.len()
            )));
        }
        let ids = |tokens: &[i32]| tokens.iter().map(|&id| id as u32).collect::<Vec<u32>>();
        let row = Row {
            prompt: ids(&rollout.prompt_token_ids),
            completion: ids(&rollout.completion_token_ids),
        };
        if row.prompt.is_empty() || row.completion.is_empty() {
            return Err(Error::Batch(format!(
                "group {} member {} has an empty prompt or completion",
                reward.group_id, reward.member
            )));
        }
        let sampled_logprobs = rollout.completion_logprobs.clone();
        found.push(Trainee { row, advantage, sampled_logprobs });
    }
    Ok(found)
}
