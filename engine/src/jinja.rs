//! Jinja templates with Python's values, as transformers renders chat templates: its extensions,
//! its white space control, and the text that Python gives every value. It knows nothing of chats.

mod arguments;
mod ast;
mod checks;
mod display;
mod failure;
mod filters;
mod format;
mod interpreter;
mod json;
mod lexer;
mod methods;
mod number_format;
mod operators;
mod parser;
mod percent;
mod rendered;
mod strftime;
mod value;

pub(crate) use failure::TemplateFailure;
pub(crate) use rendered::Rendered;
pub(crate) use strftime::CalendarDate;
pub(crate) use value::{PyDict, PyValue};

/// A parsed template.
pub(crate) struct Template {
    body: Vec<ast::Statement>,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// The line that does not parse, and why.
    pub(crate) fn parse(source: &str) -> Result<Self, TemplateFailure> {
        Ok(Self { body: parser::parse(source, [filters::exists, checks::exists])? })
    }

    /// Renders the template with these variables; `today` is the date that the template sees.
    ///
    /// # Errors
    /// What the template refuses, or what Python would raise.
    pub(crate) fn render(
        &self,
        variables: PyDict,
        today: CalendarDate,
    ) -> Result<Rendered, TemplateFailure> {
        interpreter::render(&self.body, variables, today)
    }
}
