//! Numbers in plain text that are part of something longer: `9π`, `3x + 1`, `negative 3`, `x > 2`,
//! `not 3`. The longer text is the answer, also where nobody can read it.
//!
//! It does not know how numbers are written, nor what an answer means.

use super::candidate::Candidate;
use super::{signs, units};

/// Signs of inequalities; those of two characters first.
const RELATIONS: [&str; 6] = ["<=", ">=", "<", ">", "≤", "≥"];

/// The candidate with what belongs to it before and behind. It reads no further than `text`.
pub(super) fn whole(text: &str, number: Candidate) -> Candidate {
    let bound = bound(&text[..number.start]);
    let start = bound.unwrap_or(number.start);
    let mut is_relation = bound.is_some();
    let mut end = number.end;
    loop {
        let rest = &text[end..];
        let related = || related(rest, is_relation).or_else(|| alternative(rest, is_relation));
        end += match adjacent(rest).or_else(|| operated(rest)) {
            Some(length) => length,
            None => match related() {
                Some(length) => length,
                None => break,
            },
        };
        is_relation |= text[number.end..end].contains(['<', '>', '≤', '≥']);
    }
    let is_longer = is_relation || end > number.end;
    let value = if is_longer { text[start..end].to_owned() } else { number.text };
    signed(text, Candidate { start, end, text: value })
}

/// Where the letter stands that a text ends with and an inequality to what follows: `x >`.
pub(super) fn bound(before: &str) -> Option<usize> {
    let before = before.trim_end_matches(' ');
    let before = RELATIONS.into_iter().find_map(|sign| before.strip_suffix(sign))?;
    let before = before.trim_end_matches(' ');
    let rest = before.strip_suffix(|c: char| c.is_ascii_alphabetic())?;
    // a letter of a word, or the tag of a markup language, is no symbol
    let is_symbol = rest.is_empty()
        || rest.ends_with(|c: char| c.is_whitespace() || matches!(c, '(' | '*' | '`' | ':' | '$'));
    is_symbol.then_some(rest.len())
}

/// Number of bytes of an inequality to a symbol, and where there is one already, to a number.
fn related(rest: &str, is_relation: bool) -> Option<usize> {
    let inner = rest.trim_start_matches(' ');
    let sign = RELATIONS.into_iter().find(|sign| inner.starts_with(sign))?;
    let operand_text = inner[sign.len()..].trim_start_matches(' ');
    let minus = usize::from(is_relation && operand_text.starts_with('-'));
    let length = operand(&operand_text[minus..])?;
    let (letters, behind) = operand_text[minus..].split_at(length);
    let is_number = letters.starts_with(|c: char| c.is_ascii_digit());
    // `42<br>` has a tag behind it
    let is_tag = inner.starts_with('<') && behind.trim_start_matches([' ', '/']).starts_with('>');
    let is_operand = if is_number { is_relation } else { !is_tag };
    is_operand.then_some(rest.len() - operand_text.len() + minus + length)
}

/// Number of bytes of another inequality of the same answer: ` or x > 2`.
fn alternative(rest: &str, is_relation: bool) -> Option<usize> {
    let inner = rest.strip_prefix(',').unwrap_or(rest).strip_prefix(" or ")?;
    let behind = inner.strip_prefix(|c: char| c.is_ascii_alphabetic())?;
    let length = related(behind, is_relation)?;
    Some(rest.len() - behind.len() + length)
}

/// The number with a sign, a word for it or a word that takes it back before it.
fn signed(text: &str, number: Candidate) -> Candidate {
    if !text[..number.start].ends_with(' ') {
        return number;
    }
    let mut words = text[..number.start].split_inclusive(char::is_whitespace).rev();
    let (Some(last), before) = (words.next(), words.next().unwrap_or_default()) else {
        return number;
    };
    let start = number.start - last.len();
    let is_negative = number.text.starts_with('-');
    // behind the end of a line it is the mark of a list
    let is_said = |word: &str| {
        let word = word.trim_matches(['*', '_']);
        (matches!(word, "is" | "equals" | "be") || word.ends_with(['=', ':']))
            && !before.ends_with('\n')
    };
    match (last.trim_end(), before.trim_end()) {
        ("not", _) => Candidate { start, text: format!("not {}", number.text), ..number },
        ("negative" | "Negative", _) if !is_negative => {
            Candidate { start, text: format!("-{}", number.text), ..number }
        }
        ("-" | "\u{2212}" | "minus", before) if is_said(before) && !is_negative => {
            Candidate { start, text: format!("-{}", number.text), ..number }
        }
        _ => number,
    }
}

/// Number of bytes of what touches a number and belongs to it.
fn adjacent(rest: &str) -> Option<usize> {
    let first = rest.chars().next()?;
    let second = rest[first.len_utf8()..].chars().next();
    match first {
        '√' | '∛' | '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '⁻' => {
            Some(first.len_utf8())
        }
        _ if signs::fraction(first).is_some() => Some(first.len_utf8()),
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
        // `2 ½`
        if let Some(first) = inner.chars().next().filter(|c| signs::fraction(*c).is_some()) {
            return Some(n_spaces + first.len_utf8());
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

#[cfg(test)]
mod tests;
