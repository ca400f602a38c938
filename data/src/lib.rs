//! A task small enough to learn in minutes: integer arithmetic in words and digits.
//!
//! It makes questions, worked answers (right ones and flawed ones) and a judge's thoughts about two
//! answers, each example a pure function of seed and index. It does not know models or rewards.

#![forbid(unsafe_code)]

mod answer;
mod draw;
mod examples;
mod judge;
mod number;
mod problem;
mod question;
mod task;
mod wild;
mod working;

pub use examples::{WorkedExample, policy_example, question, shot};
pub use judge::{JudgePair, judge_pair};
pub use problem::{ArithmeticProblem, Op, Split};
pub use task::TaskConfig;

#[cfg(test)]
mod tests;
