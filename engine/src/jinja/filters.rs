//! Jinja's filters.

mod lookup;
mod sequences;
mod strings;
mod wrap;

use lookup::lookup;

use super::arguments::{CallArguments, int_or};
use super::checks;
use super::display;
use super::failure::{TemplateFailure, failure};
use super::json::{JsonStyle, dumps};
use super::methods;
use super::percent;
use super::value::PyValue;

type Filtered = Result<PyValue, TemplateFailure>;

/// Names of all filters.
const NAMES: [&str; 52] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "filesizeformat",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
    "wordwrap",
    "xmlattr",
];

/// Whether a filter of this name exists.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Work of a filter: how much of the value it walks through.
pub(super) fn work(name: &str, value: &PyValue) -> usize {
    const DEEP: [&str; 11] = [
        "dictsort",
        "groupby",
        "join",
        "max",
        "min",
        "pprint",
        "sort",
        "string",
        "tojson",
        "unique",
        "urlencode",
    ];
    let size = value.extent().size;
    if let Some(text) = value.as_text() {
        return text.len() / 16;
    }
    match name {
        "attr" | "d" | "default" => 0,
        _ if DEEP.contains(&name) => size,
        "map" | "reject" | "rejectattr" | "select" | "selectattr" => size / 4,
        _ => value.len().unwrap_or(0) / 4,
    }
}

/// `value | name(arguments)`
pub(super) fn apply(name: &str, value: &PyValue, arguments: &CallArguments) -> Filtered {
    match name {
        "default" | "d" => {
            let [default, is_boolean] = arguments.bind(name, ["default_value", "boolean"])?;
            let is_boolean = is_boolean.is_some_and(|flag| flag.is_true());
            match value.is_undefined() || is_boolean && !value.is_true() {
                true => Ok(default.unwrap_or(PyValue::text(""))),
                false => Ok(value.clone()),
            }
        }
        "tojson" => to_json(value, arguments),
        "length" | "count" => match value.len() {
            Some(len) => Ok(PyValue::Int(len as i128)),
            None => failure(format!("object of type '{}' has no len()", value.type_name())),
        },
        "int" => to_int(value, arguments),
        "float" => {
            let [default] = arguments.bind(name, ["default"])?;
            match value.defined()? {
                PyValue::Text(text) => {
                    let number = parse_float(text).map(PyValue::Float);
                    Ok(number.or(default).unwrap_or(PyValue::Float(0.0)))
                }
                other => {
                    let number = other.as_float().map(PyValue::Float);
                    Ok(number.or(default).unwrap_or(PyValue::Float(0.0)))
                }
            }
        }
        "abs" => match value.defined()? {
            PyValue::Float(number) => Ok(PyValue::Float(number.abs())),
            other => match other.as_int() {
                Some(number) => Ok(PyValue::Int(number.abs())),
                None => failure(format!("bad operand type for abs(): '{}'", value.type_name())),
            },
        },
        "round" => round(value, arguments),
        "attr" => {
            let [attribute] = arguments.bind_required(name, ["name"], 1)?;
            let attribute = display::text(&attribute.unwrap_or(PyValue::None));
            value.defined()?;
            Ok(match methods::exists(value, &attribute) {
                true => methods::bound(value, &attribute),
                false => match value {
                    PyValue::Namespace(dict) => dict.borrow().get_text(&attribute).cloned(),
                    _ => None,
                }
                .unwrap_or_else(|| PyValue::undefined(format!("'{attribute}'"))),
            })
        }
        "items" => match value {
            PyValue::Undefined(_) => Ok(PyValue::generator(Vec::new())),
            PyValue::Dict(_) => {
                let items = methods::call(value, "items", &CallArguments::default())?;
                Ok(PyValue::generator(items.items()?))
            }
            _ => failure("Can only get item pairs from a mapping."),
        },
        "map" => map(value, arguments),
        "select" | "reject" | "selectattr" | "rejectattr" => select(name, value, arguments),
        "format" => {
            if !arguments.positional.is_empty() && !arguments.named.is_empty() {
                return failure("can't handle positional and keyword arguments at once");
            }
            let values = match arguments.named.is_empty() {
                true => PyValue::tuple(arguments.positional.clone()),
                false => PyValue::dict(
                    arguments
                        .named
                        .iter()
                        .map(|(key, value)| (PyValue::text(&key[..]), value.clone())),
                ),
            };
            Ok(PyValue::text(percent::format(&display::text(value), &values)?))
        }
        _ if sequences::NAMES.contains(&name) => sequences::apply(name, value, arguments),
        _ if strings::NAMES.contains(&name) => strings::apply(name, value, arguments),
        _ => failure(format!("no filter named `{name}`")),
    }
}

/// JSON as transformers writes it: unescaped, with Python's spacing.
fn to_json(value: &PyValue, arguments: &CallArguments) -> Filtered {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ensure_ascii, indent, separators, sort_keys] = arguments.bind("tojson", names)?;
    let is_set = |flag: &Option<PyValue>| flag.as_ref().is_some_and(PyValue::is_true);
    let indent = match indent {
        None | Some(PyValue::None) => None,
        Some(PyValue::Text(text)) => Some(text.to_string()),
        Some(number) => {
            let n = int_or(Some(&number), 0)?.clamp(0, 64);
            Some(" ".repeat(n as usize))
        }
    };
    let (item, key) = match separators {
        None | Some(PyValue::None) => match indent {
            Some(_) => (",".to_owned(), ": ".to_owned()),
            None => (", ".to_owned(), ": ".to_owned()),
        },
        Some(pair) => match &pair.items()?[..] {
            [PyValue::Text(item), PyValue::Text(key)] => (item.to_string(), key.to_string()),
            _ => return failure("tojson wants two texts as separators"),
        },
    };
    let style = JsonStyle {
        ensure_ascii: is_set(&ensure_ascii),
        indent,
        item_separator: item,
        key_separator: key,
        sort_keys: is_set(&sort_keys),
    };
    Ok(PyValue::text(dumps(value, &style)?))
}

fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim();
    let is_plain = text.chars().all(|c| c.is_ascii_digit() || "+-.eE_".contains(c));
    let lower = text.to_ascii_lowercase();
    let is_special = ["inf", "infinity", "nan"].contains(&lower.trim_start_matches(['+', '-']));
    let is_grouped = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    match (is_plain && !is_grouped) || is_special {
        true => text.replace('_', "").parse().ok(),
        false => None,
    }
}

fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefix = match base {
        2 => "0b",
        8 => "0o",
        16 => "0x",
        _ => "",
    };
    let lower = digits.to_ascii_lowercase();
    let digits = lower.strip_prefix(prefix).unwrap_or(&lower);
    let is_grouped = digits.starts_with('_') || digits.ends_with('_') || digits.contains("__");
    let is_digit = |c: char| c == '_' || c.is_digit(base);
    if digits.is_empty() || is_grouped || !digits.chars().all(is_digit) {
        return None;
    }
    i128::from_str_radix(&digits.replace('_', ""), base).ok().map(|number| sign * number)
}

fn to_int(value: &PyValue, arguments: &CallArguments) -> Filtered {
    let [default, base] = arguments.bind("int", ["default", "base"])?;
    let base = u32::try_from(int_or(base.as_ref(), 10)?).unwrap_or(10).clamp(2, 36);
    let of_float = |number: f64| number.is_finite().then_some(number.trunc() as i128);
    let number = match value.defined()? {
        PyValue::Text(text) => {
            parse_int(text, base).or_else(|| parse_float(text).and_then(of_float))
        }
        PyValue::Float(number) => of_float(*number),
        other => other.as_int(),
    };
    Ok(number.map(PyValue::Int).or(default).unwrap_or(PyValue::Int(0)))
}

fn round(value: &PyValue, arguments: &CallArguments) -> Filtered {
    let [precision, method] = arguments.bind("round", ["precision", "method"])?;
    let precision = int_or(precision.as_ref(), 0)?.clamp(-300, 300) as i32;
    let method = method.map_or("common".to_owned(), |method| display::text(&method));
    let Some(number) = value.defined()?.as_float() else {
        return failure(format!("type {} cannot be rounded", value.type_name()));
    };
    let power = 10f64.powi(precision);
    match &method[..] {
        "common" => {
            if let Some(number) = value.as_int() {
                // Python keeps integers as they are, unless tens are rounded
                let power = 10i128.pow(precision.min(0).unsigned_abs().min(30));
                let rest = number.rem_euclid(power);
                let down = number - rest;
                let is_up = 2 * rest > power || 2 * rest == power && down / power % 2 != 0;
                return Ok(PyValue::Int(if is_up { down + power } else { down }));
            }
            match precision {
                0.. => Ok(PyValue::Float(
                    format!("{number:.*}", precision as usize).parse().unwrap_or(number),
                )),
                _ => Ok(PyValue::Float((number * power).round_ties_even() / power)),
            }
        }
        "ceil" => Ok(PyValue::Float((number * power).ceil() / power)),
        "floor" => Ok(PyValue::Float((number * power).floor() / power)),
        _ => failure("method must be common, ceil or floor"),
    }
}

fn map(value: &PyValue, arguments: &CallArguments) -> Filtered {
    let named = |name: &str| arguments.named.iter().find(|(known, _)| known == name);
    let items = value.items()?;
    let mapped: Result<Vec<PyValue>, TemplateFailure> = match named("attribute") {
        Some((_, attribute)) if arguments.positional.is_empty() => {
            if let Some((other, _)) =
                arguments.named.iter().find(|(name, _)| name != "attribute" && name != "default")
            {
                return failure(format!("Unexpected keyword argument '{other}'"));
            }
            let default = named("default").map(|(_, default)| default.clone());
            let one = |item: &PyValue| {
                let found = lookup(item, attribute)?;
                Ok(default.clone().filter(|_| found.is_undefined()).unwrap_or(found))
            };
            items.iter().map(one).collect()
        }
        _ => {
            let Some((filter, rest)) = arguments.positional.split_first() else {
                return failure("map requires a filter argument");
            };
            let filter = display::text(filter);
            let rest = CallArguments { positional: rest.to_vec(), named: arguments.named.clone() };
            items.iter().map(|item| apply(&filter, item, &rest)).collect()
        }
    };
    Ok(PyValue::generator(mapped?))
}

fn select(name: &str, value: &PyValue, arguments: &CallArguments) -> Filtered {
    let by_attribute = name.ends_with("attr");
    let is_kept = name.starts_with("select");
    let mut positional = &arguments.positional[..];
    let mut attribute = None;
    if by_attribute {
        let Some((first, rest)) = positional.split_first() else {
            return failure(format!("{name} lacks the name of an attribute"));
        };
        (attribute, positional) = (Some(first), rest);
    }
    let mut kept = Vec::new();
    for item in value.items()? {
        let tested = match attribute {
            Some(attribute) => lookup(&item, attribute)?,
            None => item.clone(),
        };
        let is_true = match positional.split_first() {
            None => tested.is_true(),
            Some((check, rest)) => {
                let rest =
                    CallArguments { positional: rest.to_vec(), named: arguments.named.clone() };
                checks::holds(&display::text(check), &tested, &rest)?
            }
        };
        if is_true == is_kept {
            kept.push(item);
        }
    }
    Ok(PyValue::generator(kept))
}
