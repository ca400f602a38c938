//! A judge that looks at the known answer: the right completion wins.

use joust_schema::tables::Verdict;

use super::{Judge, JudgeError, VoteId, VoteOutcome, VoteReply, VoteRequest};
use crate::rule;

/// Prefers the completion whose final answer is right; a coin keyed by the vote's seed decides where
/// both or neither are.
#[derive(Default)]
pub struct RuleJudge {
    finished: Vec<VoteOutcome>,
}

impl Judge for RuleJudge {
    fn name(&self) -> &str {
        "rule"
    }

    fn submit(&mut self, request: VoteRequest) {
        let result = match &request.reference {
            None => Err(JudgeError::Refused("the group has no known answer".to_owned())),
            Some(reference) => {
                let first = rule::is_correct(&request.answer_first, reference);
                let second = rule::is_correct(&request.answer_second, reference);
                let verdict = match (first, second) {
                    (true, false) => Verdict::First,
                    (false, true) => Verdict::Second,
                    _ if request.seed.unit() < 0.5 => Verdict::First,
                    _ => Verdict::Second,
                };
                Ok(VoteReply {
                    verdict,
                    text: format!("first right: {first}, second right: {second}"),
                    prompt_tokens: 0,
                    cached_prompt_tokens: 0,
                    completion_tokens: 0,
                    latency_ms: 0.0,
                })
            }
        };
        self.finished.push((request.id, result));
    }

    fn cancel(&mut self, id: VoteId) {
        self.finished.retain(|(finished, _)| *finished != id);
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        std::mem::take(&mut self.finished)
    }
}
