//! Methods that cut a text into parts.

use crate::jinja::arguments::{CallArguments, int_or, text_or};
use crate::jinja::failure::{TemplateFailure, failure};
use crate::jinja::value::PyValue;

type Called = Result<PyValue, TemplateFailure>;

/// White space of Python's `str`.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

pub(super) fn split(text: &str, name: &str, arguments: &CallArguments) -> Called {
    let [separator, limit] = arguments.bind(name, ["sep", "maxsplit"])?;
    let n = match int_or(limit.as_ref(), -1)? {
        ..0 => usize::MAX,
        n => n as usize,
    };
    let separator = separator.filter(|separator| !matches!(separator, PyValue::None));
    let from_right = name == "rsplit";
    let mut parts: Vec<&str> = match &separator {
        Some(separator) => {
            let separator = text_or(Some(separator), "")?;
            if separator.is_empty() {
                return failure("empty separator");
            }
            match from_right {
                true => text.rsplitn(n.saturating_add(1), separator).collect(),
                false => text.splitn(n.saturating_add(1), separator).collect(),
            }
        }
        None => words(text, n, from_right),
    };
    if from_right {
        parts.reverse();
    }
    Ok(PyValue::list(parts.into_iter().map(PyValue::text).collect()))
}

/// Parts between runs of white space, at most `n` of them cut off.
fn words(text: &str, n: usize, from_right: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        rest = match from_right {
            true => rest.trim_end_matches(is_space),
            false => rest.trim_start_matches(is_space),
        };
        if rest.is_empty() {
            return parts;
        }
        if parts.len() == n {
            let last = match from_right {
                true => rest.trim_start_matches(is_space),
                false => rest.trim_end_matches(is_space),
            };
            // Python keeps the far end of the rest as it is
            let last = if n == usize::MAX { last } else { rest };
            parts.push(last);
            return parts;
        }
        let at = match from_right {
            true => rest.rfind(is_space).map(|at| {
                let c = rest[at..].chars().next().map_or(1, char::len_utf8);
                (&rest[at + c..], &rest[..at])
            }),
            false => rest.find(is_space).map(|at| rest.split_at(at)),
        };
        match at {
            Some((part, left)) => {
                parts.push(part);
                rest = left;
            }
            None => {
                parts.push(rest);
                return parts;
            }
        }
    }
}

pub(super) fn partition(text: &str, name: &str, arguments: &CallArguments) -> Called {
    let [separator] = arguments.bind_required(name, ["sep"], 1)?;
    let separator = text_or(separator.as_ref(), "")?;
    if separator.is_empty() {
        return failure("empty separator");
    }
    let parts = match name {
        "partition" => match text.split_once(separator) {
            Some((before, after)) => [before, separator, after],
            None => [text, "", ""],
        },
        _ => match text.rsplit_once(separator) {
            Some((before, after)) => [before, separator, after],
            None => ["", "", text],
        },
    };
    Ok(PyValue::tuple(parts.into_iter().map(PyValue::text).collect()))
}

pub(super) fn lines(text: &str, keeps_ends: bool) -> Vec<PyValue> {
    let is_end = |c: char| "\n\r\u{b}\u{c}\u{1c}\u{1d}\u{1e}\u{85}\u{2028}\u{2029}".contains(c);
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let at = rest.find(is_end).unwrap_or(rest.len());
        let n_end = if rest[at..].starts_with("\r\n") {
            2
        } else {
            rest[at..].chars().next().map_or(0, char::len_utf8)
        };
        lines.push(PyValue::text(if keeps_ends { &rest[..at + n_end] } else { &rest[..at] }));
        rest = &rest[at + n_end..];
    }
    lines
}
