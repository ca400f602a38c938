//! A judge by the known answer: the correct completion wins.
//!
//! It does not know models.

use std::collections::{BTreeMap, VecDeque};

use joust_schema::tables::Verdict;

use super::interface::Judge;
use super::vote::{JudgeError, VoteId, VoteOutcome, VoteReply, VoteRequest};
use crate::rule;

/// Prefers the completion whose final answer is correct; if both or neither are, a coin keyed by
/// the vote's seed decides.
#[derive(Default)]
pub struct RuleJudge {
    finished: BTreeMap<VoteId, Result<VoteReply, JudgeError>>,
    latest: LatestAnswers,
}

/// Size of an answer from which on it is kept: shorter ones are read as fast as they are found.
const MIN_KEPT_BYTES: usize = 64 << 10;

/// Maximum size of all answers that are kept.
const MAX_KEPT_BYTES: usize = 64 << 20;

/// Long answers that were read lately: in a tournament each of them is shown several times.
#[derive(Default)]
struct LatestAnswers {
    answers: VecDeque<ReadAnswer>,
    n_bytes: usize,
}

/// An answer, the known one, and whether they are equal.
struct ReadAnswer {
    answer: String,
    reference: String,
    is_correct: bool,
}

impl LatestAnswers {
    fn is_correct(&mut self, answer: String, reference: &str) -> bool {
        if answer.len() < MIN_KEPT_BYTES {
            return rule::is_correct(&answer, reference);
        }
        let is_same = |read: &&ReadAnswer| read.answer == answer && read.reference == reference;
        if let Some(read) = self.answers.iter().find(is_same) {
            return read.is_correct;
        }
        let is_correct = rule::is_correct(&answer, reference);
        let read = ReadAnswer { answer, reference: reference.to_owned(), is_correct };
        self.n_bytes += read.n_bytes();
        self.answers.push_back(read);
        while self.n_bytes > MAX_KEPT_BYTES
            && let Some(oldest) = self.answers.pop_front()
        {
            self.n_bytes -= oldest.n_bytes();
        }
        is_correct
    }
}

impl ReadAnswer {
    fn n_bytes(&self) -> usize {
        self.answer.len() + self.reference.len()
    }
}

impl RuleJudge {
    /// The reply to a vote.
    ///
    /// # Errors
    /// [`JudgeError::Refused`] without a known answer.
    pub fn reply(request: &VoteRequest) -> Result<VoteReply, JudgeError> {
        Self::reply_with(request.clone(), &mut LatestAnswers::default())
    }

    fn reply_with(
        request: VoteRequest,
        latest: &mut LatestAnswers,
    ) -> Result<VoteReply, JudgeError> {
        let Some(reference) = &request.reference else {
            return Err(JudgeError::Refused("the group has no known answer".to_owned()));
        };
        let first = latest.is_correct(request.answer_first, reference);
        let second = latest.is_correct(request.answer_second, reference);
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
        self.finished.insert(request.id, Self::reply_with(request, &mut self.latest));
    }

    fn cancel(&mut self, id: VoteId) {
        self.finished.remove(&id);
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        std::mem::take(&mut self.finished).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_judge_reads_a_long_answer_once_for_each_known_one_and_keeps_a_bounded_number() {
        let mut latest = LatestAnswers::default();
        let text = |end: &str| "It goes on. ".repeat(MAX_KEPT_BYTES / 40) + end;
        for _ in 0..3 {
            assert!(latest.is_correct(text("so it is 5"), "5"));
            assert!(!latest.is_correct(text("so it is 6"), "5"));
            assert!(latest.is_correct(text("so it is 6"), "6"));
            assert!(latest.n_bytes <= MAX_KEPT_BYTES && latest.answers.len() == 3);
        }
        assert!(latest.is_correct(text("so it is 7"), "7"));
        assert!(latest.n_bytes <= MAX_KEPT_BYTES && latest.answers.len() == 3);
        assert!(latest.is_correct("5".to_owned(), "5"));
        assert_eq!(latest.answers.len(), 3, "short ones are not kept");
    }
}
