//! Numbers in plain text that are part of something longer: `9π`, `3x + 1`, `negative 3`, `x > 2`.
//! The longer text is the answer, also where nobody can read it.
//!
//! It does not know how numbers are written, nor what an answer means.

use super::candidate::Candidate;
use super::units;

/// The candidate with what belongs to it before and behind. It reads no further than `text`.
pub(super) fn whole(text: &str, number: Candidate) -> Candidate {
    let mut end = number.end;
    while let Some(length) = adjacent(&text[end..]).or_else(|| operated(&text[end..])) {
        end += length;
    }
    let is_longer = end > number.end;
    let value = if is_longer { text[number.start..end].to_owned() } else { number.text };
    signed(text, Candidate { start: number.start, end, text: value })
}

/// The number with a sign, a word for it or an inequality before it.
fn signed(text: &str, number: Candidate) -> Candidate {
    if !text[..number.start].ends_with(' ') || number.text.starts_with('-') {
        return number;
    }
    let mut words = text[..number.start].split_inclusive(char::is_whitespace).rev();
    let (Some(last), before) = (words.next(), words.next().unwrap_or_default()) else {
        return number;
    };
    let start = number.start - last.len();
    // behind the end of a line it is the mark of a list
    let is_said = |word: &str| {
        let word = word.trim_matches(['*', '_']);
        (matches!(word, "is" | "equals" | "be") || word.ends_with(['=', ':']))
            && !before.ends_with('\n')
    };
    match (last.trim_end(), before.trim_end()) {
        ("negative" | "Negative", _) => {
            Candidate { start, text: format!("-{}", number.text), ..number }
        }
        ("-" | "\u{2212}" | "minus", before) if is_said(before) => {
            Candidate { start, text: format!("-{}", number.text), ..number }
        }
        (sign @ ("<" | ">" | "<=" | ">=" | "≤" | "≥"), letter)
            if letter.len() == 1 && letter.starts_with(|c: char| c.is_ascii_alphabetic()) =>
        {
            let start = start - before.len();
            Candidate { start, text: format!("{letter} {sign} {}", number.text), ..number }
        }
        _ => number,
    }
}

/// Number of bytes of what touches a number and belongs to it.
fn adjacent(rest: &str) -> Option<usize> {
    let first = rest.chars().next()?;
    let second = rest[first.len_utf8()..].chars().next();
    match first {
        '√' | '∛' | '½' | '⅓' | '⅔' | '¼' | '¾' | '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '⁻' => {
            Some(first.len_utf8())
        }
        '\'' | '_' | ',' | '.' | '^' if second.is_some_and(|c| c.is_ascii_digit()) => Some(2),
        '0'..='9' => Some(1),
        '^' | '!' if second == Some('(') => None,
        _ => operand(rest).filter(|_| first.is_alphabetic()),
    }
}

/// Number of bytes of an operator, perhaps between spaces, and of what it stands before: a number,
/// a root or symbols. ` x ` is an operator before a power of ten, ` 1/2` is half of one.
fn operated(rest: &str) -> Option<usize> {
    let inner = rest.trim_start_matches(' ');
    let n_spaces = rest.len() - inner.len();
    if n_spaces == 1 {
        let letters = inner.bytes().take_while(u8::is_ascii_alphabetic).count();
        if units::scale(&inner[..letters]).is_some() {
            return Some(n_spaces + letters);
        }
        let digits = inner.bytes().take_while(u8::is_ascii_digit).count();
        let is_fraction = digits > 0 && inner[digits..].starts_with('/');
        if is_fraction && inner[digits + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            return Some(n_spaces + digits + 1);
        }
    }
    let operator = inner.chars().next()?;
    let behind = &inner[operator.len_utf8()..];
    let operand_text = behind.trim_start_matches(' ');
    let length = rest.len() - operand_text.len();
    match operator {
        'x' if operand_text.starts_with("10^") => Some(length + "10^".len()),
        '+' | '-' | '\u{2212}' | '*' | '×' | '·' | '/' | '^' => {
            // a dash between words has spaces around it, a sign may have none
            let is_even = (n_spaces > 0) == (operand_text.len() < behind.len());
            let operand = operand(operand_text).filter(|_| is_even)?;
            // what follows a dash is a sentence, no symbol: `5 - I think`
            let (letters, next) = operand_text.split_at(operand);
            let is_sentence = letters.bytes().all(|c| c.is_ascii_alphabetic())
                && next.starts_with(' ')
                && next[1..].starts_with(char::is_alphabetic);
            (!is_sentence).then_some(length + operand)
        }
        _ => None,
    }
}

/// Number of bytes of a number's first digit, a root or at most two letters that are symbols.
fn operand(rest: &str) -> Option<usize> {
    let first = rest.chars().next()?;
    if first.is_ascii_digit() || first == '√' {
        return Some(first.len_utf8());
    }
    let is_symbol = |c: char| c.is_ascii_alphabetic() || ('α'..='ω').contains(&c);
    let end = rest.find(|c| !is_symbol(c)).unwrap_or(rest.len());
    let letters = &rest[..end];
    let is_word = letters.is_ascii() && units::may_touch(letters);
    (!letters.is_empty() && !is_word).then_some(end)
}
