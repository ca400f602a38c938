//! Clauses that explain an answer: `42, since x = 7`, `42 (x = 7)`, `42, 7 times 6`. The numbers
//! in them are no answers.
//!
//! It does not know where an answer stands, nor how numbers are written.

use super::candidate::floor;
use super::plain;
use super::same_value::is_same;

/// Words that begin an explanation.
const REASONS: [&str; 5] = ["since", "because", "i.e", "ie", "namely"];

/// Words that begin an explanation behind a number; behind words they may be part of a name.
const BEHIND_NUMBERS: [&str; 8] = ["as", "which", "by", "from", "given", "being", "using", "due"];

/// Words before another guess.
const OFFERING: [&str; 15] = [
    "or",
    "maybe",
    "perhaps",
    "possibly",
    "probably",
    "either",
    "alternatively",
    "else",
    "otherwise",
    "actually",
    "no",
    "wait",
    "sorry",
    "oops",
    "hmm",
];

/// Words that may stand before another guess, and in an explanation too.
const LINKING: [&str; 5] = ["and", "also", "even", "i", "mean"];

/// Further words that take an answer back.
const WITHDRAWING: [&str; 9] =
    ["not", "but", "wrong", "incorrect", "mistake", "however", "instead", "rather", "correction"];

/// Words between "answer" and the answer.
const VERBS: [&str; 21] = [
    "is",
    "was",
    "be",
    "equals",
    "equal",
    "to",
    "must",
    "should",
    "would",
    "will",
    "exactly",
    "simply",
    "just",
    "only",
    "therefore",
    "thus",
    "then",
    "hence",
    "indeed",
    "clearly",
    "about",
];

/// Maximum number of bytes of arithmetic in words.
const MAX_ARITHMETIC: usize = 100;

/// Maximum number of bytes between the start of an answer that is a word and its explanation.
const MAX_WORD: usize = 100;

/// Whether a text, in lower case, between the word "answer" and a number only says that the number
/// is the answer.
pub(super) fn is_telling(between: &str) -> bool {
    between.len() <= MAX_WORD && words(between).all(|(_, word)| VERBS.contains(&word))
}

/// Whether a text, in lower case, between the word "answer" and a number only says that the number
/// is not the answer.
pub(super) fn is_denying(between: &str) -> bool {
    let denies = |word: &str| {
        matches!(word, "not" | "never" | "cannot") || word.ends_with("n't") || word.ends_with("n’t")
    };
    between.len() <= MAX_WORD
        && words(between).any(|(_, word)| denies(word))
        && words(between).all(|(_, word)| denies(word) || VERBS.contains(&word))
}

/// Whether a word may stand between two guesses in a sentence.
pub(super) fn is_link(word: &str) -> bool {
    is_offer(word) || LINKING.contains(&word)
}

/// Whether a word offers another guess, if only in the next sentence.
pub(super) fn is_offer(word: &str) -> bool {
    OFFERING.contains(&word)
}

/// Where the clause starts that explains the answer which ends at `from`; up to `to`, of a text in
/// lower case. None where the text offers another answer, or takes this one back.
pub(super) fn start(lower: &str, from: usize, to: usize) -> Option<usize> {
    let rest = lower.get(from..to)?;
    let is_doubt = |(_, word): (usize, &str)| is_offer(word) || WITHDRAWING.contains(&word);
    if words(rest).any(is_doubt) {
        return None;
    }
    let bracket = rest.trim_start_matches([' ', '*', '_', '$', '\\', ')']).strip_prefix('(');
    let bracket = bracket.map(|inner| rest.len() - inner.len() - 1);
    let is_reason = |(_, word): &(usize, &str)| is_reason(word) || BEHIND_NUMBERS.contains(word);
    let word = words(rest).find(is_reason).map(|(at, _)| at);
    bracket.into_iter().chain(word).min().map(|at| from + at)
}

/// An answer that is a word without its explanation, which is the rest of its sentence; `None`
/// where it has none, or more than one sentence.
pub(super) fn unexplained(text: &str) -> Option<&str> {
    let lower = text.get(..floor(text, MAX_WORD))?.to_ascii_lowercase();
    let (at, _) = words(&lower).find(|(_, word)| is_reason(word))?;
    let explanation = text[at..].trim_start_matches("i.e.").trim_end();
    let explanation = explanation.trim_end_matches(['.', '!', '*']);
    let is_sentence = !explanation.contains(['\n', '!', '?', '.']);
    let answer = text[..at].trim_end_matches([' ', ',', ';', '(', '-', '\u{2013}', '\u{2014}']);
    (is_sentence && !answer.trim().is_empty()).then_some(answer)
}

/// Whether a text has a word that begins an explanation.
pub(super) fn has_reason(text: &str) -> bool {
    words(&text.to_ascii_lowercase()).any(|(_, word)| is_reason(word))
}

fn is_reason(word: &str) -> bool {
    REASONS.contains(&word)
}

/// The words of a text with their places; points and apostrophes inside of a word belong to it.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '\'' | '’');
    let mut at = 0;
    let all = std::iter::from_fn(move || {
        let start = at + text[at..].find(is_part)?;
        at = text[start..].find(|c| !is_part(c)).map_or(text.len(), |end| start + end);
        Some((start, text[start..at].trim_end_matches('.')))
    });
    all.filter(|(_, word)| word.starts_with(char::is_alphabetic))
}

/// The end of arithmetic in words at `start` that gives `value` once more: of `7 times 6` behind
/// `42, `. Other numbers may be guesses.
pub(super) fn restated(text: &str, start: usize, value: &str) -> Option<usize> {
    let window = &text[..floor(text, start + MAX_ARITHMETIC)];
    let first = plain::first_at(window, start)?;
    let (mut end, mut formula) = (first.end, first.text);
    let mut is_arithmetic = false;
    while let Some((operation, at)) = operation(window, end)
        && let Some(next) = plain::first_at(window, at)
    {
        formula = operation.of(&formula, &next.text);
        end = next.end;
        is_arithmetic = true;
    }
    (is_arithmetic && is_same(value, &formula)).then_some(end)
}

/// What words between two numbers do with them.
#[derive(Clone, Copy)]
enum WordOperation {
    Add,
    Subtract,
    SubtractFrom,
    Multiply,
    Divide,
}

impl WordOperation {
    /// Of words such as `more than`; words without an operation say how many of how much:
    /// `6 groups of 7`, `7 a day for 6 days`.
    fn named(words: &str) -> Self {
        let has = |word: &str| words.split(' ').any(|other| other == word);
        match () {
            () if has("plus") || has("more") => Self::Add,
            () if has("minus") => Self::Subtract,
            () if has("less") || has("fewer") => Self::SubtractFrom,
            () if has("divided") || has("over") => Self::Divide,
            () => Self::Multiply,
        }
    }

    fn of(self, a: &str, b: &str) -> String {
        match self {
            Self::Add => format!("({a})+({b})"),
            Self::Subtract => format!("({a})-({b})"),
            Self::SubtractFrom => format!("({b})-({a})"),
            Self::Multiply => format!("({a})\\cdot({b})"),
            Self::Divide => format!("({a})/({b})"),
        }
    }
}

/// The operation of the words from `end` to the next number, and where that starts.
fn operation(text: &str, end: usize) -> Option<(WordOperation, usize)> {
    let rest = &text[end..];
    let digit = rest.find(|c: char| c.is_ascii_digit())?;
    let between = &rest[..digit];
    let is_words = between.starts_with(' ')
        && between.ends_with(' ')
        && between.chars().all(|c| c.is_ascii_alphabetic() || c == ' ')
        && !between.trim().is_empty();
    let lower = between.to_ascii_lowercase();
    let is_clause = !words(&lower)
        .any(|(_, word)| is_link(word) || WITHDRAWING.contains(&word) || is_reason(word));
    (is_words && is_clause).then(|| (WordOperation::named(&lower), end + digit))
}

#[cfg(test)]
mod tests;
