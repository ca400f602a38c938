//! When an answer equals the known one.
//!
//! The known answer decides how an answer is read: `x = 5` equals 5, and 5 equals `x = 5`, but
//! `y = 5` does not equal `x = 5`. It does not know how answers are written.

use super::answer::{Interval, MathAnswer};
use super::complex;
use super::expression::{Expr, same_value};
use super::spans::{Spans, of_relation};
use super::token::Relation;

/// Whether two texts name the same things; one may say more of them: `ways`, `different ways`.
fn is_same_thing(a: &str, b: &str) -> bool {
    let has_all = |all: &str, some: &str| {
        some.split(' ').all(|word| all.split(' ').any(|other| other == word))
    };
    has_all(a, b) || has_all(b, a)
}

/// Whether `answer` equals the known answer `gold`; `None` if that cannot be told.
pub(super) fn same(gold: &MathAnswer, answer: &MathAnswer) -> Option<bool> {
    let mut gold = shortened(gold);
    let mut answer = shortened(answer);
    if answer.is_equation() && !gold.is_equation() {
        answer = last_side(answer);
    } else if gold.is_assignment() && !answer.is_equation() {
        gold = last_side(gold);
    }
    if gold == answer {
        return Some(true);
    }
    let is_union = |answer: &MathAnswer| matches!(answer, MathAnswer::Union(_));
    if (is_union(&gold) || is_union(&answer))
        && let (Some(a), Some(b)) = (gold.bound_symbol(), answer.bound_symbol())
        && a != b
    {
        return Some(false);
    }
    // what is counted matters where both say it
    if let (MathAnswer::Quantity(_, a), MathAnswer::Quantity(_, b)) = (&gold, &answer)
        && !is_same_thing(a, b)
    {
        return Some(false);
    }
    let (gold, answer) = (without_counted(gold), without_counted(answer));
    match (&gold, &answer) {
        (MathAnswer::Relation(..), MathAnswer::Relation(..)) => same_relations(&gold, &answer),
        (MathAnswer::Relation(sides, relations), other)
        | (other, MathAnswer::Relation(sides, relations))
            if other.is_collection() =>
        {
            let spans = of_relation(sides, relations)?;
            Some(spans.same(&Spans::of(other)?))
        }
        (MathAnswer::Word(a), MathAnswer::Word(b)) => a.same(b),
        (MathAnswer::Word(word), MathAnswer::Value(value))
        | (MathAnswer::Value(value), MathAnswer::Word(word)) => word.same_as(value),
        (MathAnswer::Value(a), MathAnswer::Value(b)) if complex::same(a, b) => Some(true),
        (MathAnswer::Value(a), MathAnswer::Value(b)) => same_value(a, b),
        (MathAnswer::Matrix(a), MathAnswer::Matrix(b)) => same_matrices(a, b),
        (a, b) if a.is_collection() || b.is_collection() => same_collections(a, b),
        _ => Some(false),
    }
}

/// An assignment over several steps, `x = 2 + 3 = 5`, without the steps between.
fn shortened(answer: &MathAnswer) -> MathAnswer {
    match answer {
        MathAnswer::Relation(sides, _) if sides.len() > 2 && answer.is_assignment() => {
            let ends = vec![sides[0].clone(), sides[sides.len() - 1].clone()];
            MathAnswer::Relation(ends, vec![Relation::Equal])
        }
        other => other.clone(),
    }
}

fn last_side(answer: MathAnswer) -> MathAnswer {
    match answer {
        MathAnswer::Relation(mut sides, _) if !sides.is_empty() => sides.remove(sides.len() - 1),
        other => other,
    }
}

fn without_counted(answer: MathAnswer) -> MathAnswer {
    match answer {
        MathAnswer::Quantity(value, _) => MathAnswer::Value(value),
        other => other,
    }
}

/// Quantities that a list gives their values, `x = 1, y = 2`, without their names: a point.
fn assigned(list: &[MathAnswer]) -> Option<Vec<MathAnswer>> {
    let mut names = Vec::new();
    for element in list {
        match element {
            MathAnswer::Relation(sides, _) if sides.len() == 2 && element.is_assignment() => {
                names.push(sides[0].value()?);
            }
            _ => return None,
        }
    }
    let is_new = |idx: usize| !names[..idx].contains(&names[idx]);
    (names.len() > 1 && (1..names.len()).all(is_new))
        .then(|| list.iter().cloned().map(last_side).collect())
}

/// All of several comparisons: false if one is false, else unknown if one is.
fn all(comparisons: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut result = Some(true);
    for comparison in comparisons {
        match comparison {
            Some(false) => return Some(false),
            Some(true) => {}
            None => result = None,
        }
    }
    result
}

fn same_matrices(a: &[Vec<Expr>], b: &[Vec<Expr>]) -> Option<bool> {
    let has_same_shape = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.len() == b.len());
    match has_same_shape {
        true => all(a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| same_value(a, b))),
        false => Some(false),
    }
}

fn same_intervals(a: &Interval, b: &Interval) -> Option<bool> {
    if (a.start_open, a.end_open) != (b.start_open, b.end_open) {
        return Some(false);
    }
    all([(&a.start, &b.start), (&a.end, &b.end)].into_iter().map(|(a, b)| same_value(a, b)))
}

fn same_collections(gold: &MathAnswer, answer: &MathAnswer) -> Option<bool> {
    match (gold, answer) {
        (MathAnswer::Interval(a), MathAnswer::Interval(b)) => return same_intervals(a, b),
        (MathAnswer::NamedSet(a), MathAnswer::NamedSet(b)) => return Some(a == b),
        // a value is the set that holds it
        (
            MathAnswer::Value(_) | MathAnswer::Word(_) | MathAnswer::Relation(..),
            MathAnswer::Set(elements),
        ) => {
            return same_sets(std::slice::from_ref(gold), elements);
        }
        (
            MathAnswer::Set(elements),
            MathAnswer::Value(_) | MathAnswer::Word(_) | MathAnswer::Relation(..),
        ) => {
            return same_sets(elements, std::slice::from_ref(answer));
        }
        _ => {}
    }
    let is_plain = |answer: &MathAnswer| {
        matches!(answer, MathAnswer::Set(_) | MathAnswer::Tuple(_) | MathAnswer::Interval(_))
    };
    if is_plain(gold) && is_plain(answer) {
        let (Some(golds), Some(answers)) = (gold.elements(), answer.elements()) else {
            return Some(false);
        };
        if let Some(golds) = assigned(&golds)
            && !answers.iter().any(MathAnswer::is_equation)
        {
            let is_same = golds.iter().zip(&answers).map(|(gold, answer)| same(gold, answer));
            return if golds.len() == answers.len() { all(is_same) } else { Some(false) };
        }
        return match gold {
            // a set is compared with a point as a set, a point with a set in order
            MathAnswer::Set(_) => same_sets(&golds, &answers),
            _ if golds.len() != answers.len() => Some(false),
            _ => all(golds.iter().zip(&answers).map(|(gold, answer)| same(gold, answer))),
        };
    }
    if !gold.is_collection() || !answer.is_collection() {
        return Some(false);
    }
    // inequalities may be listed by commas
    if let (MathAnswer::Union(parts), MathAnswer::Set(list))
    | (MathAnswer::Set(list), MathAnswer::Union(parts)) = (gold, answer)
        && list.iter().chain(parts).all(MathAnswer::is_bound)
    {
        return same_sets(parts, list);
    }
    Some(Spans::of(gold)?.same(&Spans::of(answer)?))
}

/// Whether each element of one set is in the other.
fn same_sets(golds: &[MathAnswer], answers: &[MathAnswer]) -> Option<bool> {
    let (golds, answers) = (distinct(golds), distinct(answers));
    if golds.len() != answers.len() {
        return Some(false);
    }
    let mut is_unknown = false;
    let mut left = answers;
    for gold in golds {
        let mut found = None;
        for (idx, answer) in left.iter().enumerate() {
            match same(gold, answer) {
                Some(true) => found = Some(idx),
                Some(false) => continue,
                None => is_unknown = true,
            }
            if found.is_some() {
                break;
            }
        }
        match found {
            Some(idx) => {
                left.remove(idx);
            }
            None => return if is_unknown { None } else { Some(false) },
        }
    }
    Some(true)
}

fn distinct(elements: &[MathAnswer]) -> Vec<&MathAnswer> {
    let mut distinct: Vec<&MathAnswer> = Vec::new();
    for element in elements {
        if !distinct.iter().any(|known| same(known, element) == Some(true)) {
            distinct.push(element);
        }
    }
    distinct
}

fn same_relations(gold: &MathAnswer, answer: &MathAnswer) -> Option<bool> {
    let (MathAnswer::Relation(golds, gold_relations), MathAnswer::Relation(sides, relations)) =
        (gold, answer)
    else {
        return Some(false);
    };
    if golds.len() != sides.len() {
        return Some(false);
    }
    if golds.len() > 2 {
        let mirrored: Vec<Relation> = relations.iter().rev().map(|r| r.mirrored()).collect();
        if gold_relations == relations {
            return all(golds.iter().zip(sides).map(|(gold, side)| same(gold, side)));
        }
        // 0 < a < 1 from right to left
        return match *gold_relations == mirrored {
            true => all(golds.iter().zip(sides.iter().rev()).map(|(gold, side)| same(gold, side))),
            false => Some(false),
        };
    }
    let difference = |a: &MathAnswer, b: &MathAnswer| match (a, b) {
        (MathAnswer::Value(a), MathAnswer::Value(b)) => {
            Some(Expr::Add(a.clone().into(), Expr::Neg(b.clone().into()).into()))
        }
        _ => None,
    };
    let (gold_relation, relation) = (gold_relations[0], relations[0]);
    let (Some(gold_side), Some(side)) =
        (difference(&golds[0], &golds[1]), difference(&sides[0], &sides[1]))
    else {
        // sets, points and words: side by side
        if gold_relation != relation {
            return Some(false);
        }
        return all(golds.iter().zip(sides).map(|(gold, side)| same(gold, side)));
    };
    let flipped_side = Expr::Neg(side.clone().into());
    let mut results = Vec::new();
    if gold_relation == relation {
        results.push(same_value(&gold_side, &side));
    }
    if gold_relation.mirrored() == relation {
        results.push(same_value(&gold_side, &flipped_side));
    }
    // an equation between several quantities may be multiplied by a number
    if gold_relation == Relation::Equal && relation == gold_relation {
        results.push(Some(is_multiple(&gold_side, &side)));
    }
    if results.contains(&Some(true)) {
        return Some(true);
    }
    if results.contains(&None) { None } else { Some(false) }
}

/// Whether an expression of at least two symbols is a constant multiple of another.
fn is_multiple(a: &Expr, b: &Expr) -> bool {
    if !a.has_several_symbols() {
        return false;
    }
    let ratio = Expr::Div(a.clone().into(), b.clone().into());
    ratio.is_constant_function()
}
