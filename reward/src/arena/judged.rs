//! A group whose tournament is over, and the ratings that make a result of it.
//!
//! It knows votes and rows. Which groups are rated together is the caller's choice.

use joust_schema::ids::{GroupId, Member};

use super::evidence::EvidenceRows;
use super::result::GroupResult;
use super::rewards::{Standing, rewards};
use crate::config::{RatingMethod, RewardConfig};
use crate::rating::GroupVotes;
use crate::rating::bradley_terry::{BradleyTerry, bradley_terry_of_groups};

/// A group whose tournament is over.
pub(crate) struct JudgedGroup {
    pub(super) group_id: GroupId,
    pub(super) standing: Standing,
    pub(super) evidence: EvidenceRows,
    pub(super) winner: Option<Member>,
}

/// Rates groups that the same judge compared: its position bias is fitted to all of them together.
/// The results are in the order of the groups; that order changes none of them.
pub(crate) fn rate_together(groups: Vec<JudgedGroup>, config: &RewardConfig) -> Vec<GroupResult> {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    // sums over the groups depend on their content alone, down to the last digit
    order.sort_by_key(|&idx| {
        let standing = &groups[idx].standing;
        (standing.group_seed.0, &standing.keys)
    });
    let mut fits: Vec<Option<BradleyTerry>> = groups.iter().map(|_| None).collect();
    if config.rating.method == RatingMethod::BradleyTerry {
        let votes: Vec<GroupVotes<'_>> =
            order.iter().map(|&idx| groups[idx].standing.votes()).collect();
        let fitted = bradley_terry_of_groups(&votes, &config.rating.bradley_terry);
        order.into_iter().zip(fitted).for_each(|(idx, fit)| fits[idx] = Some(fit));
    }
    groups.into_iter().zip(fits).map(|(group, fit)| group.rate(config, fit.as_ref())).collect()
}

impl JudgedGroup {
    /// The result, with a position bias that is fitted to the group alone.
    pub(crate) fn rate_alone(self, config: &RewardConfig) -> GroupResult {
        let mut results = rate_together(vec![self], config);
        results.pop().expect("A group has a result. This is a bug.")
    }

    fn rate(self, config: &RewardConfig, fit: Option<&BradleyTerry>) -> GroupResult {
        let rewards = rewards(&self.group_id, &self.standing, config, fit);
        let EvidenceRows { mut matches, votes, is_refused } = self.evidence;
        let bias = fit.map(|fit| fit.position_bias);
        for row in &mut matches {
            row.position_bias = bias.map(|bias| bias.logits);
            row.position_bias_stderr = bias.map(|bias| bias.stderr);
        }
        // in a group without matches nothing is measured
        let is_measured = config.rating.bradley_terry.position_bias && !matches.is_empty();
        let measured = bias.filter(|_| is_measured);
        GroupResult {
            group_id: self.group_id,
            rewards,
            matches,
            votes,
            winner: self.winner,
            position_bias: measured.map(|bias| bias.logits),
            position_bias_stderr: measured.map(|bias| bias.stderr),
            is_refused,
            correctness: Vec::new(),
            parts: Vec::new(),
        }
    }
}
