//! The groups of a step as the parts of the reward see them.
//!
//! It does not know what the parts are.

use joust_reward::{GroupRequest, PartGroup, PartMember};
use joust_rollout::RolloutGroup;
use joust_schema::seed::Seed;
use joust_schema::tables::Rollout;

use super::scored::answer_text;

/// A group of step `step`, whose judging draws from `seed`.
pub(super) fn part_group(step: i64, group: &RolloutGroup, seed: Seed) -> PartGroup {
    let member = |row: &Rollout| PartMember {
        finish_reason: row.finish_reason,
        n_tokens: row.completion_token_ids.len(),
    };
    PartGroup {
        request: GroupRequest {
            step,
            group_id: group.group_id.clone(),
            question: group.question.clone(),
            completions: group.completions.iter().map(answer_text).collect(),
            reference: group.answer.clone(),
            seed: seed.child_str("prompt", &group.prompt_id.0),
            tournament: None,
        },
        prompt: group.prompt.clone(),
        members: group.completions.iter().map(member).collect(),
        columns: group.columns.clone(),
    }
}
