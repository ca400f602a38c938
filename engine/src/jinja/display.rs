//! Python's `str` and `repr` of values.

use super::value::{Callable, PyValue};

/// Number of bytes at which a text is too long for a template.
pub(super) const MAX_TEXT: usize = 1 << 24;

/// `str(value)`
pub(super) fn text(value: &PyValue) -> String {
    match value {
        PyValue::Undefined(_) => String::new(),
        PyValue::Text(text) => text.to_string(),
        other => repr(other),
    }
}

/// `repr(value)`
pub(super) fn repr(value: &PyValue) -> String {
    let mut out = String::new();
    write(value, false, &mut out);
    out
}

/// Writes a value, at most so much that a caller finds the whole too long. A namespace may hold
/// itself, so that one within another has no entries.
fn write(value: &PyValue, in_namespace: bool, out: &mut String) {
    if out.len() > MAX_TEXT {
        return;
    }
    let text = match value {
        PyValue::Undefined(_) => "Undefined".to_owned(),
        PyValue::None => "None".to_owned(),
        PyValue::Bool(value) => if *value { "True" } else { "False" }.to_owned(),
        PyValue::Int(value) => value.to_string(),
        PyValue::Float(value) => float(*value),
        PyValue::Text(text) => quoted(text),
        PyValue::List(items) => return write_items(["[", "]"], items, in_namespace, out),
        PyValue::Tuple(items) => {
            let close = if items.len() == 1 { ",)" } else { ")" };
            return write_items(["(", close], items, in_namespace, out);
        }
        PyValue::View(name, items) => {
            out.push_str(name);
            return write_items(["([", "])"], items, in_namespace, out);
        }
        PyValue::Dict(dict) => return write_entries(dict.entries(), in_namespace, out),
        PyValue::Namespace(_) if in_namespace => "<Namespace {...}>".to_owned(),
        PyValue::Namespace(dict) => {
            out.push_str("<Namespace ");
            write_entries(dict.borrow().entries(), true, out);
            ">".to_owned()
        }
        PyValue::Range(start, stop, 1) => format!("range({start}, {stop})"),
        PyValue::Range(start, stop, step) => format!("range({start}, {stop}, {step})"),
        PyValue::Loop(state) => format!("<LoopContext {}/{}>", state.idx + 1, state.items.len()),
        PyValue::Callable(callable) => match &**callable {
            Callable::Macro { name, .. } => format!("<Macro {}>", quoted(name)),
            Callable::Method { name, .. } => format!("<method {}>", quoted(name)),
            Callable::Function(name) => format!("<function {name}>"),
            Callable::Joiner { .. } => "<Joiner>".to_owned(),
        },
        PyValue::Generator(_) => "<generator>".to_owned(),
        PyValue::Cycler(_) => "<Cycler>".to_owned(),
    };
    out.push_str(&text);
}

/// What stands for a value in Python that has no text of its own, only a place in memory.
pub(super) fn without_text(value: &PyValue) -> Option<String> {
    match value {
        PyValue::Generator(_) => Some("a generator; `| list` gives its values".to_owned()),
        PyValue::Cycler(_) => Some("a cycler".to_owned()),
        PyValue::Callable(callable) => match &**callable {
            Callable::Macro { .. } => None,
            Callable::Method { name, .. } => Some(format!("the method `{name}` without a call")),
            Callable::Function(name) => Some(format!("the function `{name}` without a call")),
            Callable::Joiner { .. } => Some("a joiner without a call".to_owned()),
        },
        _ => None,
    }
}

fn write_items([open, close]: [&str; 2], items: &[PyValue], in_namespace: bool, out: &mut String) {
    out.push_str(open);
    for (idx, item) in items.iter().enumerate() {
        if idx > 0 {
            out.push_str(", ");
        }
        write(item, in_namespace, out);
    }
    out.push_str(close);
}

fn write_entries(entries: &[(PyValue, PyValue)], in_namespace: bool, out: &mut String) {
    out.push('{');
    for (idx, (key, value)) in entries.iter().enumerate() {
        if idx > 0 {
            out.push_str(", ");
        }
        write(key, in_namespace, out);
        out.push_str(": ");
        write(value, in_namespace, out);
    }
    out.push('}');
}

/// The shortest text that gives the number again, as Python writes it.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse().unwrap_or(0) {
        -4..16 => {
            let plain = value.to_string();
            if plain.contains('.') { plain } else { format!("{plain}.0") }
        }
        exponent => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", i32::abs(exponent))
        }
    }
}

/// A text in quotes: single ones, unless it has single ones alone.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => out.push_str(&match u32::from(c) {
                code @ ..0x100 => format!("\\x{code:02x}"),
                code @ 0x100..0x1_0000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    out.push(quote);
    out
}

/// Whether `repr` shows a character as it is: no control, format, private or separating one.
pub(super) fn is_printable(c: char) -> bool {
    let is_separator = c != ' ' && c.is_whitespace();
    let is_format = matches!(u32::from(c),
        0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f
        | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff | 0xfff9..=0xfffb | 0xe000..=0xf8ff
        | 0xe0001..=0xe007f | 0xf0000..=0x10_ffff);
    !(c.is_control() || is_separator || is_format)
}
