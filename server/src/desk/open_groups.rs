//! Groups that are queued or judged, by their key and by the scorer's handle. Pure.

use std::collections::BTreeMap;

use super::commands::ScoreRequest;
use super::fair_queue::EntryPosition;
use crate::judged::GroupKey;
use joust_reward::arena::GroupHandle;

/// Location of an open group.
#[derive(Debug)]
pub(super) enum GroupLocation {
    /// In the queue.
    Queued(EntryPosition),
    /// At the judge.
    Judging(GroupHandle),
}

/// All open groups.
#[derive(Debug, Default)]
pub(super) struct OpenGroups {
    by_key: BTreeMap<GroupKey, GroupLocation>,
    /// Requests of the groups at the judge.
    requests: BTreeMap<GroupHandle, ScoreRequest>,
}

impl OpenGroups {
    pub(super) fn contains(&self, key: GroupKey) -> bool {
        self.by_key.contains_key(&key)
    }

    /// The key of a group at the judge.
    pub(super) fn key_of(&self, handle: GroupHandle) -> Option<GroupKey> {
        self.requests.get(&handle).map(|request| request.key)
    }

    pub(super) fn add_queued(&mut self, key: GroupKey, position: EntryPosition) {
        self.by_key.insert(key, GroupLocation::Queued(position));
    }

    /// Records that a group went from the queue to the judge.
    pub(super) fn begin_judging(&mut self, handle: GroupHandle, request: ScoreRequest) {
        self.by_key.insert(request.key, GroupLocation::Judging(handle));
        self.requests.insert(handle, request);
    }

    /// Removes a group, wherever it is.
    pub(super) fn remove(&mut self, key: GroupKey) -> Option<GroupLocation> {
        self.by_key.remove(&key)
    }

    /// Removes a group at the judge and returns its request.
    pub(super) fn remove_judging(&mut self, handle: GroupHandle) -> Option<ScoreRequest> {
        let request = self.requests.remove(&handle)?;
        self.by_key.remove(&request.key);
        Some(request)
    }
}
