//! Python's values, as far as templates meet them: truth, equality, order and iteration.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::rc::Rc;

use super::failure::{TemplateFailure, failure};

/// Maximum length of a `range`, as in Jinja's sandbox.
const MAX_RANGE: i128 = 100_000;

/// Maximum number of keys of a dictionary that a template makes.
pub(super) const MAX_KEYS: usize = 10_000;

/// Maximum length of a text whose characters are taken one by one.
const MAX_CHARS: usize = 1 << 20;

/// A value. Lists and dictionaries never change: the sandbox refuses what would change them.
#[derive(Clone, Debug)]
pub(crate) enum PyValue {
    /// A missing value, with what is missing.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Rc<str>),
    List(Rc<PyItems>),
    Tuple(Rc<PyItems>),
    Dict(Rc<PyDict>),
    /// Keys, values or items of a dictionary, with the name of the view.
    View(&'static str, Rc<PyItems>),
    /// Start, stop and step.
    Range(i128, i128, i128),
    /// A generator: its values can be taken once.
    Generator(Rc<PyGenerator>),
    Namespace(Rc<RefCell<PyDict>>),
    Loop(Rc<LoopState>),
    Cycler(Rc<CyclerState>),
    Callable(Rc<Callable>),
}

/// How deep values are in each other, and how many there are. A text counts as one per 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) depth: usize,
    pub(super) size: usize,
}

impl Extent {
    fn include(&mut self, inner: Self) {
        self.depth = self.depth.max(inner.depth + 1);
        self.size = self.size.saturating_add(inner.size);
    }
}

/// Values in order. Their extent is known, because nobody may walk through values that are too deep
/// or too many.
#[derive(Clone, Debug, Default)]
pub(crate) struct PyItems {
    values: Vec<PyValue>,
    extent: Extent,
}

impl From<Vec<PyValue>> for PyItems {
    fn from(values: Vec<PyValue>) -> Self {
        let mut extent = Extent { depth: 0, size: 1 };
        values.iter().for_each(|value| extent.include(value.extent()));
        Self { values, extent }
    }
}

impl std::ops::Deref for PyItems {
    type Target = [PyValue];

    fn deref(&self) -> &[PyValue] {
        &self.values
    }
}

impl PartialEq for PyItems {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

/// Values that can be taken once.
#[derive(Debug)]
pub(crate) struct PyGenerator {
    rest: RefCell<VecDeque<PyValue>>,
    extent: Extent,
}

impl PyGenerator {
    pub(super) fn pop(&self) -> Option<PyValue> {
        self.rest.borrow_mut().pop_front()
    }
}

/// What can be called.
#[derive(Debug)]
pub(crate) enum Callable {
    /// The interpreter's macro of this index.
    Macro { idx: usize, name: Rc<str> },
    /// A method of a value.
    Method { value: PyValue, name: Rc<str> },
    /// A global function.
    Function(&'static str),
    /// A joiner: nothing at its first call, then its text.
    Joiner { text: Rc<str>, is_used: Cell<bool> },
}

/// The variable `loop`.
#[derive(Debug)]
pub(crate) struct LoopState {
    pub(super) idx: usize,
    pub(super) items: Rc<PyItems>,
    pub(super) depth: usize,
    /// Arguments of the last call of `loop.changed`, shared by all rounds.
    pub(super) changed: Rc<RefCell<Option<Vec<PyValue>>>>,
    /// Index of the interpreter's recursive loop.
    pub(super) recursion: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct CyclerState {
    pub(super) items: PyItems,
    pub(super) at: Cell<usize>,
}

/// A dictionary in the order of insertion.
#[derive(Clone, Debug, Default)]
pub(crate) struct PyDict {
    entries: Vec<(PyValue, PyValue)>,
    extent: Extent,
}

impl PyDict {
    /// Sets a key; a known one keeps its place.
    pub(crate) fn insert(&mut self, key: PyValue, value: PyValue) {
        self.extent.include(key.extent());
        self.extent.include(value.extent());
        match self.entries.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key, value)),
        }
    }

    pub(crate) fn get(&self, key: &PyValue) -> Option<&PyValue> {
        self.entries.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    pub(super) fn get_text(&self, key: &str) -> Option<&PyValue> {
        let is_key = |known: &PyValue| matches!(known, PyValue::Text(text) if **text == *key);
        self.entries.iter().find(|(known, _)| is_key(known)).map(|(_, value)| value)
    }

    pub(crate) fn entries(&self) -> &[(PyValue, PyValue)] {
        &self.entries
    }
}

impl PyValue {
    pub(crate) fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn undefined(what: impl Into<Rc<str>>) -> Self {
        Self::Undefined(what.into())
    }

    pub(crate) fn list(items: Vec<Self>) -> Self {
        Self::List(Rc::new(items.into()))
    }

    pub(super) fn tuple(items: Vec<Self>) -> Self {
        Self::Tuple(Rc::new(items.into()))
    }

    pub(super) fn generator(items: Vec<Self>) -> Self {
        let items = PyItems::from(items);
        let (extent, rest) = (items.extent, RefCell::new(items.values.into()));
        Self::Generator(Rc::new(PyGenerator { rest, extent }))
    }

    pub(super) fn dict(entries: impl IntoIterator<Item = (Self, Self)>) -> Self {
        let mut dict = PyDict::default();
        for (key, value) in entries {
            dict.insert(key, value);
        }
        Self::Dict(Rc::new(dict))
    }

    /// A dictionary without the keys whose value is `None`; other values unchanged.
    pub(crate) fn without_nulls(self) -> Self {
        match self {
            Self::Dict(dict) => {
                let entries = dict.entries.iter().filter(|(_, value)| !matches!(value, Self::None));
                Self::dict(entries.cloned())
            }
            other => other,
        }
    }

    /// Depth and number of the values in this one; a namespace counts as one.
    pub(super) fn extent(&self) -> Extent {
        match self {
            Self::Text(text) => Extent { depth: 0, size: 1 + text.len() / 64 },
            Self::List(items) | Self::Tuple(items) | Self::View(_, items) => items.extent,
            Self::Dict(dict) => dict.extent,
            Self::Generator(generator) => generator.extent,
            Self::Range(..) => Extent { depth: 0, size: self.len().unwrap_or(0) },
            Self::Loop(state) => state.items.extent,
            Self::Cycler(state) => state.items.extent,
            Self::Callable(callable) => match &**callable {
                Callable::Method { value, .. } => {
                    let mut extent = Extent { depth: 0, size: 1 };
                    extent.include(value.extent());
                    extent
                }
                _ => Extent { depth: 0, size: 1 },
            },
            _ => Extent { depth: 0, size: 1 },
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    /// Name of the type in Python.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::View(name, _) => name,
            Self::Range(..) => "range",
            Self::Generator(_) => "generator",
            Self::Namespace(_) => "Namespace",
            Self::Loop(_) => "LoopContext",
            Self::Cycler(_) => "Cycler",
            Self::Callable(_) => "function",
        }
    }

    /// The error of using a missing value, if this is one.
    pub(super) fn defined(&self) -> Result<&Self, TemplateFailure> {
        match self {
            // `what` is a name, or says what is missing
            Self::Undefined(what) if what.contains(" has no ") => failure(&what[..]),
            Self::Undefined(what) => failure(format!("{what} is undefined")),
            other => Ok(other),
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            other => other.len().is_none_or(|len| len > 0),
        }
    }

    /// Number of items or characters; none for values without a length.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Self::Undefined(_) => Some(0),
            Self::Text(text) => Some(text.chars().count()),
            Self::List(items) | Self::Tuple(items) | Self::View(_, items) => Some(items.len()),
            Self::Dict(dict) => Some(dict.entries.len()),
            Self::Range(start, stop, step) => Some(range_len(*start, *stop, *step) as usize),
            Self::Loop(state) => Some(state.items.len()),
            _ => None,
        }
    }

    /// A number as Python's arithmetic sees it: booleans are integers.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Self::Bool(value) => Some(i128::from(*value)),
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            other => other.as_int().map(|value| value as f64),
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items that a loop over the value sees.
    pub(super) fn items(&self) -> Result<Vec<Self>, TemplateFailure> {
        match self {
            Self::Undefined(_) => Ok(Vec::new()),
            Self::Text(text) if text.len() > MAX_CHARS => {
                failure(format!("a text of more than {MAX_CHARS} bytes, character by character"))
            }
            Self::Text(text) => Ok(text.chars().map(|c| Self::text(c.to_string())).collect()),
            Self::List(items) | Self::Tuple(items) | Self::View(_, items) => Ok(items.to_vec()),
            Self::Dict(dict) => Ok(dict.entries.iter().map(|(key, _)| key.clone()).collect()),
            Self::Range(start, stop, step) => {
                let n = range_len(*start, *stop, *step);
                Ok((0..n).map(|at| Self::Int(start + at * step)).collect())
            }
            Self::Generator(items) => Ok(items.rest.borrow_mut().drain(..).collect()),
            Self::Loop(state) => Ok(state.items[state.idx.min(state.items.len())..].to_vec()),
            other => failure(format!("'{}' object is not iterable", other.type_name())),
        }
    }

    /// `self < other`, and so on.
    pub(super) fn compare(&self, other: &Self) -> Result<Ordering, TemplateFailure> {
        self.defined()?;
        other.defined()?;
        let refused = || {
            let types = format!("'{}' and '{}'", self.type_name(), other.type_name());
            TemplateFailure(format!("order is not supported between instances of {types}"))
        };
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => Ok(a.cmp(b)),
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                for (a, b) in a.iter().zip(b.iter()) {
                    if a != b {
                        return a.compare(b);
                    }
                }
                Ok(a.len().cmp(&b.len()))
            }
            _ => match (self.as_int(), other.as_int()) {
                (Some(a), Some(b)) => Ok(a.cmp(&b)),
                _ => {
                    let numbers = self.as_float().zip(other.as_float());
                    let order = numbers.map(|(a, b)| a.partial_cmp(&b));
                    // NaN is neither less nor greater: never true
                    order.ok_or_else(refused)?.ok_or_else(refused)
                }
            },
        }
    }

    /// `item in self`
    pub(super) fn contains(&self, item: &Self) -> Result<bool, TemplateFailure> {
        match self {
            Self::Text(text) => match item {
                Self::Text(part) => Ok(text.contains(&**part)),
                other => failure(format!(
                    "'in <string>' requires string as left operand, not {}",
                    other.type_name()
                )),
            },
            Self::Dict(dict) => {
                item.hashable()?;
                Ok(dict.get(item).is_some())
            }
            Self::Int(_) | Self::Float(_) | Self::Bool(_) | Self::None => {
                failure(format!("argument of type '{}' is not iterable", self.type_name()))
            }
            other => Ok(other.items()?.contains(item)),
        }
    }

    /// Refuses values that cannot be keys.
    pub(super) fn hashable(&self) -> Result<(), TemplateFailure> {
        match self {
            Self::List(_) | Self::Dict(_) => {
                failure(format!("unhashable type: '{}'", self.type_name()))
            }
            Self::Tuple(items) => items.iter().try_for_each(Self::hashable),
            _ => Ok(()),
        }
    }
}

impl PartialEq for PyValue {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Undefined(_), Self::Undefined(_)) | (Self::None, Self::None) => true,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => a == b,
            (Self::Dict(a), Self::Dict(b)) => {
                let has = |(key, value): &(Self, Self)| b.get(key) == Some(value);
                a.entries.len() == b.entries.len() && a.entries.iter().all(has)
            }
            (Self::View(a, x), Self::View(b, y)) => a == b && x == y,
            (Self::Range(..), Self::Range(..)) => {
                self.items().ok().zip(other.items().ok()).is_some_and(|(a, b)| a == b)
            }
            (Self::Generator(a), Self::Generator(b)) => Rc::ptr_eq(a, b),
            (Self::Namespace(a), Self::Namespace(b)) => Rc::ptr_eq(a, b),
            (Self::Callable(a), Self::Callable(b)) => Rc::ptr_eq(a, b),
            _ => match (self.as_int(), other.as_int()) {
                (Some(a), Some(b)) => a == b,
                _ => self.as_float().zip(other.as_float()).is_some_and(|(a, b)| a == b),
            },
        }
    }
}

fn range_len(start: i128, stop: i128, step: i128) -> i128 {
    let distance = if step > 0 { stop - start } else { start - stop };
    if distance <= 0 { 0 } else { (distance + step.abs() - 1) / step.abs() }
}

/// Python's `range`.
pub(super) fn range(start: i128, stop: i128, step: i128) -> Result<PyValue, TemplateFailure> {
    let is_small = [start, stop, step].iter().all(|value| value.abs() < i128::from(i64::MAX));
    match (step, is_small) {
        (0, _) => failure("range() arg 3 must not be zero"),
        (_, true) if range_len(start, stop, step) <= MAX_RANGE => {
            Ok(PyValue::Range(start, stop, step))
        }
        _ => failure(format!("range is longer than {MAX_RANGE}")),
    }
}
