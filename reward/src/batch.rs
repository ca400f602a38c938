//! Groups that are rated together. They may come one by one, while the judge works on others.
//!
//! It knows places and results. It does not know when groups come, nor who scores them.

use std::collections::BTreeMap;

use crate::arena::{GroupHandle, GroupResult, JudgedGroup, rate_together};
use crate::config::RewardConfig;
use crate::error::Error;
use crate::pool::RatingPool;

/// The groups of a batch, each at a place of its own. The results depend on places, not on the
/// order in which groups come or are finished.
#[derive(Default)]
pub(crate) struct ScoringBatch {
    open: BTreeMap<GroupHandle, usize>,
    judged: BTreeMap<usize, JudgedGroup>,
    by_rule: BTreeMap<usize, GroupResult>,
}

/// A group that is finished, before ratings.
pub(crate) enum FinishedGroup {
    /// Its tournament is over.
    Judged(JudgedGroup),
    /// A rule has scored it; it is not rated.
    ByRule(GroupResult),
}

impl ScoringBatch {
    /// Notes a group that is open.
    pub(crate) fn insert(&mut self, handle: GroupHandle, place: usize) {
        self.open.insert(handle, place);
    }

    /// Takes a group that was open.
    pub(crate) fn finish_group(&mut self, handle: GroupHandle, group: FinishedGroup) {
        let place = self.open.remove(&handle);
        let place = place.expect("all groups of the scorer are in the batch. This is a bug.");
        match group {
            FinishedGroup::Judged(group) => drop(self.judged.insert(place, group)),
            FinishedGroup::ByRule(result) => drop(self.by_rule.insert(place, result)),
        }
    }

    /// Number of groups that are open.
    pub(crate) fn n_open(&self) -> usize {
        self.open.len()
    }

    /// Forgets the open groups, and returns them.
    pub(crate) fn take_open(&mut self) -> impl Iterator<Item = GroupHandle> + use<> {
        std::mem::take(&mut self.open).into_keys()
    }

    /// The results of the finished groups by place. The judge's position bias is fitted to all of
    /// them together, and to those of other processes.
    ///
    /// # Errors
    /// [`Error::Pool`]
    pub(crate) fn results(
        self,
        config: &RewardConfig,
        pool: &dyn RatingPool,
    ) -> Result<BTreeMap<usize, GroupResult>, Error> {
        let (places, groups): (Vec<usize>, Vec<JudgedGroup>) = self.judged.into_iter().unzip();
        let rated = places.into_iter().zip(rate_together(groups, config, pool)?);
        Ok(rated.chain(self.by_rule).collect())
    }
}
