//! A judge by the known answer: the correct completion wins.
//!
//! It does not know models.

use std::collections::BTreeMap;

use joust_schema::tables::Verdict;

use super::interface::Judge;
use super::vote::{JudgeError, VoteId, VoteOutcome, VoteReply, VoteRequest};
use crate::rule;

/// Prefers the completion whose final answer is correct; if both or neither are, a coin keyed by
/// the vote's seed decides.
#[derive(Default)]
pub struct RuleJudge {
    finished: BTreeMap<VoteId, Result<VoteReply, JudgeError>>,
}

impl RuleJudge {
    /// The reply to a vote.
    ///
    /// # Errors
    /// [`JudgeError::Refused`] without a known answer.
    pub fn reply(request: &VoteRequest) -> Result<VoteReply, JudgeError> {
        let Some(reference) = &request.reference else {
            return Err(JudgeError::Refused("the group has no known answer".to_owned()));
        };
        let first = rule::is_correct(&request.answer_first, reference);
        let second = rule::is_correct(&request.answer_second, reference);
        let verdict = match (first, second) {
            (true, false) => Verdict::First,
            (false, true) => Verdict::Second,
            _ if request.seed.unit() < 0.5 => Verdict::First,
            _ => Verdict::Second,
        };
        let text = format!("first right: {first}, second right: {second}");
        Ok(VoteReply::without_tokens(verdict, text))
    }
}

impl Judge for RuleJudge {
    fn name(&self) -> &str {
        "rule"
    }

    fn capacity(&self) -> usize {
        usize::MAX
    }

    fn submit(&mut self, request: VoteRequest) {
        self.finished.insert(request.id, Self::reply(&request));
    }

    fn cancel(&mut self, id: VoteId) {
        self.finished.remove(&id);
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        std::mem::take(&mut self.finished).into_iter().collect()
    }
}
