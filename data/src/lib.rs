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
    /// Probability with which a worked answer forgets each carry or borrow, in [0, 1].
    pub carry_forgotten: f64,
}

impl Default for TaskConfig {
    fn default() -> Self {
        Self { split: Split::Train, carry_forgotten: 0.5 }
    }
}

impl TaskConfig {
    /// All that is wrong, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        if (0.0..=1.0).contains(&self.carry_forgotten) {
            return Vec::new();
        }
        vec![format!("carry_forgotten is {}, wanted 0 to 1", self.carry_forgotten)]
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
    let problem = Problem::draw(&mut draw, config.split);
    let prompt = question::question(&problem, &mut draw);
    let work = working::work(&problem, &mut |_| draw.chance(config.carry_forgotten));
    Example { prompt, completion: work.answer(), answer: problem.answer().to_string() }
}

/// Question `idx` of the stream that `seed` keys, with its right number.
pub fn question(config: &TaskConfig, seed: Seed, idx: u64) -> (String, String) {
    let mut draw = draw::Draw::new(seed.child("question", idx));
    let problem = Problem::draw(&mut draw, config.split);
    (question::question(&problem, &mut draw), problem.answer().to_string())
}

#[cfg(test)]
mod tests;
