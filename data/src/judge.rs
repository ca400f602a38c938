//! Pairs of answers with the thought of a judge who works the problem and checks both.

use joust_schema::seed::Seed;
use serde::Serialize;

use crate::answer::{Answer, AnswerStyle, answer};
use crate::draw::Draw;
use crate::task::TaskConfig;
use crate::wild;
use crate::working::work;

/// Shares of the pairs with one and with two right answers; the other pairs have none.
const ONE_RIGHT: f64 = 0.80;
const BOTH_RIGHT: f64 = 0.08;

/// Two answers to a question, and the thought that a judge learns to write about them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JudgePair {
    /// The question.
    pub question: String,
    /// The answer shown as Assistant 1.
    pub answer_first: String,
    /// The answer shown as Assistant 2.
    pub answer_second: String,
    /// The right number.
    pub answer: String,
    /// Whether the first answer states the right number.
    pub first_right: bool,
    /// Whether the second answer states the right number.
    pub second_right: bool,
    /// Whether the verdict is for the first answer: by correctness, or by a coin where both answers
    /// or neither are right.
    pub verdict_first: bool,
    /// The thought up to and including the verdict, as it follows `<think>` and a line break.
    pub thought: String,
}

/// Pair `idx` of the stream that `seed` keys.
pub fn judge_pair(config: &TaskConfig, seed: Seed, idx: u64) -> JudgePair {
    let mut draw = Draw::new(seed.child("judge_pair", idx));
    let problem = config.problem(&mut draw);
    let is_wild = |draw: &mut Draw| config.wild > 0.0 && draw.chance(config.wild);
    let question = match is_wild(&mut draw) {
        true => wild::question(&problem, &mut draw),
        false => config.question(&problem, &mut draw),
    };
    let share = draw.unit();
    let rights = if share < ONE_RIGHT {
        let first = draw.chance(0.5);
        [first, !first]
    } else if share < ONE_RIGHT + BOTH_RIGHT {
        [true, true]
    } else {
        [false, false]
    };
    // half of the pairs look like those that a judge gets while a policy of this task is trained
    let both_worked = draw.chance(0.5);
    let [first, second] = rights.map(|right| {
        let worked = both_worked || draw.chance(0.15);
        let wild = !worked && is_wild(&mut draw);
        let style = AnswerStyle { right, worked, wild, misleading: config.misleading };
        answer(&problem, style, &mut draw)
    });
    let right_value = problem.answer();
    let is_right = |answer: &Answer| answer.value == Some(right_value);
    let (first_right, second_right) = (is_right(&first), is_right(&second));
    let verdict_first = match (first_right, second_right) {
        (true, false) => true,
        (false, true) => false,
        _ => draw.chance(0.5),
    };
    let thought = format!(
        "{} {} {}\n</think>\n\n\\boxed{{Assistant {}}}",
        work(&problem, &mut |_| false).line(),
        check(1, &first, right_value),
        check(2, &second, right_value),
        if verdict_first { 1 } else { 2 },
    );
    JudgePair {
        question,
        answer_first: first.text,
        answer_second: second.text,
        answer: right_value.to_string(),
        first_right,
        second_right,
        verdict_first,
        thought,
    }
}

/// `Assistant 1 says 130: 1-1 same, 3-4 differ, wrong.`
fn check(which: u32, answer: &Answer, right_value: u32) -> String {
    let Some(value) = answer.value else {
        return format!("Assistant {which} says nothing, wrong.");
    };
    let (said, right) = (value.to_string(), right_value.to_string());
    let head = format!("Assistant {which} says {said}:");
    if said.len() != right.len() {
        let size = if said.len() > right.len() { "longer" } else { "shorter" };
        return format!("{head} {size}, wrong.");
    }
    let mut steps = String::new();
    for (x, y) in said.chars().zip(right.chars()) {
        if x != y {
            return format!("{head}{steps} {x}-{y} differ, wrong.");
        }
        steps.push_str(&format!(" {x}-{y} same,"));
    }
    format!("{head}{steps} right.")
}
