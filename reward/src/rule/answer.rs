//! What an answer can be: a value, a set, a point, an interval, a relation, a matrix, a word.
//!
//! It does not know how answers are written or compared.

use super::expression::Expr;
use super::token::Relation;

/// An answer that was understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum MathAnswer {
    Value(Expr),
    /// Values without order: `1, 2` and `\{1, 2\}`. They keep the order in which they are written.
    Set(Vec<MathAnswer>),
    /// Values in order: `(1, 2, 3)`.
    Tuple(Vec<MathAnswer>),
    /// An interval. `(1, 2)` is read as one, and stands for a point too.
    Interval(Box<Interval>),
    Union(Vec<MathAnswer>),
    Intersection(Box<MathAnswer>, Box<MathAnswer>),
    Difference(Box<MathAnswer>, Box<MathAnswer>),
    Reals,
    /// A set of numbers that only has a name: `\mathbb{Z}`.
    NamedSet(String),
    /// `a < b <= c`: the sides, and the relations between them.
    Relation(Vec<MathAnswer>, Vec<Relation>),
    Matrix(Vec<Vec<Expr>>),
    /// Letters that are no expression, in lower case.
    Word(String),
}

/// An interval of numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Interval {
    pub(super) start: Expr,
    pub(super) end: Expr,
    pub(super) start_open: bool,
    pub(super) end_open: bool,
}

impl MathAnswer {
    pub(super) fn value(&self) -> Option<&Expr> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }

    /// The elements, of a set or a point. `(1, 2)` has two.
    pub(super) fn elements(&self) -> Option<Vec<MathAnswer>> {
        match self {
            Self::Set(elements) | Self::Tuple(elements) => Some(elements.clone()),
            Self::Interval(interval) if interval.start_open && interval.end_open => {
                let ends = [&interval.start, &interval.end];
                Some(ends.map(|end| Self::Value(end.clone())).to_vec())
            }
            _ => None,
        }
    }

    /// Whether it is a set of numbers or a point.
    pub(super) fn is_collection(&self) -> bool {
        match self {
            Self::Value(_) | Self::Relation(..) | Self::Matrix(_) | Self::Word(_) => false,
            Self::Set(_) | Self::Tuple(_) | Self::Interval(_) | Self::Union(_) => true,
            Self::Intersection(..) | Self::Difference(..) | Self::Reals | Self::NamedSet(_) => true,
        }
    }

    /// Whether all its relations are equations.
    pub(super) fn is_equation(&self) -> bool {
        matches!(self, Self::Relation(_, relations)
            if relations.iter().all(|r| matches!(r, Relation::Equal | Relation::In)))
    }

    /// Whether it gives a quantity its value: `x = 5`.
    pub(super) fn is_assignment(&self) -> bool {
        let Self::Relation(sides, _) = self else { return false };
        self.is_equation()
            && match &sides[0] {
                Self::Value(value) => value.is_only_symbols(),
                Self::Word(_) => true,
                // (x, y) = (1, 2)
                other => other.elements().is_some_and(|elements| {
                    elements.iter().all(|e| e.value().is_some_and(Expr::is_only_symbols))
                }),
            }
    }
}
