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
    /// Number of digits that both numbers of a problem have; products have only problems of one
    /// digit. Default: any.
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
        let mut problems = validate(self, &ConfigKeys::of::<Self>());
        problems.extend(self.contradictions());
        problems
    }

    /// Problems between keys, each named by its key: settings that no problem meets.
    pub fn contradictions(&self) -> Vec<String> {
        // other numbers are out of the bounds of the key
        let Some(digits) = self.digits.filter(|digits| (1..=3).contains(digits)) else {
            return Vec::new();
        };
        let ops = self.op.map_or(Op::ALL.to_vec(), |op| vec![op]);
        let mut all = ops.into_iter().flat_map(|op| ArithmeticProblem::all(op, digits));
        match all.any(|problem| problem.split() == self.split) {
            true => Vec::new(),
            false => vec![format!(
                "digits is {digits}, and no problem of these settings (op, split) has two numbers \
                 of so many digits; products have numbers of at most two digits and one digit"
            )],
        }
    }

    /// A question about `problem`.
    pub(crate) fn question(&self, problem: &ArithmeticProblem, draw: &mut Draw) -> String {
        match self.plain {
            true => format!("What is {problem}?"),
            false => question(problem, draw),
        }
    }

    /// Draws problems until one is allowed. Settings that [`TaskConfig::validate`] refuses may
    /// allow none.
    pub(crate) fn problem(&self, draw: &mut Draw) -> ArithmeticProblem {
        loop {
            let problem = ArithmeticProblem::draw(draw);
            let has_op = self.op.is_none_or(|op| op == problem.op);
            let has_digits = self.digits.is_none_or(|digits| problem.has_digits(digits));
            if has_op && has_digits && problem.split() == self.split {
                return problem;
            }
        }
    }
}
