//! The searches against ones that look at every byte of a text for each candidate.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// The formulas of a text, each looked for on its own.
fn plain_formulas(text: &str) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..floor(text, at + MAX_FORMULA_BYTES)];
        let opened = DELIMITERS.iter().find(|(open, _)| rest.starts_with(open));
        let parsed = opened.and_then(|(open, close)| plain_delimited(rest, open, close));
        let Some((content, length)) = parsed.or_else(|| plain_fraction(rest)) else {
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
                write!(last.text, " ; {content}").unwrap();
                last.end = end;
            }
            _ => found.push(Candidate { start: at, end, text: content }),
        }
        at = end;
    }
    found
}

fn plain_delimited<'a>(rest: &'a str, open: &str, close: &str) -> Option<(&'a str, usize)> {
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
    let is_formula = !content.trim().is_empty()
        && (open != "$"
            || !(content.contains('\n') || content.ends_with(' ') && !content.starts_with(' ')));
    is_formula.then_some((content, open.len() + end + close.len()))
}

fn plain_fraction(rest: &str) -> Option<(&str, usize)> {
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

fn fields(found: impl IntoIterator<Item = Candidate>) -> Vec<(usize, usize, String)> {
    found.into_iter().map(|found| (found.start, found.end, found.text)).collect()
}

/// Parts of texts with formulas and numbers, whole and broken.
fn parts() -> impl Strategy<Value = String> {
    let parts =
        r"$~$$~\~\(~\)~\[~\]~\$~\\~\frac{1}{2}~-~\frac{~}~{~\%~%~ ~,~ and ~x~1~12,345~1e3~(~)~*";
    let more = "= ~−~€~+~/~.~ 5~answer~ is ~1 234~é~\n";
    let parts: Vec<_> = parts.split('~').chain(more.split('~')).collect();
    let part = prop::sample::select(parts);
    // some are longer than a formula or a number may be
    let long = prop::sample::select(vec!["x", " ", "1", "1+", "("]);
    let long = (long, prop::sample::select(vec![250_usize, 260, 2040, 2047]));
    let long = long.prop_map(|(part, n_bytes)| part.repeat(n_bytes / part.len()));
    let part = prop_oneof![20 => part.prop_map(str::to_owned), 1 => long];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn formulas_are_those_of_a_search_for_each(text in parts()) {
        prop_assert_eq!(fields(formulas(&text)), fields(plain_formulas(&text)));
    }

    #[test]
    fn last_number_is_that_of_all_candidates(
        text in parts(),
        from in 0_usize..80,
        n in 0_usize..80,
    ) {
        let all: Vec<_> = plain::candidates(&text, 0, text.len()).collect();
        let to = from + n;
        let between = all.iter().filter(|found| (from..=to).contains(&found.start)).cloned();
        let near = plain::candidates(&text, from.min(text.len()), to);
        if from <= text.len() {
            prop_assert_eq!(fields(near), fields(between));
        }
        let last = all.into_iter().max_by_key(|found| (found.end, text.len() - found.start));
        prop_assert_eq!(fields(plain::last(&text)), fields(last));
    }
}

#[test]
fn final_answer_takes_linear_time_for_texts_of_several_megabytes() {
    // each of them once took a time that grew with the square of the size, or seconds a megabyte
    let parts = [
        "It goes on. ",
        "$1$,",
        "$$\n\\$$",
        "\\(\\\\)",
        "\\(",
        "\\frac{1}{",
        "1 + ",
        "1 = ",
        "answer 1 = ",
        "final answer is ",
        "-\\frac{1}{2},",
        "(",
        "\\boxed 1 ",
    ];
    let began = Instant::now();
    for part in parts {
        let text = part.repeat((4 << 20) / part.len());
        assert_ne!(final_answer(&(text + "so it is 7")), FinalAnswer::Missing, "{part}");
    }
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
}
