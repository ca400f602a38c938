//! Python's operators on values, subscripts and slices.

use super::ast::Arithmetic;
use super::failure::{TemplateFailure, failure};
use super::percent;
use super::value::PyValue;

/// Maximum number of bytes of a repeated text.
const MAX_REPEATED: usize = 1 << 24;
/// Maximum number of items of a repeated list.
const MAX_REPEATED_ITEMS: usize = 1 << 20;

/// `left operator right`
pub(super) fn arithmetic(
    operator: Arithmetic,
    left: &PyValue,
    right: &PyValue,
) -> Result<PyValue, TemplateFailure> {
    left.defined()?;
    right.defined()?;
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        return integers(operator, a, b);
    }
    if let (Some(a), Some(b)) = (left.as_float(), right.as_float()) {
        return floats(operator, a, b).map(PyValue::Float);
    }
    match (operator, left, right) {
        (Arithmetic::Add, PyValue::Text(a), PyValue::Text(b)) => {
            Ok(PyValue::text(format!("{a}{b}")))
        }
        (Arithmetic::Add, PyValue::List(a), PyValue::List(b)) => {
            Ok(PyValue::list(a.iter().chain(b.iter()).cloned().collect()))
        }
        (Arithmetic::Add, PyValue::Tuple(a), PyValue::Tuple(b)) => {
            Ok(PyValue::tuple(a.iter().chain(b.iter()).cloned().collect()))
        }
        (Arithmetic::Multiply, value, n) | (Arithmetic::Multiply, n, value)
            if n.as_int().is_some() && value.as_int().is_none() =>
        {
            repeat(value, n.as_int().unwrap_or(0))
        }
        (Arithmetic::Modulo, PyValue::Text(format), value) => {
            Ok(PyValue::text(percent::format(format, value)?))
        }
        _ => failure(format!(
            "unsupported operand type(s) for {}: '{}' and '{}'",
            symbol(operator),
            left.type_name(),
            right.type_name()
        )),
    }
}

fn symbol(operator: Arithmetic) -> &'static str {
    match operator {
        Arithmetic::Add => "+",
        Arithmetic::Subtract => "-",
        Arithmetic::Multiply => "*",
        Arithmetic::Divide => "/",
        Arithmetic::FloorDivide => "//",
        Arithmetic::Modulo => "%",
        Arithmetic::Power => "**",
    }
}

fn integers(operator: Arithmetic, a: i128, b: i128) -> Result<PyValue, TemplateFailure> {
    let is_division =
        matches!(operator, Arithmetic::Divide | Arithmetic::FloorDivide | Arithmetic::Modulo);
    if is_division && b == 0 {
        return failure("division by zero");
    }
    let value = match operator {
        Arithmetic::Add => a.checked_add(b),
        Arithmetic::Subtract => a.checked_sub(b),
        Arithmetic::Multiply => a.checked_mul(b),
        Arithmetic::Divide => return Ok(PyValue::Float(a as f64 / b as f64)),
        // Python rounds down, Rust towards 0
        Arithmetic::FloorDivide => {
            let quotient = a.checked_div(b);
            quotient.map(|quotient| quotient - i128::from(a % b != 0 && (a < 0) != (b < 0)))
        }
        Arithmetic::Modulo => a
            .checked_rem(b)
            .map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }),
        Arithmetic::Power if b < 0 && a == 0 => {
            return failure("0 cannot be raised to a negative power");
        }
        Arithmetic::Power if b < 0 => return Ok(PyValue::Float((a as f64).powf(b as f64))),
        Arithmetic::Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
    };
    match value {
        Some(value) => Ok(PyValue::Int(value)),
        None => failure("a number of more than 127 bits"),
    }
}

fn floats(operator: Arithmetic, a: f64, b: f64) -> Result<f64, TemplateFailure> {
    match operator {
        Arithmetic::Add => Ok(a + b),
        Arithmetic::Subtract => Ok(a - b),
        Arithmetic::Multiply => Ok(a * b),
        Arithmetic::Power if a == 0.0 && b < 0.0 => {
            failure("0.0 cannot be raised to a negative power")
        }
        Arithmetic::Power if a < 0.0 && b.is_finite() && b.fract() != 0.0 => {
            failure("a complex number, which is not known here")
        }
        Arithmetic::Power => Ok(a.powf(b)),
        _ if b == 0.0 => failure("float division by zero"),
        Arithmetic::Divide => Ok(a / b),
        Arithmetic::FloorDivide => Ok((a / b).floor()),
        Arithmetic::Modulo => {
            let rest = a % b;
            Ok(if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest })
        }
    }
}

fn repeat(value: &PyValue, n: i128) -> Result<PyValue, TemplateFailure> {
    let n = usize::try_from(n.max(0)).unwrap_or(usize::MAX);
    let is_small = |len: usize| len.saturating_mul(n) <= MAX_REPEATED;
    let is_short = |len: usize| len.saturating_mul(n) <= MAX_REPEATED_ITEMS;
    let items = |items: &[PyValue]| items.iter().cloned().cycle().take(items.len() * n).collect();
    match value {
        PyValue::Text(text) if is_small(text.len()) => Ok(PyValue::text(text.repeat(n))),
        PyValue::List(list) if is_short(list.len()) => Ok(PyValue::list(items(list))),
        PyValue::Tuple(list) if is_short(list.len()) => Ok(PyValue::tuple(items(list))),
        PyValue::Text(_) | PyValue::List(_) | PyValue::Tuple(_) => {
            failure("a value is repeated too often")
        }
        other => failure(format!("'{}' cannot be repeated", other.type_name())),
    }
}

/// `-value` or `+value`
pub(super) fn signed(value: &PyValue, is_negative: bool) -> Result<PyValue, TemplateFailure> {
    let sign = if is_negative { -1 } else { 1 };
    match (value.defined()?.as_int(), value) {
        (Some(value), _) => integers(Arithmetic::Multiply, value, sign),
        (None, PyValue::Float(value)) => Ok(PyValue::Float(value * sign as f64)),
        _ => failure(format!("bad operand type for unary sign: '{}'", value.type_name())),
    }
}

/// `value[idx]` of a sequence or dictionary; none where Python would raise an error that Jinja
/// turns into a missing value.
pub(super) fn item(value: &PyValue, idx: &PyValue) -> Result<Option<PyValue>, TemplateFailure> {
    value.defined()?;
    let at = |len: usize| {
        let idx = idx.as_int()?;
        let idx = if idx < 0 { idx + len as i128 } else { idx };
        usize::try_from(idx).ok().filter(|&idx| idx < len)
    };
    Ok(match value {
        PyValue::Dict(dict) => dict.get(idx).cloned(),
        PyValue::List(items) | PyValue::Tuple(items) => {
            at(items.len()).map(|idx| items[idx].clone())
        }
        PyValue::Text(text) => at(text.chars().count())
            .and_then(|idx| text.chars().nth(idx))
            .map(|c| PyValue::text(c.to_string())),
        PyValue::Range(start, _, step) => {
            at(value.len().unwrap_or(0)).map(|idx| PyValue::Int(start + idx as i128 * step))
        }
        _ => None,
    })
}

/// `value[start:stop:step]`
pub(super) fn slice(
    value: &PyValue,
    bounds: [Option<PyValue>; 3],
) -> Result<PyValue, TemplateFailure> {
    value.defined()?;
    let mut numbers = [None; 3];
    for (number, bound) in numbers.iter_mut().zip(&bounds) {
        *number = match bound {
            None | Some(PyValue::None) => None,
            Some(bound) => match bound.defined()?.as_int() {
                Some(bound) => Some(bound),
                None => return failure("slice indices must be integers or None"),
            },
        };
    }
    let pick = |len: usize| indices(len as i128, numbers);
    match value {
        PyValue::List(items) => {
            let picked = pick(items.len())?;
            Ok(PyValue::list(picked.into_iter().map(|idx| items[idx].clone()).collect()))
        }
        PyValue::Tuple(items) => {
            let picked = pick(items.len())?;
            Ok(PyValue::tuple(picked.into_iter().map(|idx| items[idx].clone()).collect()))
        }
        PyValue::Text(text) => {
            let chars: Vec<char> = text.chars().collect();
            let picked: String = pick(chars.len())?.into_iter().map(|idx| chars[idx]).collect();
            Ok(PyValue::text(picked))
        }
        PyValue::Range(first, _, distance) => {
            let picked = pick(value.len().unwrap_or(0))?;
            let step = distance * numbers[2].unwrap_or(1).clamp(-(1 << 32), 1 << 32);
            let at = |idx: usize| first + idx as i128 * distance;
            let start = picked.first().map_or(*first, |&idx| at(idx));
            let stop = picked.last().map_or(start, |&idx| at(idx) + step);
            Ok(PyValue::Range(start, stop, step))
        }
        PyValue::Dict(_) => failure("unhashable type: 'slice'"),
        _ => Ok(PyValue::undefined("a slice")),
    }
}

/// The indices that a slice of a sequence of `len` items picks.
fn indices(
    len: i128,
    [start, stop, step]: [Option<i128>; 3],
) -> Result<Vec<usize>, TemplateFailure> {
    let step = step.unwrap_or(1);
    if step == 0 {
        return failure("slice step cannot be zero");
    }
    let (lowest, highest) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let bound = |bound: Option<i128>, default: i128| match bound {
        None => default,
        Some(bound) if bound < 0 => (bound.saturating_add(len)).clamp(lowest, highest),
        Some(bound) => bound.clamp(lowest, highest),
    };
    let (first, end) = if step > 0 { (lowest, highest) } else { (highest, lowest) };
    let (mut at, stop) = (bound(start, first), bound(stop, end));
    let mut picked = Vec::new();
    while (step > 0 && at < stop) || (step < 0 && at > stop) {
        picked.push(at as usize);
        at = at.saturating_add(step);
    }
    Ok(picked)
}
