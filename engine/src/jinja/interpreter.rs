//! Renders a syntax tree: scopes, calls of macros and functions, limits.

mod expressions;
mod statements;

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::arguments::{CallArguments, int_or};
use super::ast::{ForLoop, MacroDefinition, Statement};
use super::display;
use super::failure::{TemplateFailure, failure};
use super::methods;
use super::rendered::Rendered;
use super::strftime::CalendarDate;
use super::value::{Callable, CyclerState, MAX_KEYS, PyDict, PyValue, range};

/// Maximum depth of calls and statements in each other while a template is rendered.
const MAX_DEPTH: usize = 100;
/// Maximum number of bytes that a template writes.
const MAX_OUTPUT: usize = display::MAX_TEXT;
/// Maximum number of items of a list.
const MAX_ITEMS: usize = 1 << 20;
/// Maximum depth of expressions in each other, in all macros that are called.
const MAX_EXPRESSION_DEPTH: usize = 300;
/// Maximum depth of values in each other. Messages are at most 128 deep.
const MAX_VALUE_DEPTH: usize = 200;
/// Maximum number of values in one, of 64 bytes of text each.
const MAX_VALUE_SIZE: usize = 1 << 21;
/// Maximum work of a rendering: statements and operations, and the values that these walk through.
/// A long chat takes some ten thousand.
const MAX_STEPS: usize = 10_000_000;
/// Work of a namespace, which lives as long as the rendering.
const NAMESPACE_STEPS: usize = 100;

/// Global functions, beside those of the template's own.
const FUNCTIONS: [&str; 7] =
    ["range", "dict", "namespace", "cycler", "joiner", "raise_exception", "strftime_now"];

/// Renders a template with these global variables.
pub(super) fn render(
    body: &[Statement],
    globals: PyDict,
    today: CalendarDate,
) -> Result<Rendered, TemplateFailure> {
    let scope = Rc::new(Scope::default());
    let mut interpreter = Interpreter {
        scope: Rc::clone(&scope),
        globals,
        macros: Vec::new(),
        loops: Vec::new(),
        loop_depth: 0,
        depth: 0,
        expression_depth: 0,
        n_steps: 0,
        today,
        namespaces: Vec::new(),
        n_texts_aside: 0,
        generated: Vec::new(),
    };
    let mut text = String::new();
    interpreter.execute_all(body, &mut text)?;
    Ok(Rendered { text, generated: std::mem::take(&mut interpreter.generated) })
}

/// Variables of a part of a template, and the scope around it.
#[derive(Debug, Default)]
struct Scope {
    variables: RefCell<Vec<(String, PyValue)>>,
    parent: Option<Rc<Scope>>,
}

impl Scope {
    fn get(&self, name: &str) -> Option<PyValue> {
        let variables = self.variables.borrow();
        let found = variables.iter().find(|(known, _)| known == name);
        match found {
            Some((_, value)) => Some(value.clone()),
            None => self.parent.as_ref()?.get(name),
        }
    }

    fn set(&self, name: &str, value: PyValue) {
        let mut variables = self.variables.borrow_mut();
        match variables.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => variables.push((name.to_owned(), value)),
        }
    }
}

/// A macro, and the scope in which it was defined.
struct MacroClosure {
    definition: Arc<MacroDefinition>,
    scope: Rc<Scope>,
}

/// A loop that calls itself, and the scope around it.
struct RecursiveLoop {
    definition: Arc<ForLoop>,
    scope: Rc<Scope>,
}

/// How a statement ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct Interpreter {
    scope: Rc<Scope>,
    globals: PyDict,
    macros: Vec<MacroClosure>,
    loops: Vec<RecursiveLoop>,
    /// Depth of the present recursive loop in itself.
    loop_depth: usize,
    depth: usize,
    expression_depth: usize,
    n_steps: usize,
    today: CalendarDate,
    /// All namespaces: they may hold each other in circles.
    namespaces: Vec<Rc<RefCell<PyDict>>>,
    /// Number of texts in each other that are written beside the rendered one: of macros, of `set`.
    n_texts_aside: usize,
    /// What `generation` has marked in the rendered text.
    generated: Vec<Range<usize>>,
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            // none is freed within another one, however long the chain
            let _ = namespace.take();
        }
    }
}

impl Interpreter {
    /// Runs a part in a scope of its own, below `parent`.
    fn in_scope<T>(
        &mut self,
        parent: Rc<Scope>,
        part: impl FnOnce(&mut Self) -> Result<T, TemplateFailure>,
    ) -> Result<T, TemplateFailure> {
        let inner = Rc::new(Scope { variables: RefCell::default(), parent: Some(parent) });
        let before = std::mem::replace(&mut self.scope, inner);
        let result = self.deeper(part);
        self.scope = before;
        result
    }

    /// The text that a part writes beside the rendered one.
    fn aside(
        &mut self,
        part: impl FnOnce(&mut Self, &mut String) -> Result<(), TemplateFailure>,
    ) -> Result<String, TemplateFailure> {
        let mut text = String::new();
        self.n_texts_aside += 1;
        part(self, &mut text)?;
        self.n_texts_aside -= 1;
        Ok(text)
    }

    fn deeper<T>(
        &mut self,
        part: impl FnOnce(&mut Self) -> Result<T, TemplateFailure>,
    ) -> Result<T, TemplateFailure> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return failure(format!("more than {MAX_DEPTH} levels of calls and blocks"));
        }
        let result = part(self);
        self.depth -= 1;
        result
    }

    fn count_step(&mut self) -> Result<(), TemplateFailure> {
        self.count(1)
    }

    /// Counts work.
    fn count(&mut self, n_steps: usize) -> Result<(), TemplateFailure> {
        self.n_steps = self.n_steps.saturating_add(n_steps);
        match self.n_steps > MAX_STEPS {
            true => failure(format!("does not end within {MAX_STEPS} steps")),
            false => Ok(()),
        }
    }

    /// Counts the work of making a value, and refuses huge and deep ones.
    fn weigh(&mut self, value: PyValue) -> Result<PyValue, TemplateFailure> {
        let extent = value.extent();
        if extent.depth > MAX_VALUE_DEPTH {
            return failure(format!("values that are more than {MAX_VALUE_DEPTH} levels deep"));
        }
        if extent.size > MAX_VALUE_SIZE {
            return failure(format!("a value with more than {MAX_VALUE_SIZE} values in it"));
        }
        match &value {
            PyValue::Text(text) => {
                self.count(text.len() / 64)?;
                if text.len() > MAX_OUTPUT {
                    return failure(format!("a text of more than {MAX_OUTPUT} bytes"));
                }
            }
            PyValue::List(items) | PyValue::Tuple(items) if items.len() > MAX_ITEMS => {
                return failure(format!("a list of more than {MAX_ITEMS} items"));
            }
            _ => {}
        }
        Ok(value)
    }

    /// The value of a name: of the template, of the caller, or of Jinja.
    fn variable(&self, name: &str) -> PyValue {
        if let Some(value) = self.scope.get(name).or_else(|| self.globals.get_text(name).cloned()) {
            return value;
        }
        match FUNCTIONS.iter().find(|known| **known == name) {
            Some(known) => PyValue::Callable(Callable::Function(known).into()),
            None => PyValue::undefined(format!("'{name}'")),
        }
    }

    /// Calls a value.
    fn call(
        &mut self,
        callee: &PyValue,
        arguments: &CallArguments,
    ) -> Result<PyValue, TemplateFailure> {
        self.count_step()?;
        match callee.defined()? {
            PyValue::Callable(callable) => match &**callable {
                Callable::Macro { idx, .. } => self.call_macro(*idx, arguments),
                Callable::Method { value, name } => {
                    self.count(work_of_method(value, arguments))?;
                    methods::call(value, name, arguments)
                }
                Callable::Function(name) => {
                    self.count(work_of_method(&PyValue::None, arguments))?;
                    self.call_function(name, arguments)
                }
                Callable::Joiner { text, is_used } => {
                    Ok(PyValue::text(if is_used.replace(true) { &text[..] } else { "" }))
                }
            },
            PyValue::Loop(state) => match state.recursion {
                Some(idx) => {
                    let [items] = arguments.bind_required("loop", ["iterable"], 1)?;
                    self.call_loop(idx, state.depth + 1, &items.unwrap_or(PyValue::None))
                }
                None => {
                    failure("The loop must have the 'recursive' marker to be called recursively.")
                }
            },
            other => failure(format!("'{}' object is not callable", other.type_name())),
        }
    }

    fn call_macro(
        &mut self,
        idx: usize,
        arguments: &CallArguments,
    ) -> Result<PyValue, TemplateFailure> {
        let definition = Arc::clone(&self.macros[idx].definition);
        let scope = Rc::clone(&self.macros[idx].scope);
        let name = &definition.name;
        let n_parameters = definition.parameters.len();
        let mut named = arguments.named.clone();
        let mut given = Vec::new();
        for (at, (parameter, _)) in definition.parameters.iter().enumerate() {
            let by_name = named.iter().position(|(known, _)| known == parameter);
            given.push(match (arguments.positional.get(at), by_name) {
                (Some(_), Some(_)) => {
                    return failure(format!("macro '{name}' got several values for '{parameter}'"));
                }
                (Some(value), None) => Some(value.clone()),
                (None, Some(at)) => Some(named.remove(at).1),
                (None, None) => None,
            });
        }
        let caller = match named.iter().position(|(known, _)| known == "caller") {
            Some(at) if definition.takes.caller => Some(named.remove(at).1),
            _ => None,
        };
        if let (Some((other, _)), false) = (named.first(), definition.takes.kwargs) {
            return failure(format!("macro '{name}' takes no keyword argument '{other}'"));
        }
        let more = arguments.positional.get(n_parameters..).unwrap_or_default();
        if !more.is_empty() && !definition.takes.varargs {
            return failure(format!(
                "macro '{name}' takes not more than {n_parameters} argument(s)"
            ));
        }
        let write = |it: &mut Self, out: &mut String| {
            for ((parameter, default), value) in definition.parameters.iter().zip(given) {
                let value = match (value, default) {
                    (Some(value), _) => value,
                    (None, Some(default)) => it.evaluate(default)?,
                    (None, None) => {
                        PyValue::undefined(format!("parameter '{parameter}' was not provided"))
                    }
                };
                it.scope.set(parameter, value);
            }
            if definition.takes.caller {
                let none = || PyValue::undefined("No caller defined");
                it.scope.set("caller", caller.unwrap_or_else(none));
            }
            if definition.takes.varargs {
                it.scope.set("varargs", PyValue::tuple(more.to_vec()));
            }
            if definition.takes.kwargs {
                let entries = named.into_iter().map(|(key, value)| (PyValue::text(key), value));
                it.scope.set("kwargs", PyValue::dict(entries));
            }
            it.execute_all(&definition.body, out).map(drop)
        };
        let text = self.aside(|it, out| it.in_scope(scope, |it| write(it, out)))?;
        Ok(PyValue::text(text))
    }

    fn call_loop(
        &mut self,
        idx: usize,
        depth: usize,
        items: &PyValue,
    ) -> Result<PyValue, TemplateFailure> {
        let definition = Arc::clone(&self.loops[idx].definition);
        let scope = Rc::clone(&self.loops[idx].scope);
        let before = std::mem::replace(&mut self.loop_depth, depth);
        let text = self.aside(|it, out| {
            it.in_scope(scope, |it| it.run_loop(&definition, items, Some(idx), out)).map(drop)
        })?;
        self.loop_depth = before;
        Ok(PyValue::text(text))
    }

    fn call_function(
        &mut self,
        name: &str,
        arguments: &CallArguments,
    ) -> Result<PyValue, TemplateFailure> {
        match name {
            "range" => {
                let [first, second, step] = arguments.bind_required(name, ["", "", ""], 1)?;
                let (start, stop) = match (int_or(first.as_ref(), 0)?, second) {
                    (stop, None) => (0, stop),
                    (start, Some(stop)) => (start, int_or(Some(&stop), 0)?),
                };
                range(start, stop, int_or(step.as_ref(), 1)?)
            }
            "dict" => self.dict_of(arguments).map(|dict| PyValue::Dict(Rc::new(dict))),
            "namespace" => {
                let dict = self.dict_of(arguments)?;
                for (key, _) in dict.entries() {
                    check_attribute(&display::text(key))?;
                }
                self.count(NAMESPACE_STEPS)?;
                let namespace = Rc::new(RefCell::new(dict));
                self.namespaces.push(Rc::clone(&namespace));
                Ok(PyValue::Namespace(namespace))
            }
            "cycler" => match arguments.positional.is_empty() {
                true => failure("at least one item has to be provided"),
                false => Ok(PyValue::Cycler(Rc::new(CyclerState {
                    items: arguments.positional.clone().into(),
                    at: 0.into(),
                }))),
            },
            "joiner" => {
                let [text] = arguments.bind(name, ["sep"])?;
                let text = text.map_or(", ".to_owned(), |text| display::text(&text)).into();
                Ok(PyValue::Callable(Callable::Joiner { text, is_used: false.into() }.into()))
            }
            "raise_exception" => {
                let [message] = arguments.bind_required(name, ["message"], 1)?;
                failure(display::text(&message.unwrap_or(PyValue::None)))
            }
            _ => {
                let [format] = arguments.bind_required(name, ["format"], 1)?;
                match format.unwrap_or(PyValue::None).defined()?.as_text() {
                    Some(format) => Ok(PyValue::text(self.today.format(format)?)),
                    None => failure("strftime_now wants a format"),
                }
            }
        }
    }

    /// `dict(mapping, **more)`
    fn dict_of(&self, arguments: &CallArguments) -> Result<PyDict, TemplateFailure> {
        let mut dict = PyDict::default();
        match &arguments.positional[..] {
            [] => {}
            [PyValue::Dict(known)] => dict = (**known).clone(),
            [pairs] => {
                let pairs = pairs.items()?;
                if pairs.len() > MAX_KEYS {
                    return failure(format!("a dictionary of more than {MAX_KEYS} keys"));
                }
                for pair in pairs {
                    match &pair.items()?[..] {
                        [key, value] => dict.insert(key.clone(), value.clone()),
                        _ => return failure("dict() wants pairs"),
                    }
                }
            }
            _ => return failure("dict expected at most 1 argument"),
        }
        for (key, value) in &arguments.named {
            dict.insert(PyValue::text(&key[..]), value.clone());
        }
        Ok(dict)
    }
}

/// Work of a method: texts are read as a whole, other values item by item.
fn work_of_method(value: &PyValue, arguments: &CallArguments) -> usize {
    let of_value = match value {
        PyValue::Text(text) => text.len() / 16,
        other => other.len().unwrap_or(0) / 4,
    };
    let arguments = arguments.positional.iter().map(|argument| argument.extent().size);
    arguments.fold(of_value, usize::saturating_add)
}

/// Refuses attributes of namespaces that begin with an underscore, as transformers does.
fn check_attribute(name: &str) -> Result<(), TemplateFailure> {
    match name.starts_with('_') {
        true => failure(format!("a namespace cannot have the attribute '{name}'")),
        false => Ok(()),
    }
}
