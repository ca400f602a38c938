//! Numbers and arithmetic in plain text, outside of formulas.
//!
//! It does not know which of them is the answer.

use super::candidate::{Candidate, floor};
use super::same_value::is_same;
use super::{longer, signs};

/// Maximum number of bytes of a number or an expression.
const MAX_BYTES: usize = 256;

/// Signs of money before a number.
const CURRENCIES: &str = "$€£¥₹₽₩";

/// Maximum number of bytes of an expression with another one in brackets behind it, which explains
/// it.
const MAX_EXPLAINED_BYTES: usize = 64;

/// Maximum number of bytes of a sign of money, its backslash included.
const MAX_SIGN_BYTES: usize = 4;

/// The numbers and expressions that start between two places, in the order of their starts, an
/// expression before the numbers in it. Each stands at the start, after white space, an equals sign
/// or an opening bracket or quote: `item-3` has none.
pub(super) fn candidates(text: &str, from: usize, to: usize) -> impl Iterator<Item = Candidate> {
    let first = floor(text, from.saturating_sub(MAX_SIGN_BYTES));
    let places = text[first..].char_indices().map(move |(at, _)| first + at);
    places
        .take_while(move |at| *at <= to)
        .flat_map(move |at| candidates_at(text, at))
        .filter(move |found| (from..=to).contains(&found.start))
}

/// The last candidate of a text: that with the largest end, and of those the longest.
pub(super) fn last(text: &str) -> Option<Candidate> {
    let mut last: Option<Candidate> = None;
    for (at, _) in text.char_indices().rev() {
        let is_out_of_reach = |last: &Candidate| at + MAX_SIGN_BYTES + MAX_BYTES < last.end;
        if last.as_ref().is_some_and(is_out_of_reach) {
            break;
        }
        for found in candidates_at(text, at) {
            let is_later = |last: &Candidate| (found.end, last.start) >= (last.end, found.start);
            if last.as_ref().is_none_or(is_later) {
                last = Some(found);
            }
        }
    }
    last
}

/// The expression and the number at a place, behind its sign of money.
fn candidates_at(text: &str, at: usize) -> impl Iterator<Item = Candidate> + use<> {
    let found = start_at(text, at).map(|start| {
        let window = &text[..floor(text, start + MAX_BYTES)];
        let parts = [expression(window, start), number(window, start)];
        parts.map(|part| part.map(|part| longer::whole(window, part)))
    });
    found.into_iter().flatten().flatten()
}

/// Where a number or an expression may start that stands at a place.
fn start_at(text: &str, at: usize) -> Option<usize> {
    // most bytes of a text are no start: they are told apart without reading characters
    let start = match text.as_bytes().get(at)? {
        b'0'..=b'9' | b'.' | b'-' | b'(' => at,
        b'$' | b'\\' | 0x80.. => at + currency(&text[at..]),
        _ => return None,
    };
    let is_start = text[start..].starts_with(|c: char| {
        c.is_ascii_digit()
            || matches!(c, '.' | '-' | '\u{2212}' | '(')
            || signs::fraction(c).is_some()
    });
    (is_start && may_follow(&text[..at])).then_some(start)
}

/// The expression or the number that starts at a place.
pub(super) fn first_at(text: &str, start: usize) -> Option<Candidate> {
    let window = &text[..floor(text, start + MAX_BYTES)];
    let found = expression(window, start).or_else(|| number(window, start))?;
    Some(longer::whole(window, found))
}

/// Whether a number may start behind this text; bold and slanted type is looked through.
fn may_follow(before: &str) -> bool {
    let style = before.bytes().rev().take(3).take_while(|c| matches!(c, b'*' | b'_')).count();
    let before = &before[..before.len() - style];
    let mut last = before.chars().rev();
    match (last.next(), last.next()) {
        (None, _) => true,
        (Some(':' | '：' | '\'' | '`'), second) => !second.is_some_and(|c| c.is_ascii_digit()),
        (Some('#'), _) => before.ends_with("####"),
        (Some('<' | '>' | '≤' | '≥'), _) => longer::bound(before).is_some(),
        (Some(c), _) => c.is_whitespace() || "=(\"“[≈是为".contains(c),
    }
}

/// Number of bytes of a sign of money at the start.
fn currency(rest: &str) -> usize {
    let escape = usize::from(rest.starts_with("\\$"));
    match rest[escape..].chars().next() {
        Some(c) if CURRENCIES.contains(c) => escape + c.len_utf8(),
        _ => 0,
    }
}

/// A number at `start`: `1,234.56`, `1 234`, `12,5` with a decimal comma, `.5`, `1e3`, `50%`.
fn number(text: &str, start: usize) -> Option<Candidate> {
    let rest = &text[start..];
    let sign = rest.chars().next().filter(|c| matches!(c, '-' | '\u{2212}'));
    let mut at = start + sign.map_or(0, char::len_utf8);
    let digits = digits_at(text, at);
    if let Some(fraction) = text[at..].chars().next().filter(|c| signs::fraction(*c).is_some()) {
        let end = at + fraction.len_utf8();
        return Some(Candidate { start, end, text: text[start..end].to_owned() });
    }
    let mut value = String::from(if sign.is_some() { "-" } else { "" });
    value += &text[at..at + digits];
    at += digits;
    let mut has_groups = false;
    if (1..=3).contains(&digits) && !text[at - digits..].starts_with('0') {
        while let Some(group) = group_at(text, at) {
            value += group;
            at += 1 + group.len();
            has_groups = true;
        }
    }
    let mark = text[at..].chars().next().filter(|c| *c == '.' || (*c == ',' && !has_groups));
    let n_decimals = mark.map_or(0, |_| digits_at(text, at + 1));
    if digits == 0 && (mark != Some('.') || n_decimals == 0) {
        return None;
    }
    if n_decimals > 0 {
        value.push('.');
        value += &text[at + 1..at + 1 + n_decimals];
        at += 1 + n_decimals;
    }
    if let Some(exponent) = exponent_at(text, at) {
        value += &text[at..at + exponent];
        at += exponent;
    }
    let behind = text[at..].trim_start();
    let percent = ["%", "\\%", "percentage", "percent", "Percent", "pct"];
    if let Some(word) = percent.into_iter().find(|word| behind.starts_with(word)) {
        value += "\\%";
        at = text.len() - behind.len() + word.len();
    }
    Some(Candidate { start, end: at, text: value })
}

fn digits_at(text: &str, at: usize) -> usize {
    text.as_bytes()[at.min(text.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Three digits after a comma or a space.
fn group_at(text: &str, at: usize) -> Option<&str> {
    let is_mark = text[at..].starts_with([',', ' ']);
    (is_mark && digits_at(text, at + 1) == 3).then(|| &text[at + 1..at + 4])
}

fn exponent_at(text: &str, at: usize) -> Option<usize> {
    let after = text[at..].strip_prefix(['e', 'E'])?;
    let sign = usize::from(after.starts_with(['+', '-']));
    let digits = digits_at(after, sign);
    let ends = !after[sign + digits..].starts_with(|c: char| c.is_alphanumeric());
    (digits > 0 && ends).then_some(1 + sign + digits)
}

/// Arithmetic at `start`: digits with at least one operator, up to the end of a sentence.
fn expression(text: &str, start: usize) -> Option<Candidate> {
    let rest = &text[start..];
    let is_operator =
        |c: char| matches!(c, '+' | '-' | '\u{2212}' | '*' | '×' | '/' | '^' | '÷' | '(' | ')');
    let first = rest.trim_start_matches(['-', '\u{2212}', '(']).chars().next()?;
    if !first.is_ascii_digit() {
        return None;
    }
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | ' ' | ',') || is_operator(c);
    let mut end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    // what follows a space and a letter is a word, what follows a letter at once is none
    if rest[end..].starts_with(char::is_alphanumeric) && !rest[..end].ends_with(' ') {
        return None;
    }
    let trimmed = rest[..end].trim_end_matches([' ', '.', ',', '+', '-', '*', '/', '^', '(']);
    let trimmed = unexplained(trimmed);
    end = trimmed.len();
    let is_balanced = trimmed.matches('(').count() == trimmed.matches(')').count();
    let has_operator = trimmed.chars().skip(1).any(is_operator);
    let is_point = trimmed.starts_with('(') && trimmed.ends_with(')') && trimmed.contains(',');
    let has_list = trimmed.contains(',') && !is_point;
    let is_expression = is_balanced && has_operator && !has_list;
    is_expression.then(|| Candidate { start, end: start + end, text: trimmed.to_owned() })
}

/// The expression before another one in brackets that gives its value once more: no product is
/// meant by `42 (6*7)`.
fn unexplained(text: &str) -> &str {
    let explained = text.split_once(" (").filter(|(before, behind)| {
        let inner = behind.strip_suffix(')').unwrap_or_default();
        text.len() <= MAX_EXPLAINED_BYTES
            && !before.contains('(')
            && !inner.is_empty()
            && !inner.contains('(')
            && is_same(before, inner)
    });
    explained.map_or(text, |(before, _)| before.trim_end())
}
