//! The chat templates of a folder: the default one and named ones, and which of them renders.
//!
//! It does not know messages; see `chat`.

use std::path::Path;
use std::sync::Arc;

use joust_schema::ordered_json::{JsonFields, OrderedJson};
use serde_json::{Map, Value, json};

use super::chat::JinjaTemplate;
use crate::error::Error;

/// The only subfolder of a model folder: chat templates beside the default one.
pub(crate) const MORE_TEMPLATES: &str = "additional_chat_templates";

/// Name of the template that renders chats with tools, where a model has one.
const TOOL_USE: &str = "tool_use";

/// Texts of a folder's chat templates.
#[derive(Default)]
pub(crate) struct TemplateTexts {
    default: Option<String>,
    /// Names and texts of the others.
    named: Vec<(String, String)>,
}

impl From<Option<String>> for TemplateTexts {
    fn from(default: Option<String>) -> Self {
        Self { default, named: Vec::new() }
    }
}

/// The chat templates of a tokenizer.
#[derive(Clone, Default)]
pub(super) struct ChatTemplates {
    default: Option<Arc<JinjaTemplate>>,
    /// Names and texts of the others, which an export keeps.
    named: Arc<Vec<(String, String)>>,
    /// The template for tools; why it does not parse is told where it is used.
    tool_use: Option<Arc<Result<JinjaTemplate, String>>>,
}

impl ChatTemplates {
    /// Parses the templates.
    ///
    /// # Errors
    /// [`Error::Template`] where the default one does not parse.
    pub(super) fn parse(texts: TemplateTexts) -> Result<Self, Error> {
        let TemplateTexts { default, named } = texts;
        let default = default.map(JinjaTemplate::parse).transpose()?.map(Arc::new);
        let of_tools = named.iter().find(|(name, _)| name == TOOL_USE);
        let tool_use = of_tools.map(|(_, text)| {
            Arc::new(JinjaTemplate::parse(text.clone()).map_err(|error| error.to_string()))
        });
        Ok(Self { default, named: Arc::new(named), tool_use })
    }

    /// Whether a chat without tools can be rendered.
    pub(super) fn has_default(&self) -> bool {
        self.default.is_some()
    }

    /// The template that renders with these variables: `tool_use` where they have tools, as in
    /// transformers.
    ///
    /// # Errors
    /// [`Error::Template`] where there is none.
    pub(super) fn of(&self, kwargs: &JsonFields) -> Result<&JinjaTemplate, Error> {
        let is_tools =
            |(name, value): &(String, OrderedJson)| name == "tools" && *value != OrderedJson::Null;
        match (&self.tool_use, &self.default) {
            (Some(template), _) if kwargs.0.iter().any(is_tools) => match &**template {
                Ok(template) => Ok(template),
                Err(error) => Err(Error::Template(format!("{TOOL_USE}: {error}"))),
            },
            (_, Some(template)) => Ok(template),
            (_, None) if self.named.is_empty() => Err(Error::Template(
                "the model has none; give prompts as text, not as messages".to_owned(),
            )),
            (_, None) => {
                let names: Vec<&str> = self.named.iter().map(|(name, _)| &name[..]).collect();
                let names = names.join(", ");
                let text = format!("the model has {names} and none named default; rename one");
                Err(Error::Template(text))
            }
        }
    }

    /// Adds the templates to the content of `tokenizer_config.json`.
    pub(super) fn write(&self, config: &mut Map<String, Value>) {
        let default = self.default.as_ref().map(|template| json!(template.source()));
        let written = match (default, &self.named[..]) {
            (None, []) => return,
            (Some(default), []) => default,
            (default, named) => {
                let default = default.map(|text| json!({"name": "default", "template": text}));
                let named =
                    named.iter().map(|(name, text)| json!({"name": name, "template": text}));
                default.into_iter().chain(named).collect()
            }
        };
        config.insert("chat_template".to_owned(), written);
    }
}

/// The chat templates of a folder: `chat_template.jinja` and the files of the folder beside it,
/// else those of `tokenizer_config.json`.
pub(super) fn texts(dir: &Path, in_config: Option<&Value>) -> Result<TemplateTexts, Error> {
    let path = dir.join("chat_template.jinja");
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| Error::io(path, error));
    let default = path.exists().then(|| read(&path)).transpose()?;
    let mut named = Vec::new();
    if let Ok(entries) = std::fs::read_dir(dir.join(MORE_TEMPLATES)) {
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jinja"));
            if let Some(name) = name {
                named.push((name.to_owned(), read(&path)?));
            }
        }
        named.sort();
    }
    if default.is_some() || !named.is_empty() {
        return Ok(TemplateTexts { default, named });
    }
    let bad = || {
        let reason = "key `chat_template` is no text and no list of named ones";
        Error::bad_file(dir.join("tokenizer_config.json"), reason)
    };
    match in_config {
        None | Some(Value::Null) => Ok(TemplateTexts::default()),
        Some(Value::String(template)) => Ok(Some(template.clone()).into()),
        Some(Value::Array(entries)) => {
            let mut texts = TemplateTexts::default();
            for entry in entries {
                let name = entry["name"].as_str().ok_or_else(bad)?;
                let text = entry["template"].as_str().ok_or_else(bad)?.to_owned();
                match name {
                    "default" if texts.default.is_none() => texts.default = Some(text),
                    name => texts.named.push((name.to_owned(), text)),
                }
            }
            Ok(texts)
        }
        Some(_) => Err(bad()),
    }
}

#[cfg(test)]
mod tests;
