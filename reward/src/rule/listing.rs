//! Several numbers in plain text as one answer: `5, 6 or 7`.
//!
//! It does not know how numbers are written, nor which of them is the answer.

use super::candidate::{Candidate, floor};
use super::{clause, plain, signs};

/// Maximum number of bytes between two numbers of a list.
const MAX_SEPARATOR_BYTES: usize = 32;

/// The candidate with those that follow it behind commas, "and", "or" and other words of guesses: a
/// list of guesses is no answer that is one number. Arithmetic that gives the candidate once more
/// is no guess.
pub(super) fn joined(text: &str, first: Candidate) -> Candidate {
    let mut list = first.clone();
    while let Some(start) = next_start(text, list.end) {
        if let Some(end) = clause::restated(text, start, &first.text) {
            list.end = end;
            continue;
        }
        let Some(next) = plain::first_at(text, start) else { break };
        list.text.push_str(" ; ");
        list.text.push_str(&next.text);
        list.end = next.end;
    }
    list
}

/// Where the next element of a list starts, behind its separator.
fn next_start(text: &str, end: usize) -> Option<usize> {
    let window = &text[end..floor(text, end + MAX_SEPARATOR_BYTES)];
    let is_digit = |c: char| c.is_ascii_digit() || signs::fraction(c).is_some();
    // a sign or a point belongs to the digit behind it
    let starts_number = |at: usize| {
        let rest = &window[at..];
        rest.trim_start_matches(['-', '\u{2212}']).trim_start_matches('.').starts_with(is_digit)
    };
    let number = window.char_indices().map(|(at, _)| at).find(|&at| starts_number(at))?;
    is_separator(&window[..number]).then_some(end + number)
}

/// Whether what stands between two numbers makes them a list: a comma, a semicolon, or nothing but
/// words that offer another guess.
fn is_separator(between: &str) -> bool {
    let lower = between.to_ascii_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    let is_mark = |c: char| c.is_alphabetic() || c.is_whitespace() || ",;.!?:()*_-–—…".contains(c);
    let has_space = between.contains(char::is_whitespace);
    // of the next sentence only some: `The answer is 42. And 7 is prime.`
    let is_part: fn(&str) -> bool = match between.contains(['.', '!', '?']) {
        true => clause::is_offer,
        false => clause::is_link,
    };
    match words.next() {
        None => has_space && matches!(between.trim(), "," | ";" | "?" | "?," | "??"),
        Some(first) => {
            let are_offers = is_part(first) && words.all(is_part);
            has_space && are_offers && between.chars().all(is_mark)
        }
    }
}
