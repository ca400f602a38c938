//! A group whose tournament is over, and the ratings that make a result of it.
//!
//! It knows votes and rows. Which groups are rated together is the caller's choice.

use joust_schema::ids::{GroupId, Member};

use super::evidence::EvidenceRows;
use super::result::GroupResult;
use super::rewards::{Standing, rewards};
use crate::config::{RatingMethod, RewardConfig};
use crate::error::Error;
use crate::pool::{Alone, RatingPool, of_others};
use crate::rating::GroupVotes;
use crate::rating::bradley_terry::{BradleyTerry, PositionBias, bradley_terry_of_groups};
use crate::rating::length_control::{LengthFit, LengthSlope, MeasuredGroup};

/// A group whose tournament is over.
pub(crate) struct JudgedGroup {
    pub(super) group_id: GroupId,
    pub(super) standing: Standing,
    pub(super) evidence: EvidenceRows,
    pub(super) winner: Option<Member>,
}

/// The fit of a group by Bradley and Terry.
struct GroupFit {
    /// The strengths that are rewarded: at equal length where lengths are controlled.
    strengths: BradleyTerry,
    /// Of all groups that are rated together; none where no lengths differ.
    length_slope: Option<LengthSlope>,
}

/// Rates groups that the same judge compared: its position bias and its preference for longer
/// answers are fitted to all of them together, those of other processes included. The results are
/// in the order of the groups; that order changes none of them.
///
/// # Errors
/// [`Error::Pool`]
pub(crate) fn rate_together(
    groups: Vec<JudgedGroup>,
    config: &RewardConfig,
    pool: &dyn RatingPool,
) -> Result<Vec<GroupResult>, Error> {
    let mut fits: Vec<Option<GroupFit>> = groups.iter().map(|_| None).collect();
    if config.rating.method == RatingMethod::BradleyTerry {
        let own: Vec<&Standing> = groups.iter().map(|group| &group.standing).collect();
        let others = of_others(pool, &own)?;
        let all: Vec<&Standing> = own.into_iter().chain(&others).collect();
        let mut order: Vec<usize> = (0..all.len()).collect();
        // sums over the groups depend on their content alone, down to the last digit
        order.sort_by_key(|&idx| (all[idx].group_seed.0, &all[idx].keys));
        let standings: Vec<&Standing> = order.iter().map(|&idx| all[idx]).collect();
        for (idx, fit) in order.into_iter().zip(fit_together(&standings, config)) {
            if let Some(own) = fits.get_mut(idx) {
                *own = Some(fit);
            }
        }
    }
    let rated = groups.into_iter().zip(fits).map(|(group, fit)| group.rate(config, fit.as_ref()));
    Ok(rated.collect())
}

fn fit_together<'a>(standings: &[&'a Standing], config: &RewardConfig) -> Vec<GroupFit> {
    let of_standing = |standing: &&'a Standing| MeasuredGroup {
        votes: standing.votes(),
        lengths: &standing.lengths,
    };
    let measured: Vec<MeasuredGroup<'_>> = standings.iter().map(of_standing).collect();
    let votes: Vec<GroupVotes<'_>> = measured.iter().map(|group| group.votes).collect();
    let plain = bradley_terry_of_groups(&votes, &config.rating.bradley_terry);
    // fitted in any case, so that the preference is seen before it is removed
    let by_length = LengthFit::of(&measured, &plain, &config.rating.bradley_terry);
    let length_slope = by_length.as_ref().map(LengthFit::slope);
    let strengths = match by_length {
        Some(by_length) if config.rating.length_control => by_length.at_equal_length(),
        _ => plain,
    };
    strengths.into_iter().map(|strengths| GroupFit { strengths, length_slope }).collect()
}

impl JudgedGroup {
    /// The result, with a position bias and a length slope that are fitted to the group alone.
    pub(crate) fn rate_alone(self, config: &RewardConfig) -> GroupResult {
        let rated = rate_together(vec![self], config, &Alone);
        let result = rated.ok().and_then(|mut results| results.pop());
        result.expect("A group that is rated alone has a result. This is a bug.")
    }

    fn rate(self, config: &RewardConfig, fit: Option<&GroupFit>) -> GroupResult {
        let strengths = fit.map(|fit| &fit.strengths);
        let rewards = rewards(&self.group_id, &self.standing, config, strengths);
        let EvidenceRows { mut matches, votes, is_refused } = self.evidence;
        let bias: Option<PositionBias> = strengths.map(|strengths| strengths.position_bias);
        for row in &mut matches {
            row.position_bias = bias.map(|bias| bias.logits);
            row.position_bias_stderr = bias.map(|bias| bias.stderr);
        }
        // in a group without matches nothing is measured
        let has_matches = !matches.is_empty();
        let is_measured = config.rating.bradley_terry.position_bias && has_matches;
        let measured = bias.filter(|_| is_measured);
        let slope = fit.and_then(|fit| fit.length_slope).filter(|_| has_matches);
        GroupResult {
            group_id: self.group_id,
            rewards,
            matches,
            votes,
            winner: self.winner,
            position_bias: measured.map(|bias| bias.logits),
            position_bias_stderr: measured.map(|bias| bias.stderr),
            length_slope: slope.map(|slope| slope.logits),
            length_slope_stderr: slope.map(|slope| slope.stderr),
            is_refused,
            correctness: Vec::new(),
            parts: Vec::new(),
        }
    }
}
