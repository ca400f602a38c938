//! Sets of real numbers as disjoint spans, to compare unions with each other.

use super::answer::MathAnswer;
use super::expression::Expr;
use super::token::Relation;

/// An end of a span: infinite ends are open.
#[derive(Clone, Copy, Debug, PartialEq)]
struct End {
    at: f64,
    is_open: bool,
}

/// Spans in ascending order that do not touch. Ends are floats: two sets are the same if their
/// ends are equal up to the error of computing them.
#[derive(Clone, Debug)]
pub(super) struct Spans(Vec<(End, End)>);

const ALL: (End, End) =
    (End { at: f64::NEG_INFINITY, is_open: true }, End { at: f64::INFINITY, is_open: true });

impl Spans {
    /// The numbers of a set; `None` if it holds anything else.
    pub(super) fn of(set: &MathAnswer) -> Option<Self> {
        match set {
            MathAnswer::Reals => Some(Self(vec![ALL])),
            MathAnswer::Interval(interval) => {
                let start = End { at: interval.start.float()?, is_open: interval.start_open };
                let end = End { at: interval.end.float()?, is_open: interval.end_open };
                let open = |end: End| End { is_open: end.is_open || end.at.is_infinite(), ..end };
                Some(Self(vec![(open(start), open(end))]))
            }
            MathAnswer::Set(elements) => {
                let point = |element: &MathAnswer| {
                    let at = element.value().and_then(Expr::float)?;
                    let end = End { at, is_open: false };
                    Some((end, end))
                };
                Some(Self::merged(elements.iter().map(point).collect::<Option<_>>()?))
            }
            MathAnswer::Union(sets) => {
                let spans: Option<Vec<Self>> = sets.iter().map(Self::of).collect();
                Some(Self::merged(spans?.into_iter().flat_map(|spans| spans.0).collect()))
            }
            MathAnswer::Relation(sides, relations) => of_relation(sides, relations),
            MathAnswer::Intersection(a, b) => {
                let (a, b) = (Self::of(a)?, Self::of(b)?);
                Some(a.complement().union(b.complement()).complement())
            }
            MathAnswer::Difference(a, b) => {
                let (a, b) = (Self::of(a)?, Self::of(b)?);
                Some(a.complement().union(b).complement())
            }
            _ => None,
        }
    }

    fn union(self, other: Self) -> Self {
        Self::merged(self.0.into_iter().chain(other.0).collect())
    }

    fn merged(mut spans: Vec<(End, End)>) -> Self {
        spans.sort_by(|(a, _), (b, _)| a.at.total_cmp(&b.at).then(a.is_open.cmp(&b.is_open)));
        let mut merged: Vec<(End, End)> = Vec::new();
        for (start, end) in spans {
            match merged.last_mut() {
                Some((_, last)) if touches(*last, start) => {
                    if end.at > last.at || (end.at == last.at && !end.is_open) {
                        *last = end;
                    }
                }
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    fn complement(&self) -> Self {
        let mut start = ALL.0;
        let mut gaps = Vec::new();
        for (from, to) in &self.0 {
            let end = End { at: from.at, is_open: !from.is_open };
            let is_gap =
                start.at < end.at || (start.at == end.at && !start.is_open && !end.is_open);
            if is_gap && end.at != f64::NEG_INFINITY {
                gaps.push((start, end));
            }
            start = End { at: to.at, is_open: !to.is_open };
        }
        if start.at != f64::INFINITY {
            gaps.push((start, ALL.1));
        }
        Self(gaps)
    }

    /// Whether both hold the same numbers.
    pub(super) fn same(&self, other: &Self) -> bool {
        let near = |a: End, b: End| {
            let size = a.at.abs().max(b.at.abs());
            let is_near = size.is_finite() && (a.at - b.at).abs() <= 1e-12 * size;
            (a.at == b.at || is_near) && a.is_open == b.is_open
        };
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(a, b)| near(a.0, b.0) && near(a.1, b.1))
    }
}

/// Whether a span that starts at `start` continues one that ends at `end`.
fn touches(end: End, start: End) -> bool {
    start.at < end.at || (start.at == end.at && !(start.is_open && end.is_open))
}

/// The numbers for which inequalities between one symbol and constants hold.
pub(super) fn of_relation(sides: &[MathAnswer], relations: &[Relation]) -> Option<Spans> {
    let mut spans = Spans(vec![ALL]);
    for (pair, relation) in sides.windows(2).zip(relations) {
        let (a, b) = (pair[0].value()?, pair[1].value()?);
        let (at, relation) = match (a, b) {
            (Expr::Symbol(_), constant) => (constant.float()?, *relation),
            (constant, Expr::Symbol(_)) => (constant.float()?, relation.mirrored()),
            _ => return None,
        };
        let (closed, open) = (End { at, is_open: false }, End { at, is_open: true });
        let allowed = match relation {
            Relation::Less => Spans(vec![(ALL.0, open)]),
            Relation::LessEqual => Spans(vec![(ALL.0, closed)]),
            Relation::Greater => Spans(vec![(open, ALL.1)]),
            Relation::GreaterEqual => Spans(vec![(closed, ALL.1)]),
            Relation::NotEqual => Spans(vec![(ALL.0, open), (open, ALL.1)]),
            Relation::Equal | Relation::In | Relation::Approximately => return None,
        };
        spans = spans.complement().union(allowed.complement()).complement();
    }
    Some(spans)
}
