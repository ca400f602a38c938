//! Where the final answer stands in a text.
//!
//! In this order: boxes, what follows the words "final answer is" and "answer", the last formula
//! or number. It does not know what an answer means.

use std::cell::OnceCell;

use super::candidate::{Candidate, floor};
use super::listing::joined;
use super::{clause, plain};

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

/// The final answer of a text. The time is linear in its size: no text is read once more for each
/// of its formulas, boxes or mentions of an answer.
pub(super) fn final_answer(text: &str) -> FinalAnswer {
    let boxes = boxes(text).or_else(|| tagged(text));
    let text = &AnswerText::new(text);
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

/// A text, and what is looked for more than once in it.
struct AnswerText<'a> {
    text: &'a str,
    /// The text in lower case, as far as it is ASCII.
    lower: String,
    formulas: OnceCell<Vec<Candidate>>,
}

impl<'a> AnswerText<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, lower: text.to_ascii_lowercase(), formulas: OnceCell::new() }
    }

    /// Places where `phrase` ends, in ASCII without regard to case.
    fn ends_of<'b>(&'b self, phrase: &'b str) -> impl Iterator<Item = usize> + 'b {
        self.lower.match_indices(phrase).map(|(at, phrase)| at + phrase.len())
    }

    fn formulas(&self) -> &[Candidate] {
        self.formulas.get_or_init(|| formulas(self.text))
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
    let text = match (is_text, clause::has_reason(content)) {
        (true, _) => Some(final_answer(content)),
        (false, true) => Some(final_answer(&format!("answer: {content}"))),
        (false, false) => None,
    };
    let content = match text {
        Some(FinalAnswer::Found(answer)) => answer,
        _ => content.to_owned(),
    };
    Some(Boxed { end: close, content: Some(content) })
}

/// The last answer after "final answer … is".
fn last_said(answers: &AnswerText<'_>, phrase: &str, verb: &str) -> Option<Candidate> {
    let text = answers.text;
    let candidates = answers.ends_of(phrase).filter_map(|at| {
        let near = &answers.lower[at..floor(text, at + NEAR_EQUATION)];
        let mut from = at + near.find(verb)? + verb.len();
        from += usize::from(text[from..].starts_with(':'));
        let rest = &text[from..];
        let space = rest.len() - rest.trim_start().len();
        let to = from + space + 4;
        let formula = within(answers.formulas(), from, to).next().cloned();
        let number = || plain::candidates(text, from, to).next();
        let found = formula.or_else(|| Some(joined(text, number()?)))?;
        Some(unless_denied(answers, at, found))
    });
    candidates.max_by_key(|found| found.end)
}

/// The answer near the last mention of `phrase`.
fn answer_after(answers: &AnswerText<'_>, phrase: &str) -> Option<Candidate> {
    let text = answers.text;
    let candidates = answers.ends_of(phrase).filter_map(|at| {
        // what explains the answer has none
        let clause = explanation(answers, at).unwrap_or(text.len());
        let near = floor(text, at + NEAR).min(clause);
        let formula = within(answers.formulas(), at, near).next().cloned();
        // of an equation, the number behind its last sign
        let equation = floor(text, at + NEAR_EQUATION).min(clause);
        let sign = text[at..equation].rfind('=').map(|sign| at + sign + 1);
        let number = |from: usize, to: usize| {
            plain::candidates(text, from, to).find(|found| !is_side(text, found.end))
        };
        let number = match sign {
            Some(sign) => number(sign, floor(text, sign + 4)).or_else(|| number(at, near)),
            None => number(at, near),
        };
        let number = number.map(|found| joined(text, found));
        let found = [formula, number].into_iter().flatten().max_by_key(|found| found.end)?;
        Some(unless_denied(answers, at, found))
    });
    candidates.max_by_key(|found| found.end)
}

/// The candidate behind the word "answer", with a "not" if the text only denies it: nobody can
/// read that, and it equals no number.
fn unless_denied(answers: &AnswerText<'_>, at: usize, found: Candidate) -> Candidate {
    let is_denied = at <= found.start && clause::is_denying(&answers.lower[at..found.start]);
    let text = if is_denied { format!("not {}", found.text) } else { found.text };
    Candidate { text, ..found }
}

/// Where the clause starts that explains the answer which follows the word "answer" at once.
fn explanation(answers: &AnswerText<'_>, at: usize) -> Option<usize> {
    let (text, near) = (answers.text, floor(answers.text, at + NEAR));
    let formula = within(answers.formulas(), at, near).next();
    let number = plain::candidates(text, at, near).next();
    let ends = [formula.map(|found| (found.start, found.end)), number.map(|n| (n.start, n.end))];
    let (start, end) = ends.into_iter().flatten().min()?;
    let is_denied = answers.lower[start..end].starts_with("not ");
    if is_denied || is_side(text, end) || !clause::is_telling(&answers.lower[at..start]) {
        return None;
    }
    clause::start(&answers.lower, end, floor(text, at + NEAR_EQUATION))
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

fn last_anywhere(answers: &AnswerText<'_>) -> Option<Candidate> {
    let formula = answers.formulas().iter().max_by_key(|found| found.end).cloned();
    let number = plain::last(answers.text);
    match (formula, number) {
        (Some(formula), Some(number)) if number.start >= formula.end => Some(number),
        (Some(formula), _) => Some(formula),
        (None, number) => number,
    }
}

/// Delimiters of formulas, in the order in which they are tried.
const DELIMITERS: [(&str, &str); 4] = [("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")];

/// The end of a kind of formula: the next one, so that no text is searched twice for it.
#[derive(Clone, Copy, Default)]
struct Closing {
    /// The first one from where it was last looked for; the size of the text where there is none.
    next: usize,
}

impl Closing {
    /// The first `close` from `from` on that is not escaped. `from` never decreases.
    fn find(&mut self, text: &str, close: &str, from: usize) -> Option<usize> {
        let mut at = from;
        while self.next < from {
            let found = text[at..].find(close).map_or(text.len(), |found| at + found);
            at = found + close.len();
            if !text[..found].ends_with('\\') || found == text.len() {
                self.next = found;
            }
        }
        Some(self.next).filter(|next| *next < text.len())
    }
}

/// Formulas between delimiters; those joined by a comma or an "and" are one.
fn formulas(text: &str) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut closings = [Closing::default(); DELIMITERS.len()];
    let mut at = 0;
    while let Some(mark) = text[at..].find(['$', '\\']) {
        let mark = at + mark;
        // a minus sign belongs to the fraction behind it
        let is_signed = text[at..mark].ends_with('-');
        let signed = is_signed.then(|| bare_fraction(text, mark - 1)).flatten();
        let parsed = signed
            .or_else(|| delimited(text, mark, &mut closings))
            .or_else(|| bare_fraction(text, mark));
        let Some(Candidate { start, mut end, text: mut content }) = parsed else {
            let rest = &text[mark..];
            let escaped = rest.starts_with("\\$") || rest.starts_with("\\\\");
            at = mark + if escaped { 2 } else { 1 };
            continue;
        };
        let behind = text[end..].trim_start();
        if behind.starts_with('%') || behind.starts_with("\\%") {
            content += "\\%";
            end = text.len() - behind.len() + 1 + usize::from(behind.starts_with('\\'));
        }
        match found.last_mut() {
            Some(last) if joins(&text[last.end..start]) => {
                last.text += " ; ";
                last.text += &content;
                last.end = end;
            }
            _ => found.push(Candidate { start, end, text: content }),
        }
        at = end;
    }
    found
}

/// Whether what stands between two formulas makes them one.
fn joins(between: &str) -> bool {
    matches!(between.trim(), "," | "and" | "or" | ",and" | ",or" | ", and" | ", or")
}

/// The formula between delimiters that starts at `start`.
fn delimited(
    text: &str,
    start: usize,
    closings: &mut [Closing; DELIMITERS.len()],
) -> Option<Candidate> {
    let is_opened = |(open, _): &(&str, &str)| text[start..].starts_with(open);
    let kind = DELIMITERS.iter().position(is_opened)?;
    let (open, close) = DELIMITERS[kind];
    let inner = start + open.len();
    let closing = closings[kind].find(text, close, inner)?;
    let end = closing + close.len();
    let content = &text[inner..closing];
    // between two amounts of money there is no formula
    let is_formula = end - start <= MAX_FORMULA_BYTES
        && !content.trim().is_empty()
        && (open != "$"
            || !(content.contains('\n') || content.ends_with(' ') && !content.starts_with(' ')));
    is_formula.then(|| Candidate { start, end, text: content.to_owned() })
}

/// `\frac{1}{2}` of numbers, which needs no delimiters.
fn bare_fraction(text: &str, start: usize) -> Option<Candidate> {
    let sign = usize::from(text[start..].starts_with('-'));
    text[start + sign..].strip_prefix("\\frac")?;
    let second = number_in_braces(text, start + sign + "\\frac".len())?;
    let end = number_in_braces(text, second)?;
    let is_formula = end - start <= MAX_FORMULA_BYTES;
    is_formula.then(|| Candidate { start, end, text: text[start..end].to_owned() })
}

/// The end of a number in braces, behind them.
fn number_in_braces(text: &str, at: usize) -> Option<usize> {
    let inner = text[at..].strip_prefix('{')?;
    let digits = inner.strip_prefix('-').unwrap_or(inner);
    let rest = digits.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | ','));
    let is_number = rest.len() < digits.len() && rest.starts_with('}');
    is_number.then(|| text.len() - rest.len() + 1)
}

#[cfg(test)]
mod tests;
