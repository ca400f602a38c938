//! Whose turn it is: groups with votes to request take turns, so that a large group never keeps the
//! judge from the others.
//!
//! It knows handles only.

use std::collections::{BTreeSet, VecDeque};

use super::request::GroupHandle;

/// Maximum number of votes that a group requests in one turn. Votes of one group follow each other,
/// because their prompts have a common prefix.
const VOTES_PER_TURN: usize = 64;

/// Groups with votes to request, in turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: VecDeque<GroupHandle>,
    queued: BTreeSet<GroupHandle>,
    /// Number of votes that the first group has requested in its turn.
    n_taken: usize,
}

impl Turns {
    /// Adds a group at the end, unless it waits already.
    pub(super) fn add(&mut self, handle: GroupHandle) {
        if self.queued.insert(handle) {
            self.queue.push_back(handle);
        }
    }

    /// The group that requests the next vote.
    pub(super) fn next(&mut self) -> Option<GroupHandle> {
        if self.n_taken == VOTES_PER_TURN {
            self.n_taken = 0;
            self.queue.rotate_left(1.min(self.queue.len()));
        }
        let next = self.queue.front().copied();
        self.n_taken += usize::from(next.is_some());
        next
    }

    /// Ends the turn of the first group, which has no more votes to request.
    pub(super) fn end_first(&mut self) {
        self.n_taken = 0;
        if let Some(handle) = self.queue.pop_front() {
            self.queued.remove(&handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::Handles;
    use super::*;

    #[test]
    fn turns_go_to_groups_one_after_the_other() {
        let mut handles = Handles::default();
        let [large, small] = [handles.next(), handles.next()];
        let mut turns = Turns::default();
        assert_eq!(turns.next(), None);
        [large, small, large].iter().for_each(|&handle| turns.add(handle));
        let taken: Vec<_> = (0..VOTES_PER_TURN).map(|_| turns.next()).collect();
        assert_eq!(taken, vec![Some(large); VOTES_PER_TURN]);
        assert_eq!(turns.next(), Some(small));
        turns.end_first();
        assert_eq!(turns.next(), Some(large), "it waits once");
        turns.end_first();
        assert_eq!(turns.next(), None);
        turns.add(small);
        assert_eq!(turns.next(), Some(small));
    }
}
