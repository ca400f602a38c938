//! What an answer can be: a value, a set, a point, an interval, a relation, a matrix, a word.
//!
//! It does not know how answers are written or compared.

use super::expression::{Expr, same_value};
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
    /// Sets of numbers, or inequalities of one symbol: `x < -2 or x > 2`.
    Union(Vec<MathAnswer>),
    Intersection(Box<MathAnswer>, Box<MathAnswer>),
    Difference(Box<MathAnswer>, Box<MathAnswer>),
    Reals,
    /// A set of numbers that only has a name: `\mathbb{Z}`.
    NamedSet(String),
    /// `a < b <= c`: the sides, and the relations between them.
    Relation(Vec<MathAnswer>, Vec<Relation>),
    Matrix(Vec<Vec<Expr>>),
    /// A number of things that are no unit: `3 red balls`. What is counted is in lower case.
    Quantity(Expr, String),
    Word(WordAnswer),
}

/// Letters that may be a word as well as a product or a difference of symbols.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WordAnswer {
    /// In lower case.
    pub(super) text: String,
    /// What the letters are as symbols: of `a-b` the difference. `None` of a text such as a date.
    pub(super) expression: Option<Expr>,
}

impl WordAnswer {
    /// Whether the letters are rather symbols: two of them, or single letters with spaces and
    /// signs between.
    fn is_symbols(&self) -> bool {
        // both are words, though their letters are the same
        const WORDS: [&str; 2] = ["no", "on"];
        let mut parts = self.text.split([' ', '-']).filter(|part| !part.is_empty());
        let are_joined = !self.text.contains(' ');
        !WORDS.contains(&self.text.as_str())
            && parts.clone().all(|part| part.chars().count() <= 2)
            && (are_joined || parts.any(|part| part.chars().count() == 1))
    }

    /// Whether two are the same; those that are rather symbols are compared as expressions.
    pub(super) fn same(&self, other: &Self) -> Option<bool> {
        match (&self.expression, &other.expression) {
            _ if self.text == other.text => Some(true),
            (Some(a), Some(b)) if self.is_symbols() || other.is_symbols() => same_value(a, b),
            _ => Some(false),
        }
    }

    /// Whether the letters are this expression.
    pub(super) fn same_as(&self, value: &Expr) -> Option<bool> {
        match (value, &self.expression) {
            (Expr::Symbol(name), _) if *name == self.text => Some(true),
            (_, Some(expression)) => same_value(expression, value),
            (_, None) => Some(false),
        }
    }
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
            Self::Value(value) | Self::Quantity(value, _) => Some(value),
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
            Self::Value(_) | Self::Quantity(..) | Self::Word(_) => false,
            Self::Relation(..) | Self::Matrix(_) => false,
            Self::Set(_) | Self::Tuple(_) | Self::Interval(_) | Self::Union(_) => true,
            Self::Intersection(..) | Self::Difference(..) | Self::Reals | Self::NamedSet(_) => true,
        }
    }

    /// Whether all its relations are equations.
    pub(super) fn is_equation(&self) -> bool {
        matches!(self, Self::Relation(_, relations)
            if relations.iter().all(|r| matches!(r, Relation::Equal | Relation::In)))
    }

    /// Whether it is an inequality, or several, between numbers and one symbol.
    pub(super) fn is_bound(&self) -> bool {
        let Self::Relation(sides, relations) = self else { return false };
        let is_side = |side: &MathAnswer| {
            let value = side.value();
            value.is_some_and(|value| matches!(value, Expr::Symbol(_)) || value.float().is_some())
        };
        let is_inequality =
            |relation: &Relation| !matches!(relation, Relation::Equal | Relation::In);
        self.bound_symbol().is_some()
            && sides.iter().all(is_side)
            && relations.iter().all(is_inequality)
    }

    /// The one symbol that inequalities, or a union of them, bound.
    pub(super) fn bound_symbol(&self) -> Option<&str> {
        match self {
            Self::Relation(sides, _) => {
                let mut names = sides.iter().filter_map(|side| match side.value() {
                    Some(Expr::Symbol(name)) => Some(name.as_str()),
                    _ => None,
                });
                let first = names.next()?;
                names.all(|name| name == first).then_some(first)
            }
            Self::Union(parts) => parts.first()?.bound_symbol(),
            _ => None,
        }
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
