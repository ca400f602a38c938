//! Completions of a step without a reward, and its votes without a reply: how many, and why.
//!
//! It knows results of scoring, and not what is done about failures.

use joust_reward::{GroupResult, PartOf, PartOutcome, PartScores, RewardConfig, VoteTally};
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
    parts: Vec<PartFailure>,
}

/// The completions for which a part of the reward failed.
#[derive(Debug, PartialEq, Eq)]
struct PartFailure {
    part: String,
    n_failed: usize,
    /// Number of completions that the part was asked for.
    n_asked: usize,
    /// Why it failed for the first of them.
    reason: String,
}

impl Failures {
    /// Counts the failures of a step.
    pub(super) fn of(results: &[GroupResult]) -> Self {
        let is_failed =
            |result: &&GroupResult| result.rewards.iter().any(|row| row.reward.is_none());
        // parts ask for every group
        let is_judged = |result: &&GroupResult| {
            !result.votes.is_empty() || !result.parts.is_empty() || is_failed(result)
        };
        let judged = || results.iter().filter(is_judged);
        let rows = || judged().flat_map(|result| &result.rewards);
        Self {
            n_failed: rows().filter(|row| row.reward.is_none()).count(),
            n_judged: rows().count(),
            reason: judged().find(is_failed).map_or_else(String::new, reason),
            votes: VoteTally::of(results.iter().flat_map(|result| &result.votes)),
            parts: part_failures(results),
        }
    }

    /// Fails where more than the share `max_failed` of the reward's settings has no reward, or of
    /// the votes no reply.
    ///
    /// # Errors
    /// [`Error::TooManyPartFailures`], [`Error::TooManyFailures`], [`Error::TooManyLostVotes`]
    pub(super) fn check(self, step: u64, reward: &RewardConfig) -> Result<(), Error> {
        let max_failed = reward.max_failed;
        let Self { n_failed, n_judged, reason, votes, parts } = self;
        for PartFailure { part, n_failed, n_asked, reason } in parts {
            if n_failed as f64 > max_failed * n_asked as f64 {
                return Err(Error::TooManyPartFailures {
                    step,
                    mend: mend(reward, &part),
                    part,
                    n_failed,
                    n_asked,
                    max_failed,
                    reason,
                });
            }
        }
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

/// How a run goes on whose part of this name failed.
fn mend(reward: &RewardConfig, name: &str) -> &'static str {
    match reward.parts.iter().find(|part| part.name() == name).map(|part| &part.of) {
        Some(PartOf::Command(_)) => {
            "--resume repeats the step, with the files of `run` as they were: a changed program \
             begins another run, perhaps from the newest checkpoint (policy.path)"
        }
        Some(PartOf::Http(_)) => "mend the server and go on with --resume, which repeats the step",
        _ => "mend it and go on with --resume, which repeats the step",
    }
}

/// The failures of each part that failed for a group.
fn part_failures(results: &[GroupResult]) -> Vec<PartFailure> {
    let Some(first) = results.first() else { return Vec::new() };
    let mut failures = Vec::new();
    for (idx, part) in first.parts.iter().enumerate().filter(|(_, part)| part.counts) {
        let mut failure =
            PartFailure { part: part.name.clone(), n_failed: 0, n_asked: 0, reason: String::new() };
        for result in results {
            let n_members = result.rewards.len();
            match &result.parts[idx].outcome {
                PartOutcome::NotAsked => continue,
                PartOutcome::Given(_) => {}
                PartOutcome::Failed(reason) => {
                    if failure.n_failed == 0 {
                        failure.reason.clone_from(reason);
                    }
                    failure.n_failed += n_members;
                }
            }
            failure.n_asked += n_members;
        }
        failures.push(failure);
    }
    failures.retain(|failure| failure.n_failed > 0);
    failures
}

/// Why a group's first vote without a verdict has none, in one line.
fn reason(result: &GroupResult) -> String {
    let vote = result.votes.iter().find(|vote| vote.verdict == Verdict::Invalid);
    let Some(vote) = vote else {
        return reason_of_part(result).unwrap_or_else(|| "no known answer".to_owned());
    };
    let said: String = vote.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = said.chars().take(300).collect();
    match said.starts_with("[no reply]") {
        true => shown,
        false => format!("no verdict in a vote that says {shown:?}"),
    }
}

/// What the first part without a number for a completion without a reward says.
fn reason_of_part(result: &GroupResult) -> Option<String> {
    let member = result.rewards.iter().position(|row| row.reward.is_none())?;
    result.parts.iter().find_map(|PartScores { name, outcome, .. }| match outcome {
        PartOutcome::Given(numbers) if numbers[member].is_none() => {
            Some(format!("part `{name}` gave null"))
        }
        PartOutcome::Failed(reason) => Some(format!("part `{name}` failed: {reason}")),
        PartOutcome::Given(_) | PartOutcome::NotAsked => None,
    })
}

#[cfg(test)]
mod tests;
