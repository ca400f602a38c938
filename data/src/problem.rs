//! Arithmetic problems: an operation on two numbers, and which problems are held out.

use joust_schema::seed::Seed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::draw::Draw;

/// Share of the problems that are held out.
const EVAL_SHARE: f64 = 0.1;

/// Set of problems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Problems for training.
    #[default]
    Train,
    /// Held-out problems, which never occur in training, whatever their wording.
    Eval,
}

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Sum of two numbers of up to three digits.
    Add,
    /// Difference, never negative, of two numbers of up to three digits.
    Sub,
    /// Product of a number of up to two digits and a digit.
    Mul,
}

impl Op {
    pub(crate) fn symbol(self) -> char {
        match self {
            Self::Add => '+',
            Self::Sub => '-',
            Self::Mul => '*',
        }
    }
}

/// One problem: `a op b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArithmeticProblem {
    /// The operation.
    pub op: Op,
    /// First operand.
    pub a: u32,
    /// Second operand.
    pub b: u32,
}

impl std::fmt::Display for ArithmeticProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.a, self.op.symbol(), self.b)
    }
}

impl ArithmeticProblem {
    /// The right number.
    pub fn answer(&self) -> u32 {
        match self.op {
            Op::Add => self.a + self.b,
            Op::Sub => self.a - self.b,
            Op::Mul => self.a * self.b,
        }
    }

    /// The split that it belongs to, by its numbers alone: in either order, but for differences.
    pub fn split(&self) -> Split {
        let (low, high) = match self.op {
            Op::Sub => (self.a, self.b),
            _ => (self.a.min(self.b), self.a.max(self.b)),
        };
        let key = format!("{low}{}{high}", self.op.symbol());
        match Seed::new(0).child_str("arithmetic split", &key).unit() < EVAL_SHARE {
            true => Split::Eval,
            false => Split::Train,
        }
    }

    /// Draws a problem.
    pub(crate) fn draw(draw: &mut Draw) -> Self {
        let share = draw.unit();
        let number = |draw: &mut Draw| match draw.unit() {
            size if size < 0.08 => draw.between(1, 9),
            size if size < 0.60 => draw.between(10, 99),
            _ => draw.between(100, 999),
        };
        if share < 0.45 {
            Self { op: Op::Add, a: number(draw), b: number(draw) }
        } else if share < 0.75 {
            let (x, y) = (number(draw), number(draw));
            Self { op: Op::Sub, a: x.max(y), b: x.min(y) }
        } else {
            Self { op: Op::Mul, a: draw.between(2, 99), b: draw.between(2, 9) }
        }
    }
}
