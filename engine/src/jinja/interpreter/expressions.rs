//! Expressions of a template.

use super::{Interpreter, MAX_EXPRESSION_DEPTH};
use crate::jinja::arguments::CallArguments;
use crate::jinja::ast::{ArgumentList, CompareOperator, Expression, Literal};
use crate::jinja::checks;
use crate::jinja::display;
use crate::jinja::failure::{TemplateFailure, failure};
use crate::jinja::filters;
use crate::jinja::methods;
use crate::jinja::operators;
use crate::jinja::value::{Callable, LoopState, PyValue};

/// Names that Jinja defines and this interpreter does not.
const UNKNOWN: [&str; 2] = ["lipsum", "self"];

type Evaluated = Result<PyValue, TemplateFailure>;

impl Interpreter {
    pub(super) fn evaluate(&mut self, expression: &Expression) -> Evaluated {
        self.count_step()?;
        self.expression_depth += 1;
        if self.expression_depth > MAX_EXPRESSION_DEPTH {
            return failure(format!("more than {MAX_EXPRESSION_DEPTH} levels of expressions"));
        }
        let value = self.value_of(expression)?;
        self.expression_depth -= 1;
        // a name's value was made before
        if matches!(expression, Expression::Name(_)) { Ok(value) } else { self.weigh(value) }
    }

    fn value_of(&mut self, expression: &Expression) -> Evaluated {
        match expression {
            Expression::Literal(literal) => Ok(match literal {
                Literal::None => PyValue::None,
                Literal::Bool(value) => PyValue::Bool(*value),
                Literal::Int(value) => PyValue::Int(*value),
                Literal::Float(value) => PyValue::Float(*value),
                Literal::Text(text) => PyValue::text(&text[..]),
            }),
            Expression::Name(name) => match self.variable(name) {
                PyValue::Undefined(_) if UNKNOWN.contains(&&name[..]) => {
                    failure(format!("`{name}` of Jinja is not known here"))
                }
                value => Ok(value),
            },
            Expression::List(items) => Ok(PyValue::list(self.evaluate_all(items)?)),
            Expression::Tuple(items) => Ok(PyValue::tuple(self.evaluate_all(items)?)),
            Expression::Dict(entries) => {
                let mut values = Vec::new();
                for (key, value) in entries {
                    let key = self.evaluate(key)?;
                    key.hashable()?;
                    values.push((key, self.evaluate(value)?));
                }
                Ok(PyValue::dict(values))
            }
            Expression::Attribute(value, name) => {
                let value = self.evaluate(value)?;
                attribute(&value, name)
            }
            Expression::Item(value, idx) => {
                let (value, idx) = (self.evaluate(value)?, self.evaluate(idx)?);
                self.count(value.as_text().map_or(0, str::len) / 64)?;
                subscript(&value, &idx)
            }
            Expression::Slice { value, bounds } => {
                let value = self.evaluate(value)?;
                let mut evaluated = [const { None }; 3];
                for (bound, expression) in evaluated.iter_mut().zip(bounds) {
                    if let Some(expression) = expression {
                        *bound = Some(self.evaluate(expression)?);
                    }
                }
                self.count(match &value {
                    PyValue::Text(text) => text.len() / 64,
                    other => other.len().unwrap_or(0) / 4,
                })?;
                operators::slice(&value, evaluated)
            }
            Expression::Call { callee, arguments } => {
                let callee = self.evaluate(callee)?;
                let arguments = self.arguments(arguments)?;
                self.call(&callee, &arguments)
            }
            Expression::Filter(value, call) => {
                let value = self.evaluate(value)?;
                let arguments = self.arguments(&call.arguments)?;
                self.count(filters::work(&call.name, &value))?;
                filters::apply(&call.name, &value, &arguments)
            }
            Expression::Check { value, name, arguments } => {
                let value = self.evaluate(value)?;
                let arguments = self.arguments(arguments)?;
                self.count(match &name[..] {
                    "lower" | "upper" => value.as_text().map_or(0, str::len) / 16,
                    "in" => arguments.positional.iter().map(|list| list.extent().size / 4).sum(),
                    _ if arguments.positional.is_empty() => 0,
                    _ => value.extent().size / 4,
                })?;
                match &name[..] {
                    "filter" => Ok(PyValue::Bool(value.as_text().is_some_and(filters::exists))),
                    "test" => Ok(PyValue::Bool(value.as_text().is_some_and(checks::exists))),
                    _ => checks::holds(name, &value, &arguments).map(PyValue::Bool),
                }
            }
            Expression::Not(value) => Ok(PyValue::Bool(!self.evaluate(value)?.is_true())),
            Expression::Negative(value) => operators::signed(&self.evaluate(value)?, true),
            Expression::Positive(value) => operators::signed(&self.evaluate(value)?, false),
            Expression::And(left, right) => {
                let left = self.evaluate(left)?;
                if left.is_true() { self.evaluate(right) } else { Ok(left) }
            }
            Expression::Or(left, right) => {
                let left = self.evaluate(left)?;
                if left.is_true() { Ok(left) } else { self.evaluate(right) }
            }
            Expression::Arithmetic(operator, left, right) => {
                let (left, right) = (self.evaluate(left)?, self.evaluate(right)?);
                let n_items = [&left, &right].map(|value| value.len().unwrap_or(0));
                self.count((n_items[0] + n_items[1]) / 4)?;
                operators::arithmetic(*operator, &left, &right)
            }
            Expression::Concat(parts) => {
                let parts = self.evaluate_all(parts)?;
                if let Some(what) = parts.iter().find_map(display::without_text) {
                    return failure(format!("writes {what}"));
                }
                let size = parts.iter().map(|part| part.extent().size);
                self.count(size.fold(0, usize::saturating_add))?;
                Ok(PyValue::text(parts.iter().map(display::text).collect::<String>()))
            }
            Expression::Compare(first, rest) => self.compare(first, rest),
            Expression::Conditional { condition, then, otherwise } => {
                match (self.evaluate(condition)?.is_true(), otherwise) {
                    (true, _) => self.evaluate(then),
                    (false, Some(otherwise)) => self.evaluate(otherwise),
                    (false, None) => Ok(PyValue::undefined(
                        "the inline if-expression evaluated to false and no else section was \
                         defined: it",
                    )),
                }
            }
        }
    }

    fn evaluate_all(
        &mut self,
        expressions: &[Expression],
    ) -> Result<Vec<PyValue>, TemplateFailure> {
        expressions.iter().map(|expression| self.evaluate(expression)).collect()
    }

    /// Values of a call's arguments.
    pub(super) fn arguments(
        &mut self,
        list: &ArgumentList,
    ) -> Result<CallArguments, TemplateFailure> {
        let mut arguments = CallArguments::of(self.evaluate_all(&list.positional)?);
        for (name, value) in &list.named {
            let value = self.evaluate(value)?;
            arguments.named.push((name.clone(), value));
        }
        if let Some(more) = &list.more {
            arguments.positional.extend(self.evaluate(more)?.defined()?.items()?);
        }
        if let Some(more) = &list.more_named {
            match self.evaluate(more)? {
                PyValue::Dict(dict) => {
                    let entries = dict.entries().iter();
                    let named = entries.map(|(key, value)| (display::text(key), value.clone()));
                    arguments.named.extend(named);
                }
                other => {
                    return failure(format!(
                        "argument after ** must be a mapping, not {}",
                        other.type_name()
                    ));
                }
            }
        }
        Ok(arguments)
    }

    /// `a < b <= c`: each operand is evaluated once, up to the first comparison that is false.
    fn compare(&mut self, first: &Expression, rest: &[(CompareOperator, Expression)]) -> Evaluated {
        let mut left = self.evaluate(first)?;
        for (operator, right) in rest {
            let right = self.evaluate(right)?;
            let size = match operator {
                CompareOperator::In | CompareOperator::NotIn => match &right {
                    PyValue::Dict(_) => right.len().unwrap_or(0),
                    _ => right.extent().size,
                },
                _ => left.extent().size.min(right.extent().size),
            };
            self.count(size / 4)?;
            let is_true = match operator {
                CompareOperator::Equal => left == right,
                CompareOperator::NotEqual => left != right,
                CompareOperator::In => right.contains(&left)?,
                CompareOperator::NotIn => !right.contains(&left)?,
                CompareOperator::Less => left.compare(&right)?.is_lt(),
                CompareOperator::LessOrEqual => left.compare(&right)?.is_le(),
                CompareOperator::Greater => left.compare(&right)?.is_gt(),
                CompareOperator::GreaterOrEqual => left.compare(&right)?.is_ge(),
            };
            if !is_true {
                return Ok(PyValue::Bool(false));
            }
            left = right;
        }
        Ok(PyValue::Bool(true))
    }
}

/// `value.name`: an attribute or method, else an item.
fn attribute(value: &PyValue, name: &str) -> Evaluated {
    value.defined()?;
    if methods::exists(value, name) {
        return Ok(methods::bound(value, name));
    }
    let found = match value {
        PyValue::Loop(state) => loop_attribute(state, name),
        PyValue::Namespace(dict) => dict.borrow().get_text(name).cloned(),
        PyValue::Cycler(state) if name == "current" => Some(state.items[state.at.get()].clone()),
        PyValue::Callable(callable) => macro_attribute(callable, name),
        PyValue::Bool(_) | PyValue::Int(_) | PyValue::Float(_) => match (name, value.as_int()) {
            ("real", Some(number)) | ("numerator", Some(number)) => Some(PyValue::Int(number)),
            ("real", None) => Some(value.clone()),
            ("imag", Some(_)) => Some(PyValue::Int(0)),
            ("imag", None) => Some(PyValue::Float(0.0)),
            ("denominator", Some(_)) => Some(PyValue::Int(1)),
            _ => None,
        },
        PyValue::Range(start, stop, step) => match name {
            "start" => Some(PyValue::Int(*start)),
            "stop" => Some(PyValue::Int(*stop)),
            "step" => Some(PyValue::Int(*step)),
            _ => None,
        },
        // a group of `groupby`, as no other pair has these names
        PyValue::Tuple(pair) if pair.len() == 2 && ["grouper", "list"].contains(&name) => {
            Some(pair[usize::from(name == "list")].clone())
        }
        _ => operators::item(value, &PyValue::text(name))?,
    };
    let missing =
        || PyValue::undefined(format!("'{} object' has no attribute '{name}'", value.type_name()));
    Ok(found.unwrap_or_else(missing))
}

fn macro_attribute(callable: &Callable, name: &str) -> Option<PyValue> {
    match (callable, name) {
        (Callable::Macro { name, .. }, "name") => Some(PyValue::Text(name.clone())),
        _ => None,
    }
}

/// `value[idx]`: an item, else an attribute or method.
fn subscript(value: &PyValue, idx: &PyValue) -> Evaluated {
    if let Some(item) = operators::item(value, idx)? {
        return Ok(item);
    }
    match (idx, value) {
        (PyValue::Text(name), _) if methods::exists(value, name) => Ok(methods::bound(value, name)),
        (PyValue::Text(name), PyValue::Namespace(_) | PyValue::Loop(_)) => attribute(value, name),
        _ => Ok(PyValue::undefined(format!(
            "'{} object' has no element {}",
            value.type_name(),
            display::repr(idx)
        ))),
    }
}

fn loop_attribute(state: &LoopState, name: &str) -> Option<PyValue> {
    let (idx, len) = (state.idx, state.items.len());
    let int = |number: usize| PyValue::Int(number as i128);
    let missing = |what: &str| PyValue::undefined(what);
    Some(match name {
        "index" => int(idx + 1),
        "index0" => int(idx),
        "revindex" => int(len - idx),
        "revindex0" => int(len - idx - 1),
        "first" => PyValue::Bool(idx == 0),
        "last" => PyValue::Bool(idx + 1 == len),
        "length" => int(len),
        "depth" => int(state.depth + 1),
        "depth0" => int(state.depth),
        "previtem" if idx == 0 => missing("there is no previous item: it"),
        "previtem" => state.items[idx - 1].clone(),
        "nextitem" => state
            .items
            .get(idx + 1)
            .cloned()
            .unwrap_or_else(|| missing("there is no next item: it")),
        _ => return None,
    })
}
