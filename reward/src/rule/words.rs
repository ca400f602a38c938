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

/// The letter of a choice, A to J, that an answer is or begins with: `B`, `(B) 5`, `B. Paris`,
/// `\textbf{(B)}\ 5`, `Option B`. `None` where another letter of a choice follows.
pub(super) fn choice(text: &str) -> Option<char> {
    const NAMES: [&str; 5] = ["option", "choice", "answer", "the", "is"];
    let mut text = text.to_owned();
    for command in ["\\textbf", "\\text", "\\mathrm", "\\mathbf", "\\textit", "\\mathit"] {
        text = text.replace(command, "");
    }
    let is_mark = |c: char| c.is_whitespace() || "{}$*\\:_".contains(c);
    let mut rest = text.trim_matches(is_mark);
    while let Some((word, behind)) = rest.split_once(' ')
        && NAMES.iter().any(|name| word.eq_ignore_ascii_case(name))
    {
        rest = behind.trim_start_matches(is_mark);
    }
    let is_open = rest.starts_with('(');
    let rest = rest.strip_prefix('(').unwrap_or(rest).trim_start_matches(is_mark);
    let letter = rest.chars().next().filter(|c| ('A'..='J').contains(c))?;
    let behind = rest[1..].trim_start_matches(['}', '*', '_']);
    let is_marked = match behind.chars().next() {
        None | Some(')') => true,
        Some('.' | ':') => !is_open && !behind[1..].starts_with(|c: char| c.is_alphanumeric()),
        Some(' ') => ["because", "since"].iter().any(|word| behind[1..].starts_with(word)),
        Some(_) => false,
    };
    let mut others = behind.split(|c: char| !c.is_alphanumeric());
    let is_other = |word: &str| {
        word.len() == 1 && word.starts_with(|c: char| ('A'..='J').contains(&c) && c != letter)
    };
    (is_marked && !others.any(is_other)).then_some(letter)
}

/// The content of the last box, else the text after the last "answer is", else the whole text.
pub(super) fn final_text(completion: &str) -> Option<&str> {
    if completion.contains("\\boxed") {
        return None;
    }
    let lower = completion.to_ascii_lowercase();
    let after = ["answer is", "answer:", "option is", "choice is"]
        .iter()
        .filter_map(|mark| lower.rfind(mark).map(|at| at + mark.len()))
        .max();
    let answer = completion.get(after.unwrap_or(0)..).unwrap_or(completion);
    (!answer.trim().is_empty()).then_some(answer)
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
    // one behind a letter is a prime, unless there is another before the text
    let is_quoted = text.trim_start_matches(['*', '$', ' ', '`']).starts_with('\'');
    let is_end = |c: char| is_end(c) && (c != '\'' || is_quoted);
    let text = text.trim_start_matches(is_mark).trim_end_matches(is_end);
    let inner = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let text = inner.filter(|inner| inner.chars().count() == 1).unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}
