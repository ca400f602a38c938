//! Python's `str.format`, as Jinja's sandbox allows it.

use super::arguments::CallArguments;
use super::display;
use super::failure::{TemplateFailure, failure};
use super::number_format::{NumberStyle, float, general, integer, padded};
use super::operators;
use super::value::PyValue;

/// Maximum width and precision.
const MAX_WIDTH: usize = 10_000;

/// `format.format(*arguments)`
pub(super) fn format(format: &str, arguments: &CallArguments) -> Result<String, TemplateFailure> {
    let mut fields = Placeholders { arguments, next: Some(0) };
    fields.fill(format, 2)
}

struct Placeholders<'a> {
    arguments: &'a CallArguments,
    /// Position of the next field without a number; none after a field with one.
    next: Option<usize>,
}

impl Placeholders<'_> {
    fn fill(&mut self, format: &str, depth: i32) -> Result<String, TemplateFailure> {
        if depth < 0 {
            return failure("Max string recursion exceeded");
        }
        let mut out = String::new();
        let mut rest = format;
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            if out.len() > display::MAX_TEXT {
                return failure("a text that is too long");
            }
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                out.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return failure("Single '}' encountered in format string");
            }
            let mut open = 1;
            let end = rest.find(|c: char| {
                open += i32::from(c == '{') - i32::from(c == '}');
                open == 0
            });
            let Some(end) = end else { return failure("expected '}' before end of string") };
            out.push_str(&self.field(&rest[..end], depth)?);
            rest = &rest[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    /// `name!conversion:specification`
    fn field(&mut self, field: &str, depth: i32) -> Result<String, TemplateFailure> {
        let name_end = field.find(['!', ':']).unwrap_or(field.len());
        let (name, rest) = field.split_at(name_end);
        let (conversion, rest) = match rest.strip_prefix('!') {
            Some(rest) => {
                let end = rest.find(':').unwrap_or(rest.len());
                (Some(&rest[..end]), &rest[end..])
            }
            None => (None, rest),
        };
        let value = self.value(name)?;
        let value = match conversion {
            None => value,
            Some("s") => PyValue::text(display::text(&value)),
            Some("r" | "a") => PyValue::text(display::repr(&value)),
            Some(other) => return failure(format!("Unknown conversion specifier {other:?}")),
        };
        let specification = self.fill(rest.strip_prefix(':').unwrap_or(""), depth - 1)?;
        formatted(&value, &specification)
    }

    fn value(&mut self, name: &str) -> Result<PyValue, TemplateFailure> {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut rest) = name.split_at(end);
        let idx = match (first.is_empty(), first.parse::<usize>(), self.next) {
            (true, _, Some(next)) => {
                self.next = Some(next + 1);
                Some(next)
            }
            (true, _, None) => {
                return failure("cannot switch from manual to automatic field numbering");
            }
            (false, Ok(idx), _) => {
                self.next = None;
                Some(idx)
            }
            (false, Err(_), _) => None,
        };
        let named = || self.arguments.named.iter().find(|(known, _)| known == first);
        let found = match idx {
            Some(idx) => self.arguments.positional.get(idx).cloned(),
            None => named().map(|(_, value)| value.clone()),
        };
        let Some(mut value) = found else {
            return failure(format!("no argument for the field '{{{first}}}'"));
        };
        while !rest.is_empty() {
            let (key, after) = match rest.strip_prefix('[') {
                Some(inner) => match inner.split_once(']') {
                    Some((key, after)) => (key, after),
                    None => return failure("Missing ']' in format string"),
                },
                None => {
                    let inner = &rest[1..];
                    let end = inner.find(['.', '[']).unwrap_or(inner.len());
                    inner.split_at(end)
                }
            };
            let key_value = match key.parse() {
                Ok(idx) => PyValue::Int(idx),
                Err(_) => PyValue::text(key),
            };
            value = match operators::item(&value, &key_value)? {
                Some(item) => item,
                None => return failure(format!("'{}' has no item '{key}'", value.type_name())),
            };
            rest = after;
        }
        Ok(value)
    }
}

/// `format(value, specification)`
fn formatted(value: &PyValue, specification: &str) -> Result<String, TemplateFailure> {
    if specification.is_empty() {
        return Ok(display::text(value));
    }
    let bad = || failure(format!("Invalid format specifier '{specification}'"));
    let mut style = NumberStyle::default();
    let chars: Vec<char> = specification.chars().collect();
    let mut at = 0;
    let is_align = |c: Option<&char>| c.is_some_and(|c| "<>^=".contains(*c));
    if is_align(chars.get(1)) {
        (style.fill, style.align) = (chars[0], Some(chars[1]));
        at = 2;
    } else if is_align(chars.first()) {
        style.align = Some(chars[0]);
        at = 1;
    }
    if let Some(sign) = chars.get(at).filter(|c| "+- ".contains(**c)) {
        style.sign = *sign;
        at += 1;
    }
    if chars.get(at) == Some(&'#') {
        style.is_alternate = true;
        at += 1;
    }
    if chars.get(at) == Some(&'0') {
        if style.align.is_none() {
            (style.fill, style.align) = ('0', Some('='));
        }
        at += 1;
    }
    let number = |at: &mut usize| {
        let digits: String = chars[*at..].iter().take_while(|c| c.is_ascii_digit()).collect();
        *at += digits.len();
        match (digits.is_empty(), digits.parse::<usize>().ok().filter(|n| *n <= MAX_WIDTH)) {
            (false, None) => failure("a width or precision that is too big"),
            (_, number) => Ok(number),
        }
    };
    style.width = number(&mut at)?.unwrap_or(0);
    if let Some(separator) = chars.get(at).filter(|c| [',', '_'].contains(c)) {
        style.grouping = Some(*separator);
        at += 1;
    }
    if chars.get(at) == Some(&'.') {
        at += 1;
        match number(&mut at)? {
            Some(precision) => style.precision = Some(precision),
            None => return bad(),
        }
    }
    let kind = chars.get(at).copied();
    if chars.len() > at + 1 {
        return bad();
    }
    match (value, kind) {
        (PyValue::Text(text), None | Some('s')) => {
            if style.align == Some('=') {
                if style.fill != '0' {
                    return bad();
                }
                style.align = Some('<');
            }
            let n = style.precision.unwrap_or(usize::MAX);
            Ok(padded(&text.chars().take(n).collect::<String>(), '<', &style))
        }
        (PyValue::Bool(_) | PyValue::Int(_), None | Some('d' | 'x' | 'X' | 'o' | 'b' | 'n')) => {
            let number = value.as_int().unwrap_or(0);
            Ok(integer(number, kind.unwrap_or('d'), &style))
        }
        (PyValue::Int(code), Some('c')) => {
            match u32::try_from(*code).ok().and_then(char::from_u32) {
                Some(c) => Ok(padded(&c.to_string(), '<', &style)),
                None => bad(),
            }
        }
        (_, Some(kind @ ('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%'))) => match value.as_float() {
            Some(number) => Ok(float(number, kind, &style)),
            None => bad(),
        },
        (PyValue::Float(number), None) => match style.precision {
            None => Ok(float(*number, 'r', &style)),
            Some(precision) => {
                let mut text = general(number.abs(), precision, false);
                if !text.contains(['.', 'e', 'n']) {
                    text.push_str(".0");
                }
                let sign = if *number < 0.0 { "-" } else { "" };
                Ok(padded(&format!("{sign}{text}"), '>', &style))
            }
        },
        _ => bad(),
    }
}
