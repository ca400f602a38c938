//! Where the final answer stands in a text.
//!
//! In this order: boxes, what follows the words "final answer is" and "answer", the last formula
//! or number. It does not know what an answer means.

use super::candidate::{Candidate, floor};
use super::listing::joined;
use super::plain;

/// What a text has as its final answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FinalAnswer {
    /// The answer as it is written.
    Found(String),
    /// The text ends inside of a box.
    CutOff,
    Missing,
}

/// Maximum number of bytes between the word "answer" and the answer.
const NEAR: usize = 50;

/// Maximum number of bytes between the word "answer" and the last equals sign before the answer.
const NEAR_EQUATION: usize = 100;

/// Maximum number of bytes of a formula.
const MAX_FORMULA_BYTES: usize = 2048;

/// Boxes so near to each other are one answer, a list, if nothing but separators is between them.
const NEXT_BOX: usize = 70;

/// The final answer of a text.
pub(super) fn final_answer(text: &str) -> FinalAnswer {
    let boxes = boxes(text).or_else(|| tagged(text));
    let said = last_said(text, "final answer", " is");
    match (&boxes, said) {
        (Some(boxed), Some(said)) if said.end > boxed.end => FinalAnswer::Found(said.text),
        (Some(Boxed { content: Some(content), .. }), _) => FinalAnswer::Found(content.clone()),
        (Some(_), _) => FinalAnswer::CutOff,
        (None, Some(said)) => FinalAnswer::Found(said.text),
        (None, None) => {
            let answer = answer_after(text, "answer:").or_else(|| answer_after(text, "answer"));
            match answer.or_else(|| last_anywhere(text)) {
                Some(found) => FinalAnswer::Found(found.text),
                None => FinalAnswer::Missing,
            }
        }
    }
}

/// Whether a text marks its answer with a box or a tag.
pub(super) fn is_marked(text: &str) -> bool {
    text.contains("\\boxed") || text.contains("</answer>")
}

/// The last formula of a text that is delimited as one; `None` if it has none.
pub(super) fn last_formula(text: &str) -> Option<String> {
    formulas(text).into_iter().max_by_key(|found| found.end).map(|found| found.text)
}

struct Boxed {
    end: usize,
    content: Option<String>,
}

/// The last box, together with those just before it.
fn boxes(text: &str) -> Option<Boxed> {
    let mut found: Vec<(usize, usize, String)> = Vec::new();
    let mut at = 0;
    while let Some((start, name)) = next_box(text, at) {
        let open =
            start + name + text[start + name..].len() - text[start + name..].trim_start().len();
        if !text[open..].starts_with('{') {
            // `\boxed 5`
            let content = text[open..].split(char::is_whitespace).next().unwrap_or_default();
            at = open + content.len();
            if !content.is_empty() {
                let content = content.trim_end_matches(['.', '$', ',']).to_owned();
                found.push((start, open + content.len(), content));
            }
            continue;
        }
        let Some(end) = closing_brace(text, open) else {
            return Some(Boxed { end: text.len(), content: None });
        };
        found.push((start, end + 1, text[open + 1..end].trim().to_owned()));
        at = end + 1;
    }
    let (mut start, end, last) = found.pop()?;
    let unit = unit_behind(text, end);
    let mut contents = vec![last + &unit];
    while let Some((previous_start, previous_end, content)) = found.pop() {
        let between = &text[previous_end..start];
        if between.len() >= NEXT_BOX || !is_separator(between) {
            break;
        }
        if contents.last() != Some(&content) {
            contents.push(content);
        }
        start = previous_start;
    }
    contents.reverse();
    Some(Boxed { end, content: Some(contents.join(" ; ")) })
}

fn next_box(text: &str, from: usize) -> Option<(usize, usize)> {
    let rest = text.get(from..)?;
    // a search for each name would read the whole text once for every box
    rest.match_indices('\\').find_map(|(at, _)| {
        let name = ["\\boxed", "\\fbox"].into_iter().find(|name| rest[at..].starts_with(name));
        name.map(|name| (from + at, name.len()))
    })
}

/// A percent sign right behind the box belongs to the number.
fn unit_behind(text: &str, end: usize) -> String {
    let rest = text[end..].trim_start();
    let has_percent = rest.starts_with("\\%") || rest.starts_with('%');
    if has_percent { "\\%".to_owned() } else { String::new() }
}

fn closing_brace(text: &str, open: usize) -> Option<usize> {
    let mut depth = 0;
    let mut is_escaped = false;
    for (at, c) in text[open..].char_indices() {
        match c {
            '{' if !is_escaped => depth += 1,
            '}' if !is_escaped => depth -= 1,
            _ => {}
        }
        is_escaped = c == '\\' && !is_escaped;
        if depth == 0 {
            return Some(open + at);
        }
    }
    None
}

/// Whether there is nothing but commas, "and" and "or" between two boxes; the second may be given
/// to a symbol: `and $y = \boxed{2}`. Any other word corrects the first.
fn is_separator(between: &str) -> bool {
    let is_given = between.trim_end().ends_with('=');
    let is_part = |word: &str| {
        matches!(word, "and" | "or" | "text" | "quad" | "qquad") || (is_given && word.len() == 1)
    };
    let mut words = between.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    !between.contains(['?', '!']) && words.all(is_part)
}

/// The content of the last `<answer>…</answer>`.
fn tagged(text: &str) -> Option<Boxed> {
    let close = text.rfind("</answer>")?;
    let open = text[..close].rfind("<answer>")? + "<answer>".len();
    let content = text[open..close].trim().trim_matches(['*', '`']);
    // a sentence has its answer where a text has it
    let is_text = content.contains([':', '$', '\n']) || content.contains(" is ");
    let content = match is_text.then(|| final_answer(content)) {
        Some(FinalAnswer::Found(answer)) => answer,
        _ => content.to_owned(),
    };
    Some(Boxed { end: close, content: Some(content) })
}

/// Places where `phrase` ends, in ASCII without regard to case.
fn ends_of(text: &str, phrase: &str) -> Vec<usize> {
    let lower = text.to_ascii_lowercase();
    lower.match_indices(phrase).map(|(at, phrase)| at + phrase.len()).collect()
}

/// The last answer after "final answer … is".
fn last_said(text: &str, phrase: &str, verb: &str) -> Option<Candidate> {
    let (mut formulas_of, mut numbers_of) = (None, None);
    let candidates = ends_of(text, phrase).into_iter().filter_map(|at| {
        let near = &text[at..floor(text, at + NEAR_EQUATION)];
        let is = ends_of(near, verb).into_iter().next()?;
        let mut from = at + is;
        from += usize::from(text[from..].starts_with(':'));
        let rest = &text[from..];
        let space = rest.len() - rest.trim_start().len();
        let to = from + space + 4;
        let formulas = formulas_of.get_or_insert_with(|| formulas(text));
        let numbers = numbers_of.get_or_insert_with(|| plain::candidates(text));
        let formula = within(formulas, from, to).next().cloned();
        formula.or_else(|| Some(joined(text, within(numbers, from, to).next()?.clone())))
    });
    candidates.max_by_key(|found| found.end)
}

/// The answer near the last mention of `phrase`.
fn answer_after(text: &str, phrase: &str) -> Option<Candidate> {
    let mentions = ends_of(text, phrase);
    if mentions.is_empty() {
        return None;
    }
    let (formulas, numbers) = (formulas(text), plain::candidates(text));
    let candidates = mentions.into_iter().filter_map(|at| {
        let near = floor(text, at + NEAR);
        let formula = within(&formulas, at, near).next();
        // of an equation, the number behind its last sign
        let equation = floor(text, at + NEAR_EQUATION);
        let sign = text[at..equation].rfind('=').map(|sign| at + sign + 1);
        let number = |from: usize, to: usize| {
            within(&numbers, from, to).find(|found| !is_side(text, found.end))
        };
        let number = match sign {
            Some(sign) => number(sign, floor(text, sign + 4)).or_else(|| number(at, near)),
            None => number(at, near),
        };
        let number = number.map(|found| joined(text, found.clone()));
        [formula.cloned(), number].into_iter().flatten().max_by_key(|found| found.end)
    });
    candidates.max_by_key(|found| found.end)
}

/// The candidates that start between two places; they are in the order of their starts.
fn within(candidates: &[Candidate], from: usize, to: usize) -> std::slice::Iter<'_, Candidate> {
    let start = candidates.partition_point(|found| found.start < from);
    let end = candidates.partition_point(|found| found.start <= to);
    candidates[start..end.max(start)].iter()
}

/// Whether an equals sign follows: what stands before it is no answer.
fn is_side(text: &str, end: usize) -> bool {
    text[end..].trim_start().starts_with('=')
}

fn last_anywhere(text: &str) -> Option<Candidate> {
    let formula = formulas(text).into_iter().max_by_key(|found| found.end);
    let number = plain::candidates(text)
        .into_iter()
        .max_by_key(|found| (found.end, text.len() - found.start));
    match (formula, number) {
        (Some(formula), Some(number)) if number.start >= formula.end => Some(number),
        (Some(formula), _) => Some(formula),
        (None, number) => number,
    }
}

/// Formulas between delimiters; those joined by a comma or an "and" are one.
fn formulas(text: &str) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..floor(text, at + MAX_FORMULA_BYTES)];
        let parsed = [("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")]
            .into_iter()
            .find(|(open, _)| rest.starts_with(open))
            .and_then(|(open, close)| delimited(rest, open, close));
        let parsed = parsed.or_else(|| bare_fraction(rest));
        let Some((content, length)) = parsed else {
            let escaped = rest.starts_with("\\$") || rest.starts_with("\\\\");
            at += if escaped { 2 } else { rest.chars().next().map_or(1, char::len_utf8) };
            continue;
        };
        let mut end = at + length;
        let mut content = content.to_owned();
        let behind = text[end..].trim_start();
        if behind.starts_with('%') || behind.starts_with("\\%") {
            content += "\\%";
            end = text.len() - behind.len() + 1 + usize::from(behind.starts_with('\\'));
        }
        match found.last_mut() {
            Some(last) if joins(&text[last.end..at]) => {
                last.text = format!("{} ; {content}", last.text);
                last.end = end;
            }
            _ => found.push(Candidate { start: at, end, text: content }),
        }
        at = end;
    }
    found
}

fn joins(between: &str) -> bool {
    matches!(between.trim(), "," | "and" | "or" | ",and" | ",or" | ", and" | ", or")
}

/// The content of a formula at the start of `rest`, and its whole length.
fn delimited<'a>(rest: &'a str, open: &str, close: &str) -> Option<(&'a str, usize)> {
    let inner = &rest[open.len()..];
    let mut from = 0;
    let end = loop {
        let end = from + inner[from..].find(close)?;
        if !inner[..end].ends_with('\\') {
            break end;
        }
        from = end + close.len();
    };
    let content = &inner[..end];
    // between two amounts of money there is no formula
    let is_formula = !content.trim().is_empty()
        && (open != "$"
            || !(content.contains('\n') || content.ends_with(' ') && !content.starts_with(' ')));
    is_formula.then_some((content, open.len() + end + close.len()))
}

/// `\frac{1}{2}` of numbers, which needs no delimiters.
fn bare_fraction(rest: &str) -> Option<(&str, usize)> {
    let sign = usize::from(rest.starts_with('-'));
    rest[sign..].strip_prefix("\\frac{")?;
    let first = closing_brace(rest, sign + "\\frac".len())?;
    let second = rest[first + 1..].starts_with('{').then(|| closing_brace(rest, first + 1))??;
    let is_number = |part: &str| {
        let digits = part.strip_prefix('-').unwrap_or(part);
        !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','))
    };
    let numbers = [&rest[sign + 6..first], &rest[first + 2..second]];
    numbers.into_iter().all(is_number).then(|| (&rest[..=second], second + 1))
}
