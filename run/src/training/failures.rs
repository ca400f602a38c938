//! Completions of a step without a reward, and its votes without a reply: how many, and why.
//!
//! It knows results of scoring, and not what is done about failures.

use joust_reward::{GroupResult, VoteTally};
use joust_schema::tables::Verdict;

use crate::error::Error;

/// The failures of one step.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failures {
    n_failed: usize,
    /// Number of completions that needed a judgement. A group of equal texts is scored without one
    /// and says nothing about the judge.
    n_judged: usize,
    /// Why the first of them has no reward.
    reason: String,
    votes: VoteTally,
}

impl Failures {
    /// Counts the failures of a step.
    pub(super) fn of(results: &[GroupResult]) -> Self {
        let is_failed =
            |result: &&GroupResult| result.rewards.iter().any(|row| row.reward.is_none());
        let is_judged = |result: &&GroupResult| !result.votes.is_empty() || is_failed(result);
        let judged = || results.iter().filter(is_judged);
        let rows = || judged().flat_map(|result| &result.rewards);
        Self {
            n_failed: rows().filter(|row| row.reward.is_none()).count(),
            n_judged: rows().count(),
            reason: judged().find(is_failed).map_or_else(String::new, reason),
            votes: VoteTally::of(results.iter().flat_map(|result| &result.votes)),
        }
    }

    /// Fails where more than the share `max_failed` has no reward, or of the votes no reply.
    ///
    /// # Errors
    /// [`Error::TooManyFailures`], [`Error::TooManyLostVotes`]
    pub(super) fn check(self, step: u64, max_failed: f64) -> Result<(), Error> {
        let Self { n_failed, n_judged, reason, votes } = self;
        if n_failed as f64 > max_failed * n_judged as f64 {
            return Err(Error::TooManyFailures { step, n_failed, n_judged, max_failed, reason });
        }
        if votes.exceeds(max_failed) {
            return Err(Error::TooManyLostVotes {
                step,
                n_lost: votes.n_lost,
                n_asked: votes.n_asked,
                max_failed,
                reason: votes.first_failure.unwrap_or_default(),
            });
        }
        Ok(())
    }
}

/// Why a group's first vote without a verdict has none, in one line.
fn reason(result: &GroupResult) -> String {
    let vote = result.votes.iter().find(|vote| vote.verdict == Verdict::Invalid);
    let Some(vote) = vote else {
        return "no known answer".to_owned();
    };
    let said: String = vote.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = said.chars().take(300).collect();
    match said.starts_with("[no reply]") {
        true => shown,
        false => format!("no verdict in a vote that says {shown:?}"),
    }
}

#[cfg(test)]
mod tests;
