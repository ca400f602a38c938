//! Verifiable answers: compares the final answer of a completion with the known one.
//!
//! It follows the PyPI package `math-verify`: the final answer is the content of the last
//! `\boxed{…}`, else what follows the word "answer", else the last formula or number. Numbers are
//! exact fractions of any size; a decimal equals what it was rounded from (six places). Sets,
//! points, intervals, equations, inequalities and matrices are compared as such, expressions with
//! symbols by their values. Known answers that are words are compared as text, without regard to
//! case and spaces. What is not understood is not equal, and is told apart from a wrong answer.
//! `tests/golden/make_answers.py` makes the pairs on which both must agree, apart from the named
//! differences in this module's tests.

mod answer;
mod candidate;
mod clause;
mod commands;
mod compare;
mod complex;
mod cursor;
mod expression;
mod extract;
mod grammar;
mod latex;
mod lexer;
mod listing;
mod longer;
mod number;
mod parse;
mod plain;
mod same_value;
mod signs;
mod spans;
mod spelling;
mod token;
mod units;
mod words;

use std::cell::OnceCell;

use answer::MathAnswer;
use extract::FinalAnswer;
use words::NormalText;

use crate::prompt::strip_thinking;

/// The final answer of a completion beside the known one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Correctness {
    /// The answers are equal.
    Correct,
    /// They are not.
    Wrong,
    /// The completion has no final answer: an unfinished thought, a text without a number.
    NoAnswer,
    /// One of the answers was not understood, and they are not the same text. Not correct.
    NotUnderstood,
}

impl Correctness {
    /// Whether the answers are equal.
    pub fn is_correct(self) -> bool {
        self == Self::Correct
    }
}

/// Whether the completion's final answer equals `reference`.
pub fn is_correct(completion: &str, reference: &str) -> bool {
    correctness(completion, reference).is_correct()
}

/// Compares the completion's final answer with `reference`. A reference that is a JSON list of
/// texts, `["1", "one"]`, has several known answers, each of which is correct.
pub fn correctness(completion: &str, reference: &str) -> Correctness {
    let completion = strip_thinking(completion);
    if completion.is_empty() {
        return Correctness::NoAnswer;
    }
    let said = SaidAnswer::of(completion);
    let mut best = Correctness::NoAnswer;
    for known in alternatives(reference) {
        let correctness = said.compare_with(&known);
        best = match (best, correctness) {
            (_, Correctness::Correct) => return Correctness::Correct,
            (Correctness::NotUnderstood, _) | (_, Correctness::NotUnderstood) => {
                Correctness::NotUnderstood
            }
            (Correctness::Wrong, _) | (_, Correctness::Wrong) => Correctness::Wrong,
            _ => Correctness::NoAnswer,
        };
    }
    best
}

fn alternatives(reference: &str) -> Vec<String> {
    match serde_json::from_str::<Vec<String>>(reference) {
        Ok(known) if !known.is_empty() => known,
        _ => vec![reference.to_owned()],
    }
}

/// What a completion says, read once for all known answers.
struct SaidAnswer<'a> {
    completion: &'a str,
    /// The final answer as it is written, and as words are compared.
    answer: Option<(String, NormalText)>,
    /// The last words, for known answers that are words.
    last_words: OnceCell<Option<(&'a str, NormalText)>>,
}

impl<'a> SaidAnswer<'a> {
    fn of(completion: &'a str) -> Self {
        let answer = match extract::final_answer(completion) {
            FinalAnswer::Found(text) if !text.trim().is_empty() => {
                let normal = NormalText::of(&text);
                Some((text, normal))
            }
            _ => None,
        };
        Self { completion, answer, last_words: OnceCell::new() }
    }

    fn compare_with(&self, reference: &str) -> Correctness {
        let known = known_answer(reference);
        if known.is_empty() {
            return Correctness::NotUnderstood;
        }
        let normal = NormalText::of(&known);
        let by_value = self.compare_values(&known, &normal);
        if by_value == Correctness::Correct || !words::has_letters(&known) {
            return by_value;
        }
        match self.last_words() {
            Some((_, words)) if words.is_same(&normal) => Correctness::Correct,
            Some((words, _)) if is_unexplained(words, &normal) => Correctness::Correct,
            _ if self.is_choice(&known) => Correctness::Correct,
            _ if normal.is_words() && by_value == Correctness::NoAnswer => Correctness::Wrong,
            _ => by_value,
        }
    }

    fn last_words(&self) -> Option<&(&'a str, NormalText)> {
        let read = || {
            let words = words::final_text(self.completion)?;
            Some((words, NormalText::of(words)))
        };
        self.last_words.get_or_init(read).as_ref()
    }

    /// Whether the known answer is a letter of a choice, and the answer begins with it.
    fn is_choice(&self, known: &str) -> bool {
        let Some(known) = words::choice(known) else { return false };
        let said = match &self.answer {
            Some((text, _)) if extract::is_marked(self.completion) => words::choice(text),
            _ => self.last_words().and_then(|(words, _)| words::choice(words)),
        };
        said == Some(known)
    }

    fn compare_values(&self, known: &str, normal: &NormalText) -> Correctness {
        let Some((text, said)) = &self.answer else { return Correctness::NoAnswer };
        if said.is_same(normal) {
            return Correctness::Correct;
        }
        let (Ok(gold), Ok(answer)) = (parse::parse(known), parse::parse(text)) else {
            if spelling::is_same(known, text) {
                return Correctness::Correct;
            }
            // words beside words are compared as words
            let are_words = normal.is_words() && said.is_words();
            return if are_words { Correctness::Wrong } else { Correctness::NotUnderstood };
        };
        match compare::same(&gold, &answer) {
            Some(true) => Correctness::Correct,
            Some(false) => Correctness::Wrong,
            None => Correctness::NotUnderstood,
        }
    }
}

/// Whether words are the known answer and an explanation: `Paris, since it is the capital`.
fn is_unexplained(words: &str, known: &NormalText) -> bool {
    clause::unexplained(words).is_some_and(|answer| NormalText::of(answer).is_same(known))
}

/// The answer in a known answer: data sets have it behind `####`, in a box, or as a formula.
fn known_answer(reference: &str) -> String {
    // GSM8K writes its answers after `####`
    let reference = reference.rsplit("####").next().unwrap_or(reference).trim();
    if reference.contains("\\boxed")
        && let FinalAnswer::Found(text) = extract::final_answer(reference)
    {
        return text;
    }
    extract::last_formula(reference)
        .filter(|_| reference.replace("\\$", "").contains('$') || reference.contains("\\("))
        .unwrap_or_else(|| reference.to_owned())
}

/// The last number of a completion, or of its last box if it has one; thoughts are not read.
pub fn final_number(completion: &str) -> Option<FinalNumber> {
    match extract::final_answer(strip_thinking(completion)) {
        FinalAnswer::Found(text) => match parse::parse(&text).ok()? {
            MathAnswer::Value(value) | MathAnswer::Quantity(value, _) => {
                value.exact().map(FinalNumber)
            }
            _ => None,
        },
        FinalAnswer::CutOff | FinalAnswer::Missing => None,
    }
}

/// A number, equal to others of the same value however they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalNumber(number::Rational);

#[cfg(test)]
mod tests;
