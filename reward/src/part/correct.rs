//! The part `correct`: whether the final answer equals the known one.
//!
//! It does not know how answers are compared.

use super::group::PartGroup;
use super::outcome::PartOutcome;
use super::source::{PartQuestions, PartSource};
use crate::{prompt, rule};

/// 1 for a correct completion and 0 for another; nothing without a known answer.
pub(super) struct KnownAnswerRule;

impl PartSource for KnownAnswerRule {
    fn score(&mut self, questions: PartQuestions) {
        questions.answer_each(of_group);
    }
}

fn of_group(group: &PartGroup) -> PartOutcome {
    let request = &group.request;
    let texts = request.completions.iter().map(|text| prompt::answer(&request.question, text));
    let score = |known: &String, text: &str| match rule::is_correct(text, known) {
        true => 1.0,
        false => 0.0,
    };
    let known = request.reference.as_ref();
    PartOutcome::Given(texts.map(|text| known.map(|known| score(known, text))).collect())
}
