//! A group whose tournament is over, before its votes become rewards.
//!
//! It knows votes and rows. How the place term of its rating is found is the caller's choice.

use joust_schema::ids::{GroupId, Member};

use super::evidence::EvidenceRows;
use super::result::GroupResult;
use super::rewards::{Standing, rewards};
use crate::config::RewardConfig;

/// A group whose tournament is over.
pub(crate) struct JudgedGroup {
    pub(super) group_id: GroupId,
    pub(super) standing: Standing,
    pub(super) evidence: EvidenceRows,
    pub(super) winner: Option<Member>,
}

impl JudgedGroup {
    /// The result, with a position bias that is fitted to the group alone.
    pub(crate) fn rate_alone(self, config: &RewardConfig) -> GroupResult {
        let (rewards, position_bias) = rewards(&self.group_id, &self.standing, config);
        let EvidenceRows { matches, votes, is_refused } = self.evidence;
        GroupResult {
            group_id: self.group_id,
            rewards,
            matches,
            votes,
            winner: self.winner,
            position_bias,
            is_refused,
        }
    }
}
