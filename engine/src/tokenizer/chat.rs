//! Chat templates: Jinja as transformers runs it.
//!
//! A template sees the messages, the special tokens that are set, and further variables of the
//! config, which may give tools and documents. The
//! date that `strftime_now` gives is fixed, so that a rendering does not depend on the day.

use joust_schema::ordered_json::JsonFields;
use joust_schema::prompt::Message;

use crate::error::Error;
use crate::jinja::{CalendarDate, PyDict, PyValue, Rendered, Template};

/// A parsed chat template.
pub(super) struct JinjaTemplate {
    source: String,
    template: Template,
}

/// What a template sees beside the messages.
pub(super) struct TemplateContext<'a> {
    pub(super) add_generation_prompt: bool,
    /// Names and texts of the special tokens that are set.
    pub(super) special_tokens: &'a [(String, String)],
    /// The date of `strftime_now`.
    pub(super) today: CalendarDate,
    /// Further variables. They take precedence.
    pub(super) kwargs: &'a JsonFields,
}

impl JinjaTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// [`Error::Template`] with the line that does not parse.
    pub(super) fn parse(source: String) -> Result<Self, Error> {
        match Template::parse(&source) {
            Ok(template) => Ok(Self { source, template }),
            Err(failure) => Err(Error::Template(format!("does not parse: {failure}"))),
        }
    }

    /// Text of the template.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Renders messages.
    ///
    /// # Errors
    /// [`Error::Template`] where the template refuses the messages.
    pub(super) fn render(
        &self,
        messages: &[Message],
        context: &TemplateContext<'_>,
    ) -> Result<Rendered, Error> {
        let mut variables = PyDict::default();
        let mut set = |name: &str, value: PyValue| variables.insert(PyValue::text(name), value);
        for (name, text) in context.special_tokens {
            set(name, PyValue::text(&text[..]));
        }
        set("messages", message_values(messages)?);
        // transformers passes tools and documents as None, and templates test them
        set("tools", PyValue::None);
        set("documents", PyValue::None);
        set("add_generation_prompt", PyValue::Bool(context.add_generation_prompt));
        for (name, value) in &context.kwargs.0 {
            set(name, plain(value)?);
        }
        self.template
            .render(variables, context.today)
            .map_err(|failure| Error::Template(failure.to_string()))
    }
}

/// A value as the template sees it.
fn plain<T: serde::Serialize + ?Sized, V: serde::de::DeserializeOwned>(
    value: &T,
) -> Result<V, Error> {
    let bad = |error: serde_json::Error| Error::Template(error.to_string());
    serde_json::from_str(&serde_json::to_string(value).map_err(bad)?).map_err(bad)
}

/// Messages as dictionaries, without the keys whose value is null, as transformers passes them.
fn message_values(messages: &[Message]) -> Result<PyValue, Error> {
    let values: Vec<PyValue> = plain(messages)?;
    let with_thoughts = |(value, message): (PyValue, &Message)| {
        let names = [&message.reasoning_content, &message.thinking, &message.reasoning];
        match names.into_iter().flatten().next() {
            Some(thought) => with_thought(value, thought),
            None => value.without_nulls(),
        }
    };
    Ok(PyValue::list(values.into_iter().zip(messages).map(with_thoughts).collect()))
}

/// The thought by both names that templates read, as transformers passes it.
fn with_thought(message: PyValue, thought: &str) -> PyValue {
    let PyValue::Dict(fields) = message.without_nulls() else { return PyValue::None };
    let mut dict = PyDict::default();
    dict.insert(PyValue::text("thinking"), PyValue::text(thought));
    for (name, value) in fields.entries() {
        dict.insert(name.clone(), value.clone());
    }
    dict.insert(PyValue::text("reasoning_content"), PyValue::text(thought));
    PyValue::Dict(dict.into())
}

#[cfg(test)]
mod tests;
