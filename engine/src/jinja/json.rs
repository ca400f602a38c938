//! JSON in and out: messages as values in the order of their keys, and Python's `json.dumps`.

use std::fmt;
use std::rc::Rc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::display;
use super::failure::{TemplateFailure, failure};
use super::value::{PyDict, PyValue};

impl<'de> Deserialize<'de> for PyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = PyValue;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<PyValue, E> {
        Ok(PyValue::None)
    }

    fn visit_bool<E>(self, value: bool) -> Result<PyValue, E> {
        Ok(PyValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<PyValue, E> {
        Ok(PyValue::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<PyValue, E> {
        Ok(PyValue::Int(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<PyValue, E> {
        Ok(PyValue::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<PyValue, E> {
        Ok(PyValue::text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PyValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(PyValue::list(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PyValue, A::Error> {
        let mut dict = PyDict::default();
        while let Some((key, value)) = map.next_entry::<String, PyValue>()? {
            dict.insert(PyValue::text(key), value);
        }
        Ok(PyValue::Dict(Rc::new(dict)))
    }
}

/// Settings of `json.dumps`.
pub(super) struct JsonStyle {
    pub(super) ensure_ascii: bool,
    /// Text of one level of indentation.
    pub(super) indent: Option<String>,
    pub(super) item_separator: String,
    pub(super) key_separator: String,
    pub(super) sort_keys: bool,
}

/// `json.dumps(value)`
pub(super) fn dumps(value: &PyValue, style: &JsonStyle) -> Result<String, TemplateFailure> {
    let mut out = String::new();
    write(value, style, 0, &mut out)?;
    Ok(out)
}

fn write(
    value: &PyValue,
    style: &JsonStyle,
    depth: usize,
    out: &mut String,
) -> Result<(), TemplateFailure> {
    match value {
        PyValue::None => out.push_str("null"),
        PyValue::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        PyValue::Int(value) => out.push_str(&value.to_string()),
        PyValue::Float(value) => out.push_str(&number(*value)),
        PyValue::Text(text) => quote(text, style.ensure_ascii, out),
        PyValue::List(items) | PyValue::Tuple(items) => {
            let write_item = |item: &PyValue, out: &mut String| write(item, style, depth + 1, out);
            brackets(['[', ']'], items, style, depth, out, write_item)?;
        }
        PyValue::Dict(dict) => {
            let mut entries = dict.entries().to_vec();
            if style.sort_keys {
                let mut failed = Ok(());
                entries.sort_by(|(a, _), (b, _)| {
                    a.compare(b).unwrap_or_else(|error| {
                        failed = Err(error);
                        std::cmp::Ordering::Equal
                    })
                });
                failed?;
            }
            let write_entry = |(key, value): &(PyValue, PyValue), out: &mut String| {
                quote(&key_text(key)?, style.ensure_ascii, out);
                out.push_str(&style.key_separator);
                write(value, style, depth + 1, out)
            };
            brackets(['{', '}'], &entries, style, depth, out, write_entry)?;
        }
        other => {
            return failure(format!(
                "Object of type {} is not JSON serializable",
                other.type_name()
            ));
        }
    }
    Ok(())
}

fn brackets<T>(
    [open, close]: [char; 2],
    items: &[T],
    style: &JsonStyle,
    depth: usize,
    out: &mut String,
    write_item: impl Fn(&T, &mut String) -> Result<(), TemplateFailure>,
) -> Result<(), TemplateFailure> {
    let new_line = |depth: usize, out: &mut String| {
        if let Some(indent) = &style.indent {
            out.push('\n');
            for _ in 0..depth {
                out.push_str(indent);
            }
        }
    };
    out.push(open);
    for (idx, item) in items.iter().enumerate() {
        if idx > 0 {
            out.push_str(&style.item_separator);
        }
        if out.len() > display::MAX_TEXT {
            return failure("a text that is too long");
        }
        new_line(depth + 1, out);
        write_item(item, out)?;
    }
    if !items.is_empty() {
        new_line(depth, out);
    }
    out.push(close);
    Ok(())
}

/// A key as text: JSON has no others.
fn key_text(key: &PyValue) -> Result<String, TemplateFailure> {
    match key {
        PyValue::Text(text) => Ok(text.to_string()),
        PyValue::None => Ok("null".to_owned()),
        PyValue::Bool(value) => Ok(value.to_string()),
        PyValue::Int(value) => Ok(value.to_string()),
        PyValue::Float(value) => Ok(number(*value)),
        other => failure(format!(
            "keys must be str, int, float, bool or None, not {}",
            other.type_name()
        )),
    }
}

fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        value => display::float(value),
    }
}

fn quote(text: &str, ensure_ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || ensure_ascii && !c.is_ascii() => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
