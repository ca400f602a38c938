//! Attributes of items, as filters look them up.

use crate::jinja::display;
use crate::jinja::failure::TemplateFailure;
use crate::jinja::methods;
use crate::jinja::operators;
use crate::jinja::value::PyValue;

type Filtered = Result<PyValue, TemplateFailure>;

/// `value.a.b` by the text `a.b`, as filters look attributes up: items, then methods.
pub(super) fn lookup(value: &PyValue, path: &PyValue) -> Filtered {
    let PyValue::Text(path) = path else {
        let missing = || PyValue::undefined(display::repr(path));
        return Ok(operators::item(value, path)?.unwrap_or_else(missing));
    };
    let mut found = value.clone();
    for part in path.split('.') {
        let key = match part.parse::<i128>() {
            Ok(idx) if part.chars().all(|c| c.is_ascii_digit()) => PyValue::Int(idx),
            _ => PyValue::text(part),
        };
        found = match operators::item(&found, &key)? {
            Some(item) => item,
            None if methods::exists(&found, part) => methods::bound(&found, part),
            None => match &found {
                PyValue::Namespace(dict) => dict.borrow().get(&key).cloned(),
                PyValue::Tuple(pair) if pair.len() == 2 && ["grouper", "list"].contains(&part) => {
                    Some(pair[usize::from(part == "list")].clone())
                }
                _ => None,
            }
            .unwrap_or_else(|| {
                PyValue::undefined(format!(
                    "'{} object' has no attribute '{part}'",
                    found.type_name()
                ))
            }),
        };
    }
    Ok(found)
}
