//! Arithmetic problems: an operation on two numbers, and which problems are held out.

use std::ops::RangeInclusive;

use joust_schema::seed::Seed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::draw::Draw;

/// Share of the problems that are held out.
const EVAL_SHARE: f64 = 0.1;

/// Numbers of sums and differences.
const TERMS: RangeInclusive<u32> = 1..=999;
/// First and second number of products.
const FACTORS: [RangeInclusive<u32>; 2] = [2..=99, 2..=9];

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
    pub(crate) const ALL: [Self; 3] = [Self::Add, Self::Sub, Self::Mul];

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

    /// All problems of an operation whose numbers both have `digits` digits.
    pub(crate) fn all(op: Op, digits: u32) -> impl Iterator<Item = Self> {
        let ranges = match op {
            Op::Add | Op::Sub => [TERMS, TERMS],
            Op::Mul => FACTORS,
        };
        let [a, b] = ranges.map(|range| range.filter(move |number| n_digits(*number) == digits));
        let pairs = a.flat_map(move |a| b.clone().map(move |b| (a, b)));
        // a difference is never negative
        pairs.filter(move |(a, b)| op != Op::Sub || a >= b).map(move |(a, b)| Self { op, a, b })
    }

    /// Whether both numbers have so many digits.
    pub(crate) fn has_digits(&self, digits: u32) -> bool {
        n_digits(self.a) == digits && n_digits(self.b) == digits
    }

    /// Draws a problem.
    pub(crate) fn draw(draw: &mut Draw) -> Self {
        let share = draw.unit();
        let number = |draw: &mut Draw| match draw.unit() {
            size if size < 0.08 => draw.between(1, 9),
            size if size < 0.60 => draw.between(10, 99),
            _ => draw.between(100, *TERMS.end()),
        };
        if share < 0.45 {
            Self { op: Op::Add, a: number(draw), b: number(draw) }
        } else if share < 0.75 {
            let (x, y) = (number(draw), number(draw));
            Self { op: Op::Sub, a: x.max(y), b: x.min(y) }
        } else {
            let [a, b] = FACTORS.map(|range| draw.between(*range.start(), *range.end()));
            Self { op: Op::Mul, a, b }
        }
    }
}

fn n_digits(number: u32) -> u32 {
    number.checked_ilog10().map_or(1, |log| log + 1)
}
