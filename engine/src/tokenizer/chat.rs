//! Chat templates: Jinja as transformers runs it.
//!
//! A template sees the messages, the special tokens that are set, and no tools or documents. The
//! date that `strftime_now` gives is fixed, so that a rendering does not depend on the day.

use joust_schema::prompt::Message;

use crate::error::Error;
use crate::jinja::{CalendarDate, PyDict, PyValue, Template};

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
    ) -> Result<String, Error> {
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
        self.template
            .render(variables, context.today)
            .map_err(|failure| Error::Template(failure.to_string()))
    }
}

/// Messages as dictionaries, without the keys whose value is null, as transformers passes them.
fn message_values(messages: &[Message]) -> Result<PyValue, Error> {
    let bad = |error: serde_json::Error| Error::Template(error.to_string());
    let text = serde_json::to_string(messages).map_err(bad)?;
    let messages: Vec<PyValue> = serde_json::from_str(&text).map_err(bad)?;
    Ok(PyValue::list(messages.into_iter().map(PyValue::without_nulls).collect()))
}

#[cfg(test)]
mod tests;
