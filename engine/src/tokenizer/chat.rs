//! Chat templates: Jinja as transformers runs it.
//!
//! Blocks are trimmed as in transformers, Python's string methods work, and `raise_exception` and
//! `tojson` are defined. The date functions are not defined: templates then use their fixed date,
//! and a rendering does not depend on the day.

use joust_schema::prompt::Message;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value, context};

use crate::error::Error;

const NAME: &str = "chat";

/// Maximum work of a rendering: steps of the template, and 64 bytes of text each. A long chat takes
/// some ten thousand; a template that loops without an end, or repeats a text a billion times, is
/// refused after a second.
const MAX_STEPS: u64 = 10_000_000;

/// A parsed chat template.
pub(super) struct JinjaTemplate {
    source: String,
    environment: Environment<'static>,
}

impl JinjaTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// [`Error::Template`] with the line that does not parse.
    pub(super) fn parse(source: String) -> Result<Self, Error> {
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true);
        let syntax = syntax.build().expect("the delimiters are Jinja's own. This is a bug.");
        environment.set_syntax(syntax);
        environment.set_fuel(Some(MAX_STEPS));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<Value, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment.add_filter("tojson", to_json);
        // transformers marks the assistant's text with tags that print nothing
        let plain = ["generation", "endgeneration"].iter().fold(source.clone(), |text, tag| {
            ["{%- ", "{% "].iter().fold(text, |text, open| {
                [" -%}", " %}"]
                    .iter()
                    .fold(text, |text, close| text.replace(&format!("{open}{tag}{close}"), ""))
            })
        });
        environment
            .add_template_owned(NAME, plain)
            .map_err(|error| Error::Template(format!("does not parse: {error}")))?;
        Ok(Self { source, environment })
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
        add_generation_prompt: bool,
        bos_token: &str,
        eos_token: &str,
    ) -> Result<String, Error> {
        let template = self
            .environment
            .get_template(NAME)
            .expect("the template was added when it was parsed. This is a bug.");
        let messages = Value::from(Serde(messages));
        // transformers passes tools and documents as None, and templates test them
        let none = || Value::from(());
        let context = context! {
            messages, add_generation_prompt, bos_token, eos_token,
            tools => none(), documents => none()
        };
        template.render(context).map_err(|error| {
            if error.kind() == ErrorKind::OutOfFuel {
                let reason = format!("does not end within {MAX_STEPS} steps");
                return Error::Template(reason);
            }
            let detail = error.detail().map_or_else(|| error.to_string(), str::to_owned);
            Error::Template(detail)
        })
    }
}

/// JSON as Python writes it: its spacing, non-ASCII unescaped, nothing escaped for HTML.
fn to_json(value: &Value) -> Result<Value, minijinja::Error> {
    let failed = |error: serde_json::Error| {
        minijinja::Error::new(ErrorKind::BadSerialization, error.to_string())
    };
    let json: serde_json::Value = serde_json::to_value(value).map_err(failed)?;
    let mut text = String::new();
    write_python_json(&json, &mut text);
    Ok(Value::from_safe_string(text))
}

fn write_python_json(value: &serde_json::Value, out: &mut String) {
    use serde_json::Value as Json;
    let separated = |out: &mut String, idx: usize| {
        if idx > 0 {
            out.push_str(", ");
        }
    };
    match value {
        Json::Array(items) => {
            out.push('[');
            for (idx, item) in items.iter().enumerate() {
                separated(out, idx);
                write_python_json(item, out);
            }
            out.push(']');
        }
        Json::Object(entries) => {
            out.push('{');
            for (idx, (key, item)) in entries.iter().enumerate() {
                separated(out, idx);
                out.push_str(&Json::String(key.clone()).to_string());
                out.push_str(": ");
                write_python_json(item, out);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}
