//! Python's `format % values`.

use super::display;
use super::failure::{TemplateFailure, failure};
use super::number_format::{NumberStyle, float, integer, padded};
use super::value::PyValue;

/// Maximum width and precision.
const MAX_WIDTH: usize = 10_000;

/// Puts values in the places of a format.
pub(super) fn format(format: &str, values: &PyValue) -> Result<String, TemplateFailure> {
    let (list, is_mapping) = match values {
        PyValue::Tuple(items) => (items.to_vec(), false),
        PyValue::Dict(_) => (vec![values.clone()], true),
        other => (vec![other.clone()], false),
    };
    let mut values = Values { list, at: 0 };
    let mut by_name = false;
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        if out.len() > display::MAX_TEXT {
            return failure("a text that is too long");
        }
        rest = &rest[at + 1..];
        let mut named = None;
        if let Some(after) = rest.strip_prefix('(') {
            let Some(end) = after.find(')') else { return failure("incomplete format key") };
            let PyValue::Dict(dict) = &values.list[0] else {
                return failure("format requires a mapping");
            };
            by_name = true;
            let key = &after[..end];
            let Some(value) = dict.get_text(key) else { return failure(format!("key '{key}'")) };
            named = Some(value.clone());
            rest = &after[end + 1..];
        }
        let (style, kind) = style(&mut rest, &mut values)?;
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = match named {
            Some(value) => value,
            None => values.next()?,
        };
        out.push_str(&one(&value, kind, style)?);
    }
    out.push_str(rest);
    match values.at < values.list.len() && !by_name && !is_mapping {
        true => failure("not all arguments converted during string formatting"),
        false => Ok(out),
    }
}

struct Values {
    list: Vec<PyValue>,
    at: usize,
}

impl Values {
    fn next(&mut self) -> Result<PyValue, TemplateFailure> {
        self.at += 1;
        match self.list.get(self.at - 1) {
            Some(value) => Ok(value.clone()),
            None => failure("not enough arguments for format string"),
        }
    }
}

/// Flags, width, precision and type of a place.
fn style(rest: &mut &str, values: &mut Values) -> Result<(NumberStyle, char), TemplateFailure> {
    let mut style = NumberStyle::default();
    let take = |rest: &mut &str| {
        let c = rest.chars().next()?;
        *rest = &rest[c.len_utf8()..];
        Some(c)
    };
    let mut is_zero = false;
    while let Some(flag) = rest.chars().next().filter(|c| "-+ #0".contains(*c)) {
        match flag {
            '-' => style.align = Some('<'),
            '+' => style.sign = '+',
            ' ' if style.sign != '+' => style.sign = ' ',
            '#' => style.is_alternate = true,
            '0' => is_zero = true,
            _ => {}
        }
        take(rest);
    }
    let mut number = |rest: &mut &str| -> Result<Option<usize>, TemplateFailure> {
        if let Some(after) = rest.strip_prefix('*') {
            *rest = after;
            return match values.next()?.as_int() {
                Some(value) if value < 0 => failure("a negative width, which is not known here"),
                Some(value) => match usize::try_from(value).ok().filter(|n| *n <= MAX_WIDTH) {
                    Some(number) => Ok(Some(number)),
                    None => failure("width too big"),
                },
                None => failure("* wants int"),
            };
        }
        let n = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(n);
        *rest = after;
        match digits.is_empty() {
            true => Ok(None),
            false => match digits.parse::<usize>().ok().filter(|n| *n <= MAX_WIDTH) {
                Some(number) => Ok(Some(number)),
                None => failure("width too big"),
            },
        }
    };
    style.width = number(rest)?.unwrap_or(0);
    if let Some(after) = rest.strip_prefix('.') {
        *rest = after;
        style.precision = Some(number(rest)?.unwrap_or(0));
    }
    while rest.starts_with(['h', 'l', 'L']) {
        take(rest);
    }
    if is_zero && style.align.is_none() {
        (style.fill, style.align) = ('0', Some('='));
    }
    match take(rest) {
        Some(kind) => Ok((style, kind)),
        None => failure("incomplete format"),
    }
}

fn one(value: &PyValue, kind: char, mut style: NumberStyle) -> Result<String, TemplateFailure> {
    let wanted = |what: &str| {
        failure(format!("%{kind} format: {what} is required, not {}", value.type_name()))
    };
    match kind {
        's' | 'r' | 'a' => {
            let text = if kind == 's' { display::text(value) } else { display::repr(value) };
            let n = style.precision.unwrap_or(usize::MAX);
            let text: String = text.chars().take(n).collect();
            if style.align == Some('=') {
                (style.fill, style.align) = (' ', None);
            }
            Ok(padded(&text, '>', &style))
        }
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let number = match (value, "diu".contains(kind)) {
                (PyValue::Float(value), true) if value.abs() < 1e38 => Some(*value as i128),
                _ => value.as_int(),
            };
            let Some(number) = number else { return wanted("a real number") };
            let kind = if "iu".contains(kind) { 'd' } else { kind };
            Ok(integer(number, kind, &style))
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => match value.as_float() {
            Some(number) => Ok(float(number, kind, &style)),
            None => wanted("a real number"),
        },
        'c' => {
            let c = match value {
                PyValue::Text(text) if text.chars().count() == 1 => text.chars().next(),
                other => {
                    other.as_int().and_then(|c| u32::try_from(c).ok()).and_then(char::from_u32)
                }
            };
            match c {
                Some(c) => Ok(padded(&c.to_string(), '>', &style)),
                None => wanted("an int or a unicode character"),
            }
        }
        other => failure(format!("unsupported format character '{other}'")),
    }
}
