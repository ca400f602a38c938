//! Methods of values. Those that would change a value do not exist, as in Jinja's sandbox.

mod split;
mod text;

pub(super) use text::replaced;

use std::rc::Rc;

use super::arguments::{CallArguments, int_or};
use super::failure::{TemplateFailure, failure};
use super::value::{Callable, MAX_KEYS, PyValue};

const OF_DICTS: [&str; 6] = ["get", "items", "keys", "values", "copy", "fromkeys"];
const OF_LISTS: [&str; 3] = ["count", "index", "copy"];
const OF_TUPLES: [&str; 2] = ["count", "index"];
const OF_FLOATS: [&str; 1] = ["is_integer"];
const OF_INTS: [&str; 2] = ["bit_length", "is_integer"];
const OF_LOOPS: [&str; 2] = ["cycle", "changed"];
const OF_CYCLERS: [&str; 2] = ["next", "reset"];

/// Whether values of this type have the method.
pub(super) fn exists(value: &PyValue, name: &str) -> bool {
    let names: &[&str] = match value {
        PyValue::Text(_) => return text::NAMES.contains(&name),
        PyValue::Dict(_) => &OF_DICTS,
        PyValue::List(_) => &OF_LISTS,
        PyValue::Tuple(_) | PyValue::Range(..) => &OF_TUPLES,
        PyValue::Float(_) => &OF_FLOATS,
        PyValue::Int(_) | PyValue::Bool(_) => &OF_INTS,
        PyValue::Loop(_) => &OF_LOOPS,
        PyValue::Cycler(_) => &OF_CYCLERS,
        PyValue::Callable(callable) if is_dict_type(callable) => &["fromkeys"],
        _ => &[],
    };
    names.contains(&name)
}

/// Calls a method that exists.
pub(super) fn call(
    value: &PyValue,
    name: &str,
    arguments: &CallArguments,
) -> Result<PyValue, TemplateFailure> {
    match value {
        PyValue::Text(text) => text::call(text, name, arguments),
        PyValue::Dict(dict) => {
            let entries = dict.entries();
            match name {
                "get" => {
                    let [key, default] = arguments.bind_required(name, ["key", "default"], 1)?;
                    let key = key.unwrap_or(PyValue::None);
                    key.hashable()?;
                    Ok(dict.get(&key).cloned().or(default).unwrap_or(PyValue::None))
                }
                "fromkeys" => {
                    let [keys, of] = arguments.bind_required(name, ["iterable", "value"], 1)?;
                    let of = of.unwrap_or(PyValue::None);
                    from_keys(&keys.unwrap_or(PyValue::None), &of)
                }
                _ => {
                    arguments.bind(name, [])?;
                    let keys = || entries.iter().map(|(key, _)| key.clone()).collect();
                    let values = || entries.iter().map(|(_, value)| value.clone()).collect();
                    let pair = |(key, value): &(PyValue, PyValue)| {
                        PyValue::tuple(vec![key.clone(), value.clone()])
                    };
                    let view =
                        |kind, items: Vec<PyValue>| PyValue::View(kind, Rc::new(items.into()));
                    Ok(match name {
                        "keys" => view("dict_keys", keys()),
                        "values" => view("dict_values", values()),
                        "items" => view("dict_items", entries.iter().map(pair).collect()),
                        _ => value.clone(),
                    })
                }
            }
        }
        PyValue::List(_) | PyValue::Tuple(_) | PyValue::Range(..) => {
            let items = value.items()?;
            match name {
                "count" => {
                    let [item] = arguments.bind_required(name, ["value"], 1)?;
                    let n = items.iter().filter(|other| Some(*other) == item.as_ref()).count();
                    Ok(PyValue::Int(n as i128))
                }
                "index" => {
                    let names = ["value", "start", "stop"];
                    let [item, start, stop] = arguments.bind_required(name, names, 1)?;
                    let len = items.len() as i128;
                    let bound = |value: i128| {
                        (if value < 0 { value + len } else { value }).clamp(0, len) as usize
                    };
                    let start = bound(int_or(start.as_ref(), 0)?);
                    let stop = bound(int_or(stop.as_ref(), len)?).max(start);
                    let found =
                        items[start..stop].iter().position(|other| Some(other) == item.as_ref());
                    match found {
                        Some(idx) => Ok(PyValue::Int((start + idx) as i128)),
                        None => failure("the value is not in the list"),
                    }
                }
                _ => Ok(value.clone()),
            }
        }
        PyValue::Float(number) => Ok(PyValue::Bool(number.fract() == 0.0)),
        PyValue::Int(_) | PyValue::Bool(_) => {
            let number = value.as_int().unwrap_or(0).unsigned_abs();
            Ok(match name {
                "bit_length" => PyValue::Int(i128::from(128 - number.leading_zeros())),
                _ => PyValue::Bool(true),
            })
        }
        PyValue::Loop(state) => match name {
            "cycle" => match arguments.positional.len() {
                0 => failure("no items for cycling given"),
                n => Ok(arguments.positional[state.idx % n].clone()),
            },
            _ => {
                let new = Some(arguments.positional.clone());
                let is_changed = *state.changed.borrow() != new;
                *state.changed.borrow_mut() = new;
                Ok(PyValue::Bool(is_changed))
            }
        },
        PyValue::Cycler(state) => {
            let at = state.at.get();
            if name == "reset" {
                state.at.set(0);
                return Ok(PyValue::None);
            }
            state.at.set((at + 1) % state.items.len());
            Ok(state.items[at].clone())
        }
        PyValue::Callable(callable) if is_dict_type(callable) => {
            let [keys, of] = arguments.bind_required(name, ["iterable", "value"], 1)?;
            from_keys(&keys.unwrap_or(PyValue::None), &of.unwrap_or(PyValue::None))
        }
        other => failure(format!("'{}' object has no attribute '{name}'", other.type_name())),
    }
}

/// Whether this is the global `dict`.
fn is_dict_type(callable: &Callable) -> bool {
    matches!(callable, Callable::Function("dict"))
}

/// A dictionary of these keys with one value.
fn from_keys(keys: &PyValue, value: &PyValue) -> Result<PyValue, TemplateFailure> {
    let keys = keys.items()?;
    keys.iter().try_for_each(PyValue::hashable)?;
    match keys.len() > MAX_KEYS {
        true => failure(format!("a dictionary of more than {MAX_KEYS} keys")),
        false => Ok(PyValue::dict(keys.into_iter().map(|key| (key, value.clone())))),
    }
}

/// A method bound to its value.
pub(super) fn bound(value: &PyValue, name: &str) -> PyValue {
    let value = value.clone();
    PyValue::Callable(Callable::Method { value, name: name.into() }.into())
}
