//! Dynamic sampling: the groups of a step, of which those without spread are replaced.
//!
//! Pure. Source: DAPO (arXiv 2503.14476), section 3.2. It does not know how groups are sampled,
//! scored or trained on.

use std::collections::BTreeSet;

use joust_reward::GroupResult;
use joust_rollout::RolloutBatch;
use joust_schema::ids::PromptId;
use joust_trainer::Metrics;
use joust_trainer::advantage::are_equal;

/// The groups of a step, round after round, with their results in the same order.
#[derive(Default)]
pub(super) struct StepGroups {
    /// Maximum number of rounds after the first one; 0 where no group is replaced.
    max_refills: u64,
    pub(super) batch: RolloutBatch,
    pub(super) results: Vec<GroupResult>,
    /// Number of prompts, those included that were dropped.
    n_prompts: usize,
    /// Number of groups of the first round, as many as should have spread.
    n_wanted: usize,
    /// Number of groups of the first round without spread.
    n_without_spread_before: usize,
    n_rounds: u64,
}

/// Whether the rewards of a group differ: whether something can be learned from it.
pub(super) fn has_spread(result: &GroupResult) -> bool {
    !are_equal(&known_rewards(result))
}

/// The rewards of a group without those that are missing.
pub(super) fn known_rewards(result: &GroupResult) -> Vec<f64> {
    result.rewards.iter().filter_map(|row| row.reward).collect()
}

impl StepGroups {
    /// No groups, in whose place at most `max_refills` rounds may bring others.
    pub(super) fn new(max_refills: u64) -> Self {
        Self { max_refills, ..Self::default() }
    }

    /// Adds the groups of a round for `n_prompts` prompts.
    pub(super) fn add_round(
        &mut self,
        n_prompts: usize,
        batch: RolloutBatch,
        results: Vec<GroupResult>,
    ) {
        self.n_prompts += n_prompts;
        if self.n_rounds == 0 {
            self.n_wanted = results.len();
            self.n_without_spread_before = results.iter().filter(|it| !has_spread(it)).count();
        }
        self.n_rounds += 1;
        self.batch.groups.extend(batch.groups);
        self.batch.dropped.extend(batch.dropped);
        self.batch.n_tokens += batch.n_tokens;
        self.results.extend(results);
    }

    /// Number of prompts so far.
    pub(super) fn n_prompts(&self) -> usize {
        self.n_prompts
    }

    /// The prompts so far.
    pub(super) fn prompt_ids(&self) -> BTreeSet<PromptId> {
        let sampled = self.batch.groups.iter().map(|group| &group.prompt_id);
        let dropped = self.batch.dropped.iter().map(|dropped| &dropped.prompt_id);
        sampled.chain(dropped).cloned().collect()
    }

    /// Number of groups of the next round.
    pub(super) fn n_refill(&self) -> usize {
        match self.n_rounds <= self.max_refills {
            true => self.n_wanted.saturating_sub(self.with_spread().count()),
            false => 0,
        }
    }

    /// The groups that are trained on where groups without spread are replaced: those with spread.
    /// `None` where that is all of them, or none: a step without spread is trained on as it is.
    pub(super) fn trained(&self) -> Option<Vec<usize>> {
        let trained: Vec<usize> = self.with_spread().collect();
        let is_part =
            self.max_refills > 0 && !trained.is_empty() && trained.len() < self.results.len();
        is_part.then_some(trained)
    }

    /// What was replaced; no metrics where no group is.
    pub(super) fn metrics(&self) -> Metrics {
        if self.max_refills == 0 {
            return Metrics::new();
        }
        let share = self.n_without_spread_before as f64 / self.n_wanted.max(1) as f64;
        let n_refilled = self.results.len() - self.n_wanted;
        Metrics::from([
            ("groups/refill_rounds".to_owned(), self.n_rounds.saturating_sub(1) as f64),
            ("groups/refilled".to_owned(), n_refilled as f64),
            ("groups/no_spread_ratio_before_refill".to_owned(), share),
        ])
    }

    fn with_spread(&self) -> impl Iterator<Item = usize> {
        let results = self.results.iter().enumerate();
        results.filter(|(_, result)| has_spread(result)).map(|(group_idx, _)| group_idx)
    }
}

#[cfg(test)]
mod tests;
