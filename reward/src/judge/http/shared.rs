//! Votes that share a call: which votes may share one, and which are still wanted.
//!
//! It does not know how a call is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use crate::judge::vote::{VoteId, VoteRequest};

/// The votes of a call that are still wanted.
pub(super) struct WantedVotes(Mutex<BTreeSet<VoteId>>);

impl WantedVotes {
    pub(super) fn new(votes: &[VoteRequest]) -> Self {
        Self(Mutex::new(votes.iter().map(|vote| vote.id).collect()))
    }

    /// Removes a vote; false if none is left.
    pub(super) fn cancel(&self, id: VoteId) -> bool {
        let mut wanted = self.lock();
        wanted.remove(&id);
        !wanted.is_empty()
    }

    pub(super) fn contains(&self, id: VoteId) -> bool {
        self.lock().contains(&id)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<VoteId>> {
        self.0.lock().expect("no thread panics while it holds a call's votes. This is a bug.")
    }
}

/// Groups votes with the same prompt, at most `max_votes` per call. Calls and votes keep the order
/// of the requests.
pub(super) fn group_by_prompt(votes: Vec<VoteRequest>, max_votes: usize) -> Vec<Vec<VoteRequest>> {
    // per prompt: its open call, and the number of votes in it
    let mut open: BTreeMap<[&str; 3], (usize, usize)> = BTreeMap::new();
    let mut n_calls = 0;
    let mut call_of_vote = Vec::with_capacity(votes.len());
    for vote in &votes {
        let texts = [&*vote.question, &*vote.answer_first, &*vote.answer_second];
        let (call, n_votes) = open.entry(texts).or_insert((0, max_votes));
        if *n_votes == max_votes {
            (*call, *n_votes) = (n_calls, 0);
            n_calls += 1;
        }
        *n_votes += 1;
        call_of_vote.push(*call);
    }
    let mut calls = vec![Vec::new(); n_calls];
    for (vote, call) in votes.into_iter().zip(call_of_vote) {
        calls[call].push(vote);
    }
    calls
}
