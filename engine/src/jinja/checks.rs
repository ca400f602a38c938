//! Jinja's tests: what follows `is`.

use std::cmp::Ordering;
use std::rc::Rc;

use super::arguments::CallArguments;
use super::display;
use super::failure::{TemplateFailure, failure};
use super::value::PyValue;

/// Names of all checks. `filter` and `test` are the interpreter's, which knows their names.
const NAMES: [&str; 39] = [
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "==",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    ">=",
    "gt",
    "greaterthan",
    ">",
    "in",
    "integer",
    "iterable",
    "le",
    "<=",
    "lower",
    "lt",
    "lessthan",
    "<",
    "mapping",
    "ne",
    "!=",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// Whether a check of this name exists.
pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// `value is name(arguments)`
pub(super) fn holds(
    name: &str,
    value: &PyValue,
    arguments: &CallArguments,
) -> Result<bool, TemplateFailure> {
    let other = || -> Result<PyValue, TemplateFailure> {
        let [other] = arguments.bind_required(name, ["other"], 1)?;
        Ok(other.unwrap_or(PyValue::None))
    };
    let compares = |wanted: fn(Ordering) -> bool| -> Result<bool, TemplateFailure> {
        Ok(wanted(value.compare(&other()?)?))
    };
    let integer = || -> Result<i128, TemplateFailure> {
        match value.defined()?.as_int() {
            Some(number) => Ok(number),
            None => match value.as_float() {
                Some(number) if number.fract() == 0.0 => Ok(number as i128),
                Some(_) => Ok(0),
                None => failure(format!("a number is wanted, not {}", value.type_name())),
            },
        }
    };
    match name {
        "defined" => Ok(!value.is_undefined()),
        "undefined" => Ok(value.is_undefined()),
        "none" => Ok(matches!(value, PyValue::None)),
        "boolean" => Ok(matches!(value, PyValue::Bool(_))),
        "true" => Ok(matches!(value, PyValue::Bool(true))),
        "false" => Ok(matches!(value, PyValue::Bool(false))),
        "integer" => Ok(matches!(value, PyValue::Int(_))),
        "float" => Ok(matches!(value, PyValue::Float(_))),
        // a boolean is a number in Python
        "number" => Ok(value.as_float().is_some()),
        "string" => Ok(matches!(value, PyValue::Text(_))),
        "mapping" => Ok(matches!(value, PyValue::Dict(_))),
        // a missing value has the method, which fails
        "callable" => {
            Ok(matches!(value, PyValue::Callable(_) | PyValue::Loop(_) | PyValue::Undefined(_)))
        }
        "escaped" => Ok(false),
        "iterable" => Ok(match value {
            PyValue::Undefined(_) | PyValue::Generator(_) => true,
            other => other.len().is_some(),
        }),
        "sequence" => Ok(matches!(
            value,
            PyValue::Undefined(_)
                | PyValue::Text(_)
                | PyValue::List(_)
                | PyValue::Tuple(_)
                | PyValue::Dict(_)
                | PyValue::Range(..)
        )),
        "even" => Ok(integer()? % 2 == 0 && value.as_float().is_some_and(|n| n.fract() == 0.0)),
        "odd" => Ok(integer()? % 2 != 0),
        "divisibleby" => match other()?.as_int() {
            Some(0) => failure("division by zero"),
            Some(divisor) => Ok(integer()? % divisor == 0),
            None => failure("divisibleby wants an integer"),
        },
        "lower" | "upper" => {
            let text = display::text(value);
            let changed = if name == "lower" { text.to_lowercase() } else { text.to_uppercase() };
            Ok(text == changed && text.chars().any(char::is_alphabetic))
        }
        "eq" | "equalto" | "==" => Ok(*value == other()?),
        "ne" | "!=" => Ok(*value != other()?),
        "lt" | "lessthan" | "<" => compares(Ordering::is_lt),
        "le" | "<=" => compares(Ordering::is_le),
        "gt" | "greaterthan" | ">" => compares(Ordering::is_gt),
        "ge" | ">=" => compares(Ordering::is_ge),
        "in" => other()?.contains(value),
        "sameas" => Ok(is_same(value, &other()?)),
        _ => failure(format!("no test named `{name}`")),
    }
}

/// Python's `is`: the same object. Small numbers and texts of a template are.
fn is_same(a: &PyValue, b: &PyValue) -> bool {
    match (a, b) {
        (PyValue::List(a), PyValue::List(b)) | (PyValue::Tuple(a), PyValue::Tuple(b)) => {
            Rc::ptr_eq(a, b)
        }
        (PyValue::Dict(a), PyValue::Dict(b)) => Rc::ptr_eq(a, b),
        _ => a.type_name() == b.type_name() && a == b,
    }
}
