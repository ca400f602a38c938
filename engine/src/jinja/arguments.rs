//! Arguments of a call of a filter, a method or a function, with Python's rules of names.

use super::failure::{TemplateFailure, failure};
use super::value::PyValue;

/// Values by position and by name.
#[derive(Clone, Debug, Default)]
pub(super) struct CallArguments {
    pub(super) positional: Vec<PyValue>,
    pub(super) named: Vec<(String, PyValue)>,
}

impl CallArguments {
    pub(super) fn of(positional: Vec<PyValue>) -> Self {
        Self { positional, named: Vec::new() }
    }

    /// The values of these parameters, none for those that are not given.
    ///
    /// # Errors
    /// An argument too many, with an unknown name, or twice.
    pub(super) fn bind<const N: usize>(
        &self,
        callee: &str,
        names: [&str; N],
    ) -> Result<[Option<PyValue>; N], TemplateFailure> {
        let mut bound = [const { None }; N];
        if self.positional.len() > N {
            let n = self.positional.len();
            return failure(format!("{callee}() takes at most {N} arguments, {n} were given"));
        }
        for (place, value) in bound.iter_mut().zip(&self.positional) {
            *place = Some(value.clone());
        }
        for (name, value) in &self.named {
            match names.iter().position(|known| known == name) {
                Some(idx) if bound[idx].is_none() => bound[idx] = Some(value.clone()),
                Some(_) => {
                    return failure(format!("{callee}() got several values for `{name}`"));
                }
                None => {
                    return failure(format!("{callee}() got an unexpected argument `{name}`"));
                }
            }
        }
        Ok(bound)
    }

    /// As [`CallArguments::bind`], where the first `n_required` parameters have to be given.
    pub(super) fn bind_required<const N: usize>(
        &self,
        callee: &str,
        names: [&str; N],
        n_required: usize,
    ) -> Result<[Option<PyValue>; N], TemplateFailure> {
        let bound = self.bind(callee, names)?;
        match bound[..n_required].iter().position(Option::is_none) {
            Some(idx) => failure(format!("{callee}() lacks its argument `{}`", names[idx])),
            None => Ok(bound),
        }
    }
}

/// An argument as integer, or its default.
pub(super) fn int_or(value: Option<&PyValue>, default: i128) -> Result<i128, TemplateFailure> {
    match value {
        None => Ok(default),
        Some(value) => match value.defined()?.as_int() {
            Some(value) => Ok(value),
            None => failure(format!("wanted an integer, not {}", value.type_name())),
        },
    }
}

/// An argument as text, or its default.
pub(super) fn text_or<'v>(
    value: Option<&'v PyValue>,
    default: &'v str,
) -> Result<&'v str, TemplateFailure> {
    match value {
        None => Ok(default),
        Some(value) => match value.defined()?.as_text() {
            Some(text) => Ok(text),
            None => failure(format!("wanted a str, not {}", value.type_name())),
        },
    }
}
