//! A group that is to be scored, and the handle that names it afterwards.
//!
//! Plain data. It does not know how a group is scored.

use joust_schema::ids::GroupId;
use joust_schema::seed::Seed;

use crate::config::TournamentConfig;

/// A group to be scored.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GroupRequest {
    /// Training step; 0 outside of training.
    pub step: i64,
    /// Name of the group in the result; two groups may have the same.
    pub group_id: GroupId,
    /// The prompt that all completions reply to.
    pub question: String,
    /// The completions, in the order of the members.
    pub completions: Vec<String>,
    /// The known answer if there is one; only rules read it.
    pub reference: Option<String>,
    /// Seed of every draw: bracket, presentation order, the judge's sampling.
    pub seed: Seed,
    /// Another tournament than the configured one.
    pub tournament: Option<TournamentConfig>,
}

/// Names a group from the moment it is added until it is finished or cancelled. Handles ascend in
/// the order in which groups are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupHandle(u64);

/// Gives out handles.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    n_given: u64,
}

impl Handles {
    /// Returns a handle that was not given out before.
    pub(crate) fn next(&mut self) -> GroupHandle {
        self.n_given += 1;
        GroupHandle(self.n_given)
    }
}
