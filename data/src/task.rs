//! Settings of the task, and the problems and questions that they allow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::draw::Draw;
use crate::problem::{ArithmeticProblem, Op, Split};
use crate::question::question;

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
    /// Probability that wrong working in a judge pair misleads: it works another problem than the
    /// one asked, or builds on a slip, in [0, 1].
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
    /// All problems of the settings, each named by its key.
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

    /// A question about `problem`.
    pub(crate) fn question(&self, problem: &ArithmeticProblem, draw: &mut Draw) -> String {
        match self.plain {
            true => format!("What is {problem}?"),
            false => question(problem, draw),
        }
    }

    /// Draws problems until one is allowed.
    pub(crate) fn problem(&self, draw: &mut Draw) -> ArithmeticProblem {
        loop {
            let problem = ArithmeticProblem::draw(draw);
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
