//! A task small enough to learn in minutes: integer arithmetic in words and digits.
//!
//! It makes questions, worked answers (right ones and flawed ones) and a judge's thoughts about two
//! answers, each example a pure function of seed and index. It knows nothing of models or rewards.

#![forbid(unsafe_code)]

mod answer;
mod draw;
mod judge;
mod number;
mod problem;
mod question;
mod wild;
mod working;

use joust_schema::seed::Seed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use judge::{JudgePair, judge_pair};
pub use problem::{Op, Problem, Split};

/// Settings of the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TaskConfig {
    /// Which problems are drawn: those for training or those held out.
    pub split: Split,
    /// Only problems whose numbers both have this many digits, 1 to 3; any number if left out.
    pub digits: Option<u32>,
    /// Only problems with this operation; any if left out.
    pub op: Option<Op>,
    /// Asks every question in the words `What is 12 + 30?`.
    pub plain: bool,
    /// Share of a judge pair's questions and plain answers that are worded freely, in [0, 1].
    pub wild: f64,
    /// Probability that wrong working in a judge pair misleads: it works another problem than the one
    /// asked, or builds on a slip, in [0, 1].
    pub misleading: f64,
    /// Probability with which a worked answer forgets each carry or borrow, in [0, 1].
    pub carry_forgotten: f64,
}

impl Default for TaskConfig {
    fn default() -> Self {
        Self {
            split: Split::Train,
            digits: None,
            op: None,
            plain: false,
            wild: 0.0,
            misleading: 0.0,
            carry_forgotten: 0.7,
        }
    }
}

impl TaskConfig {
    /// All that is wrong, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, share) in [
            ("carry_forgotten", self.carry_forgotten),
            ("wild", self.wild),
            ("misleading", self.misleading),
        ] {
            if !(0.0..=1.0).contains(&share) {
                problems.push(format!("{key} is {share}, wanted 0 to 1"));
            }
        }
        if let Some(digits) = self.digits.filter(|digits| !(1..=3).contains(digits)) {
            problems.push(format!("digits is {digits}, wanted 1 to 3"));
        }
        problems
    }

    fn question(&self, problem: &Problem, draw: &mut draw::Draw) -> String {
        match self.plain {
            true => format!("What is {problem}?"),
            false => question::question(problem, draw),
        }
    }

    /// Draws problems until one is wanted.
    fn problem(&self, draw: &mut draw::Draw) -> Problem {
        loop {
            let problem = Problem::draw(draw);
            let has_digits = |digits: u32| {
                let n_digits = |number: u32| number.checked_ilog10().map_or(1, |log| log + 1);
                n_digits(problem.a) == digits && n_digits(problem.b) == digits
            };
            let has_op = self.op.is_none_or(|op| op == problem.op);
            if has_op && problem.split() == self.split && self.digits.is_none_or(has_digits) {
                return problem;
            }
        }
    }
}

/// A question with a worked answer to learn from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The question.
    pub prompt: String,
    /// The worked answer, perhaps wrong.
    pub completion: String,
    /// The right number.
    pub answer: String,
}

/// Example `idx` of the stream that `seed` keys: a question, worked with forgotten carries.
pub fn policy_example(config: &TaskConfig, seed: Seed, idx: u64) -> Example {
    let mut draw = draw::Draw::new(seed.child("policy_example", idx));
    let problem = config.problem(&mut draw);
    let prompt = config.question(&problem, &mut draw);
    let work = working::work(&problem, &mut |_| draw.chance(config.carry_forgotten));
    Example { prompt, completion: work.answer(), answer: problem.answer().to_string() }
}

/// Question `idx` of the stream that `seed` keys, with its right number.
pub fn question(config: &TaskConfig, seed: Seed, idx: u64) -> (String, String) {
    let mut draw = draw::Draw::new(seed.child("question", idx));
    let problem = config.problem(&mut draw);
    (config.question(&problem, &mut draw), problem.answer().to_string())
}

/// Shot `idx` for prompts that show by example how to answer: a question of training problems and
/// the answer `12 + 30 = 42`.
pub fn shot(config: &TaskConfig, seed: Seed, idx: u64) -> (String, String) {
    let mut draw = draw::Draw::new(seed.child("shot", idx));
    let problem = TaskConfig { split: Split::Train, ..config.clone() }.problem(&mut draw);
    let question = config.question(&problem, &mut draw);
    (question, format!("{problem} = {}", problem.answer()))
}

#[cfg(test)]
mod tests;
