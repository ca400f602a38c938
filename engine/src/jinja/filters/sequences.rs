//! Filters of lists and dictionaries.

use std::cmp::Ordering;

use super::lookup::lookup;
use crate::jinja::arguments::{CallArguments, int_or};
use crate::jinja::ast::Arithmetic;
use crate::jinja::display;
use crate::jinja::failure::{TemplateFailure, failure};
use crate::jinja::operators;
use crate::jinja::value::{MAX_KEYS, PyValue};

pub(super) const NAMES: [&str; 15] = [
    "batch", "dictsort", "first", "groupby", "join", "last", "list", "max", "min", "reverse",
    "slice", "sort", "sum", "unique", "pprint",
];

type Filtered = Result<PyValue, TemplateFailure>;

fn is_set(flag: Option<&PyValue>) -> bool {
    flag.is_some_and(PyValue::is_true)
}

pub(super) fn apply(name: &str, value: &PyValue, arguments: &CallArguments) -> Filtered {
    match name {
        "list" => Ok(PyValue::list(value.items()?)),
        "first" => match value {
            PyValue::Generator(items) => Ok(items.pop()),
            other => Ok(other.items()?.into_iter().next()),
        }
        .map(|item| {
            item.unwrap_or_else(|| PyValue::undefined("No first item, sequence was empty."))
        }),
        "last" => match value {
            PyValue::Generator(_) => failure("'generator' object is not reversible"),
            other => Ok(other
                .items()?
                .pop()
                .unwrap_or_else(|| PyValue::undefined("No last item, sequence was empty."))),
        },
        "reverse" => match value {
            PyValue::Text(text) => Ok(PyValue::text(text.chars().rev().collect::<String>())),
            other => {
                let mut items = other.items()?;
                items.reverse();
                Ok(PyValue::generator(items))
            }
        },
        "join" => {
            let [separator, attribute] = arguments.bind(name, ["d", "attribute"])?;
            let separator = separator.map_or(String::new(), |text| display::text(&text));
            let (mut parts, mut n_bytes) = (Vec::new(), 0);
            for item in value.items()? {
                let item = match &attribute {
                    Some(path) if !matches!(path, PyValue::None) => lookup(&item, path)?,
                    _ => item,
                };
                let part = display::text(&item);
                n_bytes += part.len() + separator.len();
                if n_bytes > display::MAX_TEXT {
                    return failure("a text that is too long");
                }
                parts.push(part);
            }
            Ok(PyValue::text(parts.join(&separator)))
        }
        "sum" => {
            let [attribute, start] = arguments.bind(name, ["attribute", "start"])?;
            let mut total = start.unwrap_or(PyValue::Int(0));
            if matches!(total, PyValue::Text(_)) {
                return failure("sum() can't sum strings");
            }
            for item in value.items()? {
                let item = match &attribute {
                    Some(path) if !matches!(path, PyValue::None) => lookup(&item, path)?,
                    _ => item,
                };
                total = operators::arithmetic(Arithmetic::Add, &total, &item)?;
            }
            Ok(total)
        }
        "min" | "max" => {
            let names = ["case_sensitive", "attribute"];
            let [is_sensitive, attribute] = arguments.bind(name, names)?;
            let sorted = sorted(value.items()?, is_set(is_sensitive.as_ref()), attribute.as_ref())?;
            // of equal items the first one is taken
            let best = match name {
                "min" => sorted.into_iter().next(),
                _ => {
                    let mut best: Option<(Vec<PyValue>, PyValue)> = None;
                    for entry in sorted {
                        let is_better = match &best {
                            None => true,
                            Some((key, _)) => compare_keys(&entry.0, key)? == Ordering::Greater,
                        };
                        if is_better {
                            best = Some(entry);
                        }
                    }
                    best
                }
            };
            let missing = || PyValue::undefined("No aggregated item, sequence was empty.");
            Ok(best.map_or_else(missing, |(_, item)| item))
        }
        "sort" => {
            let names = ["reverse", "case_sensitive", "attribute"];
            let [reverse, is_sensitive, attribute] = arguments.bind(name, names)?;
            let mut keyed =
                sorted(value.items()?, is_set(is_sensitive.as_ref()), attribute.as_ref())?;
            if is_set(reverse.as_ref()) {
                keyed = reversed(keyed)?;
            }
            Ok(PyValue::list(keyed.into_iter().map(|(_, item)| item).collect()))
        }
        "unique" => {
            let names = ["case_sensitive", "attribute"];
            let [is_sensitive, attribute] = arguments.bind(name, names)?;
            let (mut seen, mut kept) = (Vec::new(), Vec::new());
            for item in value.items()? {
                let key = key(&item, is_set(is_sensitive.as_ref()), attribute.as_ref())?;
                key.iter().try_for_each(PyValue::hashable)?;
                if seen.len() > MAX_KEYS {
                    return failure(format!("more than {MAX_KEYS} different items"));
                }
                if !seen.contains(&key) {
                    seen.push(key);
                    kept.push(item);
                }
            }
            Ok(PyValue::generator(kept))
        }
        "dictsort" => dict_sort(value, arguments),
        "groupby" => group_by(value, arguments),
        "batch" => batch(value, arguments),
        "slice" => slice(value, arguments),
        _ => {
            let text = display::repr(&sorted_keys(value));
            match text.chars().count() <= PPRINT_WIDTH {
                true => Ok(PyValue::text(text)),
                false => failure("pprint of a value that is longer than a line is not known here"),
            }
        }
    }
}

/// Width of a line of Python's `pprint`.
const PPRINT_WIDTH: usize = 80;

/// The value with its dictionaries in the order of their keys, as `pprint` shows them.
fn sorted_keys(value: &PyValue) -> PyValue {
    let all = |items: &[PyValue]| items.iter().map(sorted_keys).collect();
    match value {
        PyValue::List(items) => PyValue::list(all(items)),
        PyValue::Tuple(items) => PyValue::tuple(all(items)),
        PyValue::Dict(dict) => {
            let mut entries = dict.entries().to_vec();
            entries.sort_by(|(a, _), (b, _)| a.compare(b).unwrap_or(Ordering::Equal));
            PyValue::dict(entries.into_iter().map(|(key, value)| (key, sorted_keys(&value))))
        }
        other => other.clone(),
    }
}

/// What an item is sorted by: itself or attributes, small letters like large ones.
fn key(
    item: &PyValue,
    is_sensitive: bool,
    attribute: Option<&PyValue>,
) -> Result<Vec<PyValue>, TemplateFailure> {
    let paths: Vec<PyValue> = match attribute {
        None | Some(PyValue::None) => return Ok(vec![folded(item.clone(), is_sensitive)]),
        Some(PyValue::Text(text)) => text.split(',').map(PyValue::text).collect(),
        Some(other) => vec![other.clone()],
    };
    let of_path = |path: &PyValue| Ok(folded(lookup(item, path)?, is_sensitive));
    paths.iter().map(of_path).collect()
}

fn folded(value: PyValue, is_sensitive: bool) -> PyValue {
    match value {
        PyValue::Text(text) if !is_sensitive => PyValue::text(text.to_lowercase()),
        other => other,
    }
}

fn compare_keys(a: &[PyValue], b: &[PyValue]) -> Result<Ordering, TemplateFailure> {
    for (a, b) in a.iter().zip(b) {
        if a != b {
            return a.compare(b);
        }
    }
    Ok(Ordering::Equal)
}

type Keyed = Vec<(Vec<PyValue>, PyValue)>;

fn sorted(
    items: Vec<PyValue>,
    is_sensitive: bool,
    attribute: Option<&PyValue>,
) -> Result<Keyed, TemplateFailure> {
    let keyed = items.into_iter().map(|item| Ok((key(&item, is_sensitive, attribute)?, item)));
    sort(keyed.collect::<Result<_, TemplateFailure>>()?)
}

/// Sorts and keeps the order of equal items.
fn sort(mut keyed: Keyed) -> Result<Keyed, TemplateFailure> {
    let mut failed = Ok(());
    keyed.sort_by(|(a, _), (b, _)| {
        compare_keys(a, b).unwrap_or_else(|error| {
            failed = Err(error);
            Ordering::Equal
        })
    });
    failed.map(|()| keyed)
}

/// Sorted the other way; equal items keep their order.
fn reversed(keyed: Keyed) -> Result<Keyed, TemplateFailure> {
    let mut keyed = keyed;
    let mut failed = Ok(());
    keyed.sort_by(|(a, _), (b, _)| {
        compare_keys(b, a).unwrap_or_else(|error| {
            failed = Err(error);
            Ordering::Equal
        })
    });
    failed.map(|()| keyed)
}

fn dict_sort(value: &PyValue, arguments: &CallArguments) -> Filtered {
    let names = ["case_sensitive", "by", "reverse"];
    let [is_sensitive, by, reverse] = arguments.bind("dictsort", names)?;
    let PyValue::Dict(dict) = value.defined()? else {
        return failure(format!("'{}' object has no attribute 'items'", value.type_name()));
    };
    let by = by.map_or("key".to_owned(), |by| display::text(&by));
    if by != "key" && by != "value" {
        return failure("You can only sort by either \"key\" or \"value\"");
    }
    let entry = |(name, item): &(PyValue, PyValue)| {
        let by = if by == "key" { name } else { item };
        let pair = PyValue::tuple(vec![name.clone(), item.clone()]);
        (vec![folded(by.clone(), is_set(is_sensitive.as_ref()))], pair)
    };
    let keyed: Keyed = dict.entries().iter().map(entry).collect();
    let keyed = if is_set(reverse.as_ref()) { reversed(keyed)? } else { sort(keyed)? };
    Ok(PyValue::list(keyed.into_iter().map(|(_, item)| item).collect()))
}

fn group_by(value: &PyValue, arguments: &CallArguments) -> Filtered {
    let names = ["attribute", "default", "case_sensitive"];
    let [attribute, default, is_sensitive] = arguments.bind_required("groupby", names, 1)?;
    let path = attribute.unwrap_or(PyValue::None);
    let is_sensitive = is_set(is_sensitive.as_ref());
    let of_item = |item: &PyValue| {
        let found = lookup(item, &path)?;
        Ok::<PyValue, TemplateFailure>(match (&default, found.is_undefined()) {
            (Some(default), true) => default.clone(),
            _ => found,
        })
    };
    let mut keyed: Keyed = Vec::new();
    for item in value.items()? {
        keyed.push((vec![folded(of_item(&item)?, is_sensitive)], item));
    }
    let mut groups: Vec<PyValue> = Vec::new();
    let keyed = sort(keyed)?;
    for same in keyed.chunk_by(|(a, _), (b, _)| a == b) {
        let items: Vec<PyValue> = same.iter().map(|(_, item)| item.clone()).collect();
        groups.push(PyValue::tuple(vec![of_item(&items[0])?, PyValue::list(items)]));
    }
    Ok(PyValue::list(groups))
}

fn batch(value: &PyValue, arguments: &CallArguments) -> Filtered {
    let [count, fill] = arguments.bind_required("batch", ["linecount", "fill_with"], 1)?;
    let n = usize::try_from(int_or(count.as_ref(), 1)?).unwrap_or(0).clamp(1, 1 << 20);
    let items = value.items()?;
    let rows = items.chunks(n).map(|row| {
        let mut row = row.to_vec();
        if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, PyValue::None)) {
            row.resize(n, fill.clone());
        }
        PyValue::list(row)
    });
    Ok(PyValue::generator(rows.collect()))
}

fn slice(value: &PyValue, arguments: &CallArguments) -> Filtered {
    let [count, fill] = arguments.bind_required("slice", ["slices", "fill_with"], 1)?;
    let n = usize::try_from(int_or(count.as_ref(), 1)?).unwrap_or(0).clamp(1, 1 << 20);
    let items = value.items()?;
    let (per_slice, n_longer) = (items.len() / n, items.len() % n);
    let mut rest = &items[..];
    let mut slices = Vec::new();
    for idx in 0..n {
        let (part, after) = rest.split_at(per_slice + usize::from(idx < n_longer));
        let mut part = part.to_vec();
        if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, PyValue::None))
            && idx >= n_longer
        {
            part.push(fill.clone());
        }
        slices.push(PyValue::list(part));
        rest = after;
    }
    Ok(PyValue::generator(slices))
}
