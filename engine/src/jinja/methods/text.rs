//! Methods of texts.

use super::split::{is_space, lines, partition, split};
use crate::jinja::arguments::{CallArguments, int_or, text_or};
use crate::jinja::display;
use crate::jinja::failure::{TemplateFailure, failure};
use crate::jinja::format;
use crate::jinja::operators;
use crate::jinja::value::{PyDict, PyValue};

pub(super) const NAMES: [&str; 45] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];

/// The text with `old` replaced, at most `n` times unless `n` is negative.
pub(in crate::jinja) fn replaced(
    text: &str,
    old: &str,
    new: &str,
    n: i128,
) -> Result<String, TemplateFailure> {
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    if new.len() > old.len() {
        let n_found = text.matches(old).take(n).count();
        if text.len().saturating_add(n_found.saturating_mul(new.len())) > 2 * display::MAX_TEXT {
            return failure("a text that is too long");
        }
    }
    Ok(text.replacen(old, new, n))
}

/// Maximum number of characters that padding adds.
const MAX_WIDTH: i128 = 1 << 20;

type Called = Result<PyValue, TemplateFailure>;

/// Calls a method of a text.
pub(super) fn call(text: &str, name: &str, arguments: &CallArguments) -> Called {
    match name {
        "split" | "rsplit" => split(text, name, arguments),
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = arguments.bind(name, ["chars"])?;
            Ok(PyValue::text(stripped(text, name, chars.as_ref())?))
        }
        "startswith" | "endswith" => affix(text, name, arguments),
        "find" | "rfind" | "index" | "rindex" | "count" => search(text, name, arguments),
        "replace" => {
            let names = ["old", "new", "count"];
            let [old, new, count] = arguments.bind_required(name, names, 2)?;
            let (old, new) = (text_or(old.as_ref(), "")?, text_or(new.as_ref(), "")?);
            replaced(text, old, new, int_or(count.as_ref(), -1)?).map(PyValue::text)
        }
        "join" => {
            let [items] = arguments.bind_required(name, ["iterable"], 1)?;
            let items = items.unwrap_or(PyValue::None).items()?;
            let (mut parts, mut n_bytes) = (Vec::new(), 0);
            for (idx, item) in items.iter().enumerate() {
                match item.as_text() {
                    Some(part) => {
                        n_bytes += part.len() + text.len();
                        if n_bytes > 2 * display::MAX_TEXT {
                            return failure("a text that is too long");
                        }
                        parts.push(part);
                    }
                    None => {
                        return failure(format!(
                            "sequence item {idx}: expected str instance, {} found",
                            item.type_name()
                        ));
                    }
                }
            }
            Ok(PyValue::text(parts.join(text)))
        }
        "partition" | "rpartition" => partition(text, name, arguments),
        "removeprefix" | "removesuffix" => {
            let [affix] = arguments.bind_required(name, ["affix"], 1)?;
            let affix = text_or(affix.as_ref(), "")?;
            let rest = match name {
                "removeprefix" => text.strip_prefix(affix),
                _ => text.strip_suffix(affix),
            };
            Ok(PyValue::text(rest.unwrap_or(text)))
        }
        "format" => Ok(PyValue::text(format::format(text, arguments)?)),
        "format_map" => {
            let [mapping] = arguments.bind_required(name, ["mapping"], 1)?;
            let Some(PyValue::Dict(dict)) = mapping else {
                return failure("format_map() wants a mapping");
            };
            Ok(PyValue::text(format::format(text, &named(&dict))?))
        }
        "center" | "ljust" | "rjust" | "zfill" => pad(text, name, arguments),
        "splitlines" => {
            let [keep] = arguments.bind(name, ["keepends"])?;
            Ok(PyValue::list(lines(text, keep.is_some_and(|keep| keep.is_true()))))
        }
        "expandtabs" => {
            let [size] = arguments.bind(name, ["tabsize"])?;
            Ok(PyValue::text(expand_tabs(text, int_or(size.as_ref(), 8)?)))
        }
        "translate" => translate(text, arguments),
        _ => {
            arguments.bind(name, [])?;
            Ok(plain(text, name))
        }
    }
}

/// Methods without arguments.
fn plain(text: &str, name: &str) -> PyValue {
    let all = |is: fn(char) -> bool| PyValue::Bool(!text.is_empty() && text.chars().all(is));
    let cased = |is: fn(char) -> bool, is_not: fn(char) -> bool| {
        PyValue::Bool(text.chars().any(is) && !text.chars().any(is_not))
    };
    match name {
        "lower" => PyValue::text(text.to_lowercase()),
        "casefold" => PyValue::text(text.to_lowercase().replace('ß', "ss")),
        "upper" => PyValue::text(text.to_uppercase()),
        "capitalize" => PyValue::text(capitalized(text)),
        "title" => PyValue::text(titled(text)),
        "swapcase" => PyValue::text(text.chars().map(swapped).collect::<String>()),
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isascii" => PyValue::Bool(text.is_ascii()),
        "isdecimal" => all(is_decimal),
        "isdigit" => all(|c| is_decimal(c) || "²³¹⁰⁴⁵⁶⁷⁸⁹₀₁₂₃₄₅₆₇₈₉①②③④⑤⑥⑦⑧⑨".contains(c)),
        "isnumeric" => all(char::is_numeric),
        "isspace" => all(is_space),
        "islower" => cased(char::is_lowercase, char::is_uppercase),
        "isupper" => cased(char::is_uppercase, char::is_lowercase),
        "istitle" => PyValue::Bool(text.chars().any(char::is_alphabetic) && titled(text) == text),
        "isprintable" => PyValue::Bool(text.chars().all(display::is_printable)),
        _ => {
            let mut chars = text.chars();
            let is_first = chars.next().is_some_and(|c| c == '_' || c.is_alphabetic());
            PyValue::Bool(is_first && chars.all(|c| c == '_' || c.is_alphanumeric()))
        }
    }
}

/// A decimal digit of any script.
fn is_decimal(c: char) -> bool {
    const ZEROS: [u32; 12] =
        [0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xe50, 0xff10];
    ZEROS.iter().any(|zero| (*zero..zero + 10).contains(&u32::from(c)))
}

fn swapped(c: char) -> String {
    if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
}

/// The first letter large, all others small.
pub(crate) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().collect::<String>());
    first.unwrap_or_default() + &chars.as_str().to_lowercase()
}

/// The first letter of each run of letters large.
fn titled(text: &str) -> String {
    let mut is_inside = false;
    let mut out = String::new();
    for c in text.chars() {
        match is_inside {
            true => out.extend(c.to_lowercase()),
            false => out.extend(c.to_uppercase()),
        }
        is_inside = c.is_uppercase() || c.is_lowercase();
    }
    out
}

fn named(dict: &PyDict) -> CallArguments {
    let entry = |(key, value): &(PyValue, PyValue)| (display::text(key), value.clone());
    CallArguments { positional: Vec::new(), named: dict.entries().iter().map(entry).collect() }
}

/// Text without characters at its ends: of `chars`, or white space.
pub(crate) fn stripped<'t>(
    text: &'t str,
    name: &str,
    chars: Option<&PyValue>,
) -> Result<&'t str, TemplateFailure> {
    let chars = chars.filter(|chars| !matches!(chars, PyValue::None));
    let set = chars.map(|chars| text_or(Some(chars), "")).transpose()?;
    let is_cut = |c: char| set.map_or_else(|| is_space(c), |set| set.contains(c));
    let text = if name == "rstrip" { text } else { text.trim_start_matches(is_cut) };
    Ok(if name == "lstrip" { text } else { text.trim_end_matches(is_cut) })
}

/// The part of a text between two positions in characters, and the first one.
fn window<'t>(
    text: &'t str,
    start: Option<&PyValue>,
    end: Option<&PyValue>,
) -> Result<Option<(&'t str, usize)>, TemplateFailure> {
    let len = text.chars().count() as i128;
    let given = |value: Option<&PyValue>, default: i128| {
        let value = value.filter(|value| !matches!(value, PyValue::None));
        let value = int_or(value, default)?;
        Ok::<i128, TemplateFailure>(if value < 0 { (value + len).max(0) } else { value })
    };
    let (start, end) = (given(start, 0)?, given(end, len)?.min(len));
    if start > end {
        return Ok(None);
    }
    let byte = |at: i128| text.char_indices().nth(at as usize).map_or(text.len(), |(at, _)| at);
    Ok(Some((&text[byte(start)..byte(end)], start as usize)))
}

fn affix(text: &str, name: &str, arguments: &CallArguments) -> Called {
    let names = ["prefix", "start", "end"];
    let [affix, start, end] = arguments.bind_required(name, names, 1)?;
    let affixes = match affix {
        Some(PyValue::Tuple(items)) => items.to_vec(),
        other => vec![other.unwrap_or(PyValue::None)],
    };
    let window = window(text, start.as_ref(), end.as_ref())?;
    let mut is_any = false;
    for affix in &affixes {
        let Some(affix) = affix.defined()?.as_text() else {
            return failure(format!(
                "{name} first arg must be str or a tuple of str, not {}",
                affix.type_name()
            ));
        };
        is_any |= window.is_some_and(|(text, _)| match name {
            "startswith" => text.starts_with(affix),
            _ => text.ends_with(affix),
        });
    }
    Ok(PyValue::Bool(is_any))
}

fn search(text: &str, name: &str, arguments: &CallArguments) -> Called {
    let names = ["sub", "start", "end"];
    let [part, start, end] = arguments.bind_required(name, names, 1)?;
    let part = text_or(part.as_ref(), "")?;
    let window = window(text, start.as_ref(), end.as_ref())?;
    if name == "count" {
        let n = window.map_or(0, |(text, _)| text.matches(part).count());
        return Ok(PyValue::Int(n as i128));
    }
    let found = window.and_then(|(text, start)| {
        let at = if name.starts_with('r') { text.rfind(part) } else { text.find(part) }?;
        Some((start + text[..at].chars().count()) as i128)
    });
    match found {
        Some(at) => Ok(PyValue::Int(at)),
        None if name.ends_with("find") => Ok(PyValue::Int(-1)),
        None => failure("substring not found"),
    }
}

fn pad(text: &str, name: &str, arguments: &CallArguments) -> Called {
    let [width, fill] = arguments.bind_required(name, ["width", "fillchar"], 1)?;
    let width = int_or(width.as_ref(), 0)?;
    if width > MAX_WIDTH {
        return failure("width too big");
    }
    let fill = text_or(fill.as_ref(), " ")?;
    if fill.chars().count() != 1 {
        return failure("The fill character must be exactly one character long");
    }
    let len = text.chars().count();
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(len);
    let (before, after) = match name {
        "ljust" => (0, missing),
        "rjust" => (missing, 0),
        "zfill" => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            return Ok(PyValue::text(format!("{sign}{}{digits}", "0".repeat(missing))));
        }
        // Python puts the odd one before where the width is odd
        _ => {
            let before = missing / 2 + (missing & width as usize & 1);
            (before, missing - before)
        }
    };
    Ok(PyValue::text(format!("{}{text}{}", fill.repeat(before), fill.repeat(after))))
}

fn expand_tabs(text: &str, size: i128) -> String {
    let size = usize::try_from(size).unwrap_or(0).min(MAX_WIDTH as usize);
    let (mut out, mut column) = (String::new(), 0);
    for c in text.chars() {
        match c {
            '\t' => {
                let n = if size > 0 { size - column % size } else { 0 };
                out.push_str(&" ".repeat(n));
                column += n;
            }
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            c => {
                out.push(c);
                column += 1;
            }
        }
    }
    out
}

/// Replaces characters by a dictionary of their codes.
fn translate(text: &str, arguments: &CallArguments) -> Called {
    let [table] = arguments.bind_required("translate", ["table"], 1)?;
    let table = table.unwrap_or(PyValue::None);
    let mut out = String::new();
    for c in text.chars() {
        if out.len() > display::MAX_TEXT {
            return failure("a text that is too long");
        }
        match operators::item(&table, &PyValue::Int(u32::from(c).into()))? {
            None => out.push(c),
            Some(PyValue::None) => {}
            Some(PyValue::Text(to)) => out.push_str(&to),
            Some(to) => {
                let to = to.as_int().and_then(|code| u32::try_from(code).ok());
                out.extend(to.and_then(char::from_u32));
            }
        }
    }
    Ok(PyValue::text(out))
}
