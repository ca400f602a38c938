//! From what the parts and the judge say about a group to its result.
//!
//! Pure but for a warning per failed part. It does not know who is asked, nor when.

use joust_schema::tables::Status;

use super::combine::{self, WeightedPart};
use super::group::PartGroup;
use super::outcome::{PartOutcome, PartScores};
use crate::arena::GroupResult;
use crate::config::part::{Combine, JudgeWhen};

/// What counts of a part, whoever gives its numbers.
#[derive(Clone, Copy)]
pub(super) struct PartRole<'a> {
    pub(super) name: &'a str,
    pub(super) weight: f64,
    pub(super) is_optional: bool,
    /// The groups that the judge is asked for, if the part is the judge's.
    pub(super) when_judged: Option<JudgeWhen>,
}

/// The parts of a reward, and how they are combined. Without parts, the reward is the judge's.
pub(super) struct PartRoles<'a> {
    pub(super) parts: Vec<PartRole<'a>>,
    pub(super) combine: Combine,
}

impl PartRoles<'_> {
    /// The groups that the judge is asked for: none where no part is the judge's.
    pub(super) fn when_judged(&self) -> Option<JudgeWhen> {
        match self.parts.is_empty() {
            true => Some(JudgeWhen::Always),
            false => self.parts.iter().find_map(|part| part.when_judged),
        }
    }

    /// Whether the parts leave a group open to a judge for tied groups.
    pub(super) fn are_tied(&self, group: &PartGroup, outcomes: &[PartOutcome]) -> bool {
        let n = group.request.completions.len();
        combine::are_tied(&self.rewards(group, outcomes))
            || combine::are_silent(&self.weighted(outcomes), n)
    }

    /// The result of a group: the judge's, with the reward that the parts make.
    pub(super) fn result(
        &self,
        group: &PartGroup,
        judged: Option<GroupResult>,
        mut outcomes: Vec<PartOutcome>,
    ) -> GroupResult {
        let judge_idx = self.parts.iter().position(|part| part.when_judged.is_some());
        if let (Some(judge_idx), Some(judged)) = (judge_idx, &judged) {
            let numbers = judged.rewards.iter().map(|row| row.reward);
            outcomes[judge_idx] = PartOutcome::Given(numbers.collect());
        }
        let mut result = judged.unwrap_or_else(|| {
            let rewards = group.request.completions.iter().map(|_| (Status::Scored, None));
            GroupResult::without_matches(&group.request, rewards)
        });
        if self.parts.is_empty() {
            return result;
        }
        for (row, reward) in result.rewards.iter_mut().zip(self.rewards(group, &outcomes)) {
            row.reward = reward;
            row.status = match (reward, row.status) {
                (Some(_), _) => Status::Scored,
                (None, Status::Scored) => Status::PartFailed,
                (None, of_judge) => of_judge,
            };
        }
        for (part, outcome) in self.parts.iter().zip(outcomes) {
            if let PartOutcome::Failed(reason) = &outcome {
                tracing::warn!(
                    part = part.name, group_id = %group.request.group_id, reason,
                    "A part of the reward has no numbers for a group."
                );
            }
            let (name, counts) = (part.name.to_owned(), part.weight != 0.0);
            result.parts.push(PartScores { name, counts, outcome });
        }
        result
    }

    /// The rewards of a group, member by member.
    fn rewards(&self, group: &PartGroup, outcomes: &[PartOutcome]) -> Vec<Option<f64>> {
        combine::rewards(&self.weighted(outcomes), group.request.completions.len(), self.combine)
    }

    /// What the parts say about a group, and how each counts.
    fn weighted<'a>(&self, outcomes: &'a [PartOutcome]) -> Vec<WeightedPart<'a>> {
        let weighted = |(part, outcome): (&PartRole<'_>, &'a PartOutcome)| {
            let PartRole { weight, is_optional, .. } = *part;
            WeightedPart { weight, is_optional, outcome }
        };
        self.parts.iter().zip(outcomes).map(weighted).collect()
    }
}
