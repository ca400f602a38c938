//! Several numbers in plain text as one answer: `5, 6 or 7`.
//!
//! It does not know how numbers are written, nor which of them is the answer.

use super::candidate::{Candidate, floor};
use super::plain;

/// Maximum number of bytes between two numbers of a list.
const MAX_SEPARATOR_BYTES: usize = 16;

/// The candidate with those that follow it behind commas, "and" and "or": a list of guesses is no
/// answer that is one number.
pub(super) fn joined(text: &str, first: Candidate) -> Candidate {
    let mut list = first;
    while let Some(start) = next_start(text, list.end) {
        let Some(next) = plain::first_at(text, start) else { break };
        list.text.push_str(" ; ");
        list.text.push_str(&next.text);
        list.end = next.end;
    }
    list
}

/// Where the next element of a list starts, behind `,`, `and` or `or`.
fn next_start(text: &str, end: usize) -> Option<usize> {
    let window = &text[end..floor(text, end + MAX_SEPARATOR_BYTES)];
    let digit = window.find(|c: char| c.is_ascii_digit() || matches!(c, '-' | '\u{2212}' | '.'))?;
    let between = &window[..digit];
    let is_separator = between.contains(char::is_whitespace)
        && matches!(between.trim(), "," | "and" | "or" | ", and" | ", or" | ";");
    is_separator.then_some(end + digit)
}
