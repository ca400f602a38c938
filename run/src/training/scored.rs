//! The scored completions of a step: each group with its result and the correctness of its members.

use joust_reward::rule::{self, Correctness};
use joust_reward::{GroupResult, prompt};
use joust_rollout::{RolloutBatch, RolloutGroup};
use joust_schema::ids::Member;
use joust_schema::tables::Rollout;

/// A completion as judges and rules read it: with the thought that its prompt has opened.
pub(crate) fn answer_text(row: &Rollout) -> String {
    prompt::with_opened_thought(&row.prompt, &row.completion).into_owned()
}

/// A group with everything that is known about it.
pub struct ScoredGroup {
    /// The prompt and its completions, member by member.
    pub rollout: RolloutGroup,
    /// The rewards, member by member, with matches and votes.
    pub result: GroupResult,
    /// Correctness member by member; empty without a known answer.
    correctness: Vec<Correctness>,
}

impl ScoredGroup {
    /// Joins a group with its result, and compares its completions with the known answer.
    pub(super) fn new(rollout: RolloutGroup, result: GroupResult) -> Self {
        let correctness = match &rollout.answer {
            Some(answer) => rollout
                .completions
                .iter()
                .map(|row| rule::correctness(&answer_text(row), answer))
                .collect(),
            None => Vec::new(),
        };
        Self { rollout, result, correctness }
    }

    /// Whether the completion of a member is correct; `None` without a known answer.
    pub fn is_correct(&self, member: Member) -> Option<bool> {
        self.correctness.get(member.idx()).map(|correctness| correctness.is_correct())
    }

    /// Correctness member by member; empty without a known answer.
    pub(super) fn known_correctness(&self) -> &[Correctness] {
        &self.correctness
    }
}

/// All groups of a step.
pub(super) struct ScoredStep {
    pub(super) groups: Vec<ScoredGroup>,
    /// Number of prompts that could not be sampled from.
    pub(super) n_dropped: usize,
    /// Number of tokens sampled.
    pub(super) n_tokens: usize,
}

impl ScoredStep {
    /// Joins the groups with their results, which are in the same order.
    pub(super) fn new(batch: RolloutBatch, results: Vec<GroupResult>) -> Self {
        let RolloutBatch { groups, dropped, n_tokens } = batch;
        let groups = groups.into_iter().zip(results);
        Self {
            groups: groups.map(|(rollout, result)| ScoredGroup::new(rollout, result)).collect(),
            n_dropped: dropped.len(),
            n_tokens,
        }
    }

    /// The results of all groups.
    pub(super) fn results(&self) -> impl Iterator<Item = &GroupResult> + Clone {
        self.groups.iter().map(|group| &group.result)
    }
}
