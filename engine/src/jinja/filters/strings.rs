//! Filters of texts. Other values are written as text first.

use super::wrap::WrapStyle;
use crate::jinja::arguments::{CallArguments, int_or, text_or};
use crate::jinja::display;
use crate::jinja::failure::{TemplateFailure, failure};
use crate::jinja::methods;
use crate::jinja::value::PyValue;

pub(super) const NAMES: [&str; 20] = [
    "capitalize",
    "center",
    "e",
    "escape",
    "filesizeformat",
    "forceescape",
    "indent",
    "lower",
    "replace",
    "safe",
    "string",
    "striptags",
    "title",
    "trim",
    "truncate",
    "upper",
    "urlencode",
    "wordcount",
    "wordwrap",
    "xmlattr",
];

type Filtered = Result<PyValue, TemplateFailure>;

pub(super) fn apply(name: &str, value: &PyValue, arguments: &CallArguments) -> Filtered {
    let text = display::text(value);
    let method = |name: &str, arguments: &CallArguments| {
        methods::call(&PyValue::text(&text[..]), name, arguments)
    };
    match name {
        "lower" | "upper" | "capitalize" => method(name, arguments),
        "title" => Ok(PyValue::text(title(&text))),
        "trim" => {
            let [chars] = arguments.bind(name, ["chars"])?;
            method("strip", &CallArguments::of(chars.into_iter().collect()))
        }
        "string" => Ok(PyValue::text(text)),
        "safe" => Ok(PyValue::text(text)),
        "e" | "escape" | "forceescape" => Ok(PyValue::text(escaped(&text))),
        "replace" => {
            let [old, new, count] = arguments.bind_required(name, ["old", "new", "count"], 2)?;
            let as_text = |value: Option<PyValue>| display::text(&value.unwrap_or(PyValue::None));
            let (old, new) = (as_text(old), as_text(new));
            let n = match count {
                None | Some(PyValue::None) => -1,
                Some(count) => int_or(Some(&count), -1)?,
            };
            methods::replaced(&text, &old, &new, n).map(PyValue::text)
        }
        "center" => {
            let [width] = arguments.bind(name, ["width"])?;
            let width = width.unwrap_or(PyValue::Int(80));
            method("center", &CallArguments::of(vec![width]))
        }
        "filesizeformat" => file_size(value, arguments),
        "xmlattr" => xml_attributes(value, arguments),
        "wordcount" => Ok(PyValue::Int(n_words(&text) as i128)),
        "indent" => indent(&text, arguments),
        "truncate" => truncate(&text, arguments),
        "wordwrap" => wrap(&text, arguments),
        "striptags" => Ok(PyValue::text(without_tags(&text))),
        _ => url_encode(value, &text),
    }
}

fn n_words(text: &str) -> usize {
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    text.split(|c: char| !is_word(c)).filter(|word| !word.is_empty()).count()
}

/// Large first letters after white space, hyphens and opening brackets.
fn title(text: &str) -> String {
    let is_break = |c: char| c.is_whitespace() || "-({[<".contains(c);
    let mut out = String::new();
    let mut is_start = true;
    for c in text.chars() {
        match is_start {
            true => out.extend(c.to_uppercase()),
            false => out.extend(c.to_lowercase()),
        }
        is_start = is_break(c);
    }
    out
}

fn indent(text: &str, arguments: &CallArguments) -> Filtered {
    let [width, first, blank] = arguments.bind("indent", ["width", "first", "blank"])?;
    let indent = match width {
        Some(PyValue::Text(text)) => text.to_string(),
        other => " ".repeat(int_or(other.as_ref(), 4)?.clamp(0, 1 << 16) as usize),
    };
    let is_set = |flag: Option<PyValue>| flag.is_some_and(|flag| flag.is_true());
    let (is_first, is_blank) = (is_set(first), is_set(blank));
    // a newline at the end begins a last, empty line
    let with_end = format!("{text}\n");
    let lines = methods::call(&PyValue::text(with_end), "splitlines", &CallArguments::default())?;
    let lines: Vec<String> = lines.items()?.iter().map(display::text).collect();
    let mut out = String::new();
    for (idx, line) in lines.iter().enumerate() {
        if idx > 0 {
            out.push('\n');
        }
        let is_indented = if idx == 0 { is_first } else { is_blank || !line.is_empty() };
        if is_indented {
            out.push_str(&indent);
        }
        out.push_str(line);
    }
    Ok(PyValue::text(out))
}

fn truncate(text: &str, arguments: &CallArguments) -> Filtered {
    let names = ["length", "killwords", "end", "leeway"];
    let [length, kill, end, leeway] = arguments.bind("truncate", names)?;
    let length = int_or(length.as_ref(), 255)?.max(0) as usize;
    let leeway = int_or(leeway.as_ref(), 5)?.max(0) as usize;
    let end = text_or(end.as_ref(), "...")?;
    let n_end = end.chars().count();
    if length < n_end {
        return failure(format!("expected length >= {n_end}, got {length}"));
    }
    if text.chars().count() <= length + leeway {
        return Ok(PyValue::text(text));
    }
    let cut: String = text.chars().take(length - n_end).collect();
    let cut = match kill.is_some_and(|kill| kill.is_true()) {
        true => &cut[..],
        false => cut.rsplit_once(' ').map_or(&cut[..], |(before, _)| before),
    };
    Ok(PyValue::text(format!("{cut}{end}")))
}

/// Lines of at most `width` characters, cut at blanks.
/// Maximum length of a text that is broken into lines.
const MAX_WRAPPED: usize = 1 << 20;

fn wrap(text: &str, arguments: &CallArguments) -> Filtered {
    let names = ["width", "break_long_words", "wrapstring", "break_on_hyphens"];
    let [width, breaks, newline, hyphens] = arguments.bind("wordwrap", names)?;
    let style = WrapStyle {
        width: int_or(width.as_ref(), 79)?.clamp(1, 1 << 20) as usize,
        breaks_long_words: breaks.is_none_or(|breaks| breaks.is_true()),
        breaks_at_hyphens: hyphens.is_none_or(|hyphens| hyphens.is_true()),
    };
    let newline = text_or(newline.as_ref(), "\n")?;
    if text.len() > MAX_WRAPPED {
        return failure(format!("wordwrap of more than {MAX_WRAPPED} bytes"));
    }
    let paragraphs = methods::call(&PyValue::text(text), "splitlines", &CallArguments::default())?;
    let wrapped = paragraphs
        .items()?
        .into_iter()
        .map(|paragraph| style.lines(paragraph.as_text().unwrap_or_default()).join(newline));
    Ok(PyValue::text(wrapped.collect::<Vec<_>>().join(newline)))
}

fn escaped(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('>', "&gt;").replace('<', "&lt;");
    escaped.replace('\'', "&#39;").replace('"', "&#34;")
}

/// A number of bytes with its unit.
fn file_size(value: &PyValue, arguments: &CallArguments) -> Filtered {
    let [is_binary] = arguments.bind("filesizeformat", ["binary"])?;
    let is_binary = is_binary.is_some_and(|flag| flag.is_true());
    let (base, end) = if is_binary { (1024.0, "iB") } else { (1000.0, "B") };
    let Some(bytes) = value.defined()?.as_float() else {
        return failure(format!("wanted a number, not {}", value.type_name()));
    };
    if bytes == 1.0 {
        return Ok(PyValue::text("1 Byte"));
    }
    if bytes < base {
        return Ok(PyValue::text(format!("{} Bytes", bytes.trunc())));
    }
    let prefixes = [("k", "K"), ("M", "M"), ("G", "G"), ("T", "T")];
    let prefixes = [&prefixes[..], &[("P", "P"), ("E", "E"), ("Z", "Z"), ("Y", "Y")]].concat();
    let mut unit = base;
    for (idx, (decimal, binary)) in prefixes.iter().enumerate() {
        unit = base.powi(idx as i32 + 2);
        if bytes < unit || idx + 1 == prefixes.len() {
            let prefix = if is_binary { binary } else { decimal };
            return Ok(PyValue::text(format!("{:.1} {prefix}{end}", base * bytes / unit)));
        }
    }
    failure(format!("{bytes} bytes are more than {unit}"))
}

/// Attributes of an XML element: those of a dictionary that are neither missing nor `None`.
fn xml_attributes(value: &PyValue, arguments: &CallArguments) -> Filtered {
    let [autospace] = arguments.bind("xmlattr", ["autospace"])?;
    let PyValue::Dict(dict) = value else {
        return failure(format!("'{}' object has no attribute 'items'", value.type_name()));
    };
    let mut parts = Vec::new();
    for (name, value) in dict.entries() {
        if matches!(value, PyValue::None | PyValue::Undefined(_)) {
            continue;
        }
        let name = display::text(name);
        if name.contains(|c: char| c.is_whitespace() || "/>=".contains(c)) {
            return failure(format!("invalid character in attribute name: {name:?}"));
        }
        parts.push(format!("{}=\"{}\"", escaped(&name), escaped(&display::text(value))));
    }
    let has_space = autospace.is_none_or(|flag| flag.is_true()) && !parts.is_empty();
    Ok(PyValue::text(format!("{}{}", if has_space { " " } else { "" }, parts.join(" "))))
}

fn without_tags(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        let end = match rest[at..].starts_with("<!--") {
            true => rest[at..].find("-->").map(|end| at + end + 3),
            false => rest[at..].find('>').map(|end| at + end + 1),
        };
        match end {
            Some(end) => rest = &rest[end..],
            None => {
                out.push_str(&rest[at..]);
                rest = "";
            }
        }
    }
    out.push_str(rest);
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn url_encode(value: &PyValue, text: &str) -> Filtered {
    let quote = |text: &str, safe: &str| -> String {
        let mut out = String::new();
        for byte in text.bytes() {
            let c = char::from(byte);
            match c.is_ascii_alphanumeric() || "_.-~".contains(c) || safe.contains(c) {
                true => out.push(c),
                false => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    };
    let pairs = match value {
        PyValue::Dict(dict) => dict.entries().to_vec(),
        PyValue::List(_) | PyValue::Tuple(_) => {
            let mut pairs = Vec::new();
            for item in value.items()? {
                match &item.items()?[..] {
                    [key, value] => pairs.push((key.clone(), value.clone())),
                    _ => return failure("urlencode wants pairs"),
                }
            }
            pairs
        }
        _ => return Ok(PyValue::text(quote(text, "/"))),
    };
    let plus = |value: &PyValue| quote(&display::text(value), "").replace("%20", "+");
    let pair = |(key, value): &(PyValue, PyValue)| format!("{}={}", plus(key), plus(value));
    Ok(PyValue::text(pairs.iter().map(pair).collect::<Vec<_>>().join("&")))
}
