//! Verifiable answers: compares the final answer of a completion with the known one.
//!
//! The final answer is the content of the last `\boxed{…}`, else the last number, else the text
//! after the last "answer is", else the whole text. Numbers are compared as numbers (`1,200` equals
//! `1200.0`), other answers as text without regard to case and spaces.

use crate::prompt::strip_thinking;

/// Whether the completion's final answer equals `reference`.
pub fn is_correct(completion: &str, reference: &str) -> bool {
    // GSM8K writes its answers after `####`
    let reference = reference.rsplit("####").next().unwrap_or(reference).trim();
    match number(reference) {
        Some(wanted) => final_number(completion) == Some(wanted),
        None => final_text(completion)
            .is_some_and(|answer| normalized(&answer) == normalized(reference)),
    }
}

/// The last number of a completion, or of its last box if it has one; thoughts are not read.
pub fn final_number(completion: &str) -> Option<FinalNumber> {
    let text = strip_thinking(completion);
    match last_boxed(text) {
        Some(content) => last_number(content),
        None => last_number(text),
    }
}

fn final_text(completion: &str) -> Option<String> {
    let text = strip_thinking(completion);
    if let Some(content) = last_boxed(text) {
        return Some(content.to_owned());
    }
    let lower = text.to_lowercase();
    let after = ["answer is", "answer:"]
        .iter()
        .filter_map(|mark| lower.rfind(mark).map(|at| at + mark.len()))
        .max();
    // lower-casing may move byte positions in some scripts: then the whole text is the answer
    let answer = after.and_then(|at| text.get(at..)).unwrap_or(text);
    Some(answer.to_owned()).filter(|answer| !answer.trim().is_empty())
}

fn normalized(text: &str) -> String {
    let text = text.trim().trim_matches(|c| matches!(c, '.' | '*' | '$' | ':'));
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// The content of the last `\boxed{…}` whose braces match.
fn last_boxed(text: &str) -> Option<&str> {
    const OPEN: &str = "\\boxed{";
    let start = text.rfind(OPEN)? + OPEN.len();
    let mut depth = 1;
    for (at, c) in text[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[start..start + at]);
        }
    }
    None
}

/// A decimal number without leading and trailing zeros, so that equal numbers are equal texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalNumber(String);

/// The number that `text` consists of; `None` if it has anything else.
fn number(text: &str) -> Option<FinalNumber> {
    let text = text.trim().trim_start_matches('$').trim_end_matches(['.', '%']);
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == ',' || c == '.');
    if is_number { last_number(text) } else { None }
}

fn last_number(text: &str) -> Option<FinalNumber> {
    let bytes = text.as_bytes();
    let end = bytes.iter().rposition(u8::is_ascii_digit)? + 1;
    let mut start = end - 1;
    let mut has_point = false;
    while start > 0 {
        let is_part = match bytes[start - 1] {
            b'0'..=b'9' => true,
            b'.' if !has_point && start > 1 && bytes[start - 2].is_ascii_digit() => {
                has_point = true;
                true
            }
            // a thousands separator: a comma between a digit and exactly three more
            b',' => {
                start > 1
                    && bytes[start - 2].is_ascii_digit()
                    && bytes[start..end].iter().take_while(|byte| byte.is_ascii_digit()).count()
                        == 3
            }
            _ => false,
        };
        if !is_part {
            break;
        }
        start -= 1;
    }
    // a minus sign, unless it subtracts (`5 -3`) or joins a word (`item-3`)
    let before = text[..start].strip_suffix(['-', '\u{2212}']);
    let is_negative = before.is_some_and(|before| {
        let subtracts = before.trim_end().ends_with(|c: char| c.is_ascii_digit() || c == ')');
        !subtracts && !before.ends_with(char::is_alphanumeric)
    });
    let plain = text[start..end].replace(',', "");
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    let mut value =
        if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") };
    if is_negative && value != "0" {
        value.insert(0, '-');
    }
    Some(FinalNumber(value))
}

#[cfg(test)]
mod tests;
