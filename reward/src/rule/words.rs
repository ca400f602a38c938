//! Answers that are words.

/// Whether an answer has letters that are no commands: it may be a word.
pub(super) fn has_letters(text: &str) -> bool {
    text.chars().any(char::is_alphabetic)
}

/// An answer without regard to case, spaces and the style of its type.
#[derive(PartialEq)]
pub(super) struct NormalText(String);

impl NormalText {
    pub(super) fn of(text: &str) -> Self {
        Self(normalized(text))
    }

    /// Whether an answer is text without mathematics.
    pub(super) fn is_words(&self) -> bool {
        let Self(text) = self;
        !text.is_empty()
            && !text.contains(['\\', '^', '_', '=', '{', '+', '/'])
            && has_letters(text)
            && !text.chars().any(|c| c.is_ascii_digit())
    }

    /// Whether two answers are the same text.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        !self.0.is_empty() && self == other
    }
}

/// The content of the last box, else the text after the last "answer is", else the whole text.
pub(super) fn final_text(completion: &str) -> Option<NormalText> {
    if completion.contains("\\boxed") {
        return None;
    }
    let lower = completion.to_ascii_lowercase();
    let after = ["answer is", "answer:"]
        .iter()
        .filter_map(|mark| lower.rfind(mark).map(|at| at + mark.len()))
        .max();
    let answer = completion.get(after.unwrap_or(0)..).unwrap_or(completion);
    (!answer.trim().is_empty()).then(|| NormalText::of(answer))
}

fn normalized(text: &str) -> String {
    let mut text = text.trim();
    for command in ["\\text{", "\\textbf{", "\\mathrm{", "\\textit{", "\\mathbf{", "\\boxed{"] {
        let inner = text.strip_prefix(command).and_then(|rest| rest.strip_suffix('}'));
        if let Some(inner) = inner.filter(|inner| !inner.contains(['{', '}'])) {
            text = inner;
        }
    }
    let is_mark = |c: char| matches!(c, ' ' | '*' | '$' | ':' | '"' | '\'' | '`');
    // a point before a number belongs to it
    let is_end = |c: char| is_mark(c) || matches!(c, '.' | ',');
    let text = text.trim_start_matches(is_mark).trim_end_matches(is_end);
    let inner = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let text = inner.filter(|inner| inner.chars().count() == 1).unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}
