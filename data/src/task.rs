//! Settings of the task, and the problems and questions that they allow.

use joust_schema::config::check::validate;
use joust_schema::config::keys::ConfigKeys;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::draw::Draw;
use crate::problem::{ArithmeticProblem, Op, Split};
use crate::question::question;

/// Settings of the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TaskConfig {
    /// Set of problems: the training set or the held-out set.
    pub split: Split,
    /// Number of digits that both numbers of a problem have. Default: any.
    #[schemars(range(min = 1, max = 3))]
    pub digits: Option<u32>,
    /// Operation of the problems. Default: any.
    pub op: Option<Op>,
    /// Whether every question has the wording `What is 12 + 30?`.
    pub plain: bool,
    /// Share of the questions and plain answers of judge pairs that have free wording.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub wild: f64,
    /// Probability that wrong working in a judge pair is misleading: it solves another problem, or
    /// builds on a slip.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub misleading: f64,
    /// Probability that a worked answer forgets a carry or borrow, for each of them.
    #[schemars(range(min = 0.0, max = 1.0))]
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
        validate(self, &ConfigKeys::of::<Self>())
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
