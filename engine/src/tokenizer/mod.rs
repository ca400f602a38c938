//! Conversion between text and token ids: a tokenizer with its special tokens and chat template.
//!
//! The byte-pair encoding is the `tokenizers` library's; this module adds the settings of model
//! folders. It knows nothing of models.

pub(crate) mod as_is;
mod as_text;
mod chat;
pub(crate) mod gguf;
mod stream;
pub mod train;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use joust_schema::prompt::Message;
use serde_json::{Map, Value, json};

pub use stream::TextStream;

use crate::error::Error;
use crate::json;
use as_text::TextEncoder;
use chat::JinjaTemplate;

/// A tokenizer as a model folder describes it.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    /// Content of `tokenizer_config.json`, without the chat template.
    config: Map<String, Value>,
    template: Option<Arc<JinjaTemplate>>,
    bos: Option<String>,
    eos: Option<String>,
    eos_ids: Vec<u32>,
    /// Encodes control tokens in contents of chats as text; made when it is first used.
    as_text: Arc<OnceLock<TextEncoder>>,
}

impl Tokenizer {
    /// A content of a chat, marked for [`Tokenizer::encode_marked`]: every control token in it will
    /// be encoded as text. Contents without control tokens are returned unchanged.
    pub fn mark_controls(&self, content: &str) -> String {
        self.text_encoder().mark_controls(content)
    }

    /// Encodes a rendered chat whose contents were marked by [`Tokenizer::mark_controls`]. Without
    /// control tokens in the contents it is [`Tokenizer::encode`].
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where the tokenizer refuses the text.
    pub fn encode_marked(&self, rendered: &str) -> Result<Vec<u32>, Error> {
        match TextEncoder::is_marked(rendered) {
            true => self.text_encoder().encode_marked(rendered),
            false => self.encode(rendered),
        }
    }

    fn text_encoder(&self) -> &TextEncoder {
        self.as_text.get_or_init(|| TextEncoder::new(&self.inner, self.template.as_deref()))
    }

    /// Makes a tokenizer from its parts.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where BOS or EOS is not in the vocabulary, [`Error::Template`] where
    /// the template does not parse.
    pub(crate) fn from_parts(
        inner: tokenizers::Tokenizer,
        config: Map<String, Value>,
        template: Option<String>,
    ) -> Result<Self, Error> {
        let bos = special_token(&config, "bos_token");
        let eos = special_token(&config, "eos_token");
        let id_of = |token: &String| {
            inner.token_to_id(token).ok_or_else(|| {
                Error::Tokenizer(format!("special token `{token}` is not in the vocabulary"))
            })
        };
        if let Some(bos) = &bos {
            id_of(bos)?;
        }
        let eos_ids = eos.as_ref().map(id_of).transpose()?.into_iter().collect();
        let template =
            template.map(|source| JinjaTemplate::parse(source).map(Arc::new)).transpose()?;
        Ok(Self {
            inner: Arc::new(inner),
            config,
            template,
            bos,
            eos,
            eos_ids,
            as_text: Arc::default(),
        })
    }

    /// Reads `tokenizer.json`, `tokenizer_config.json` and the chat template of a model folder.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::BadFile`] for missing or broken files, [`Error::Tokenizer`] where
    /// BOS or EOS is not in the vocabulary, [`Error::Template`] where the template does not parse.
    pub fn from_folder(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|source| Error::io(&path, source))?;
        let unreadable = |error: tokenizers::Error| {
            Error::bad_file(&path, format!("not a readable tokenizer: {error}"))
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(unreadable)?;
        // limits from data loading; a prompt that is too long must be an error, not truncated
        inner.with_truncation(None).map_err(unreadable)?;
        inner.with_padding(None);
        let path = dir.join("tokenizer_config.json");
        let mut config = match path.exists() {
            true => match json::read(&path)? {
                Value::Object(config) => config,
                _ => return Err(Error::bad_file(&path, "wanted a JSON object")),
            },
            false => Map::new(),
        };
        let in_config = config.remove("chat_template").and_then(|value| default_template(&value));
        let path = dir.join("chat_template.jinja");
        let template = match path.exists() {
            true => {
                Some(std::fs::read_to_string(&path).map_err(|source| Error::io(&path, source))?)
            }
            false => in_config,
        };
        Self::from_parts(inner, config, template)
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` (with the chat template), and the class
    /// that the latter names if joust trained the tokenizer.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        let text =
            self.inner.to_string(true).map_err(|error| Error::Tokenizer(error.to_string()))?;
        let path = dir.join("tokenizer.json");
        std::fs::write(&path, text).map_err(|source| Error::io(&path, source))?;
        let mut config = self.config.clone();
        if let Some(template) = &self.template {
            config.insert("chat_template".to_owned(), json!(template.source()));
        }
        as_is::save(dir, &config)?;
        json::write(&dir.join("tokenizer_config.json"), &Value::Object(config))
    }

    /// Encodes text without adding tokens. Special tokens that the text spells out are recognised.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.encode_with(text, false)
    }

    /// Encodes text as a model expects a prompt: with a BOS where the tokenizer's settings add one
    /// and the text does not begin with it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where the tokenizer refuses the text.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, Error> {
        let wants_bos = self.config.get("add_bos_token").and_then(Value::as_bool);
        let Some(bos) = &self.bos else {
            return self.encode_with(text, true);
        };
        if text.starts_with(bos.as_str()) {
            return self.encode_with(text, false);
        }
        match wants_bos {
            None => self.encode_with(text, true),
            Some(wants_bos) => {
                let mut ids = self.encode_with(text, false)?;
                if wants_bos && let Some(id) = self.inner.token_to_id(bos) {
                    ids.insert(0, id);
                }
                Ok(ids)
            }
        }
    }

    fn encode_with(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, Error> {
        let encoding = self
            .inner
            .encode_fast(text, add_special_tokens)
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Decodes tokens. Bytes that are not UTF-8 become U+FFFD; unknown ids are skipped.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> String {
        self.inner.decode(ids, skip_special_tokens).unwrap_or_default()
    }

    /// A decoder that takes one token at a time.
    pub fn stream(&self) -> TextStream {
        TextStream::new(Arc::clone(&self.inner))
    }

    /// Number of tokens, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of a token given by its text.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The id of the begin-of-text token.
    pub fn bos_id(&self) -> Option<u32> {
        self.token_id(self.bos.as_deref()?)
    }

    /// Ids of the tokens that end a text.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos_ids
    }

    /// Whether the tokenizer has a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// The same tokenizer with another chat template.
    ///
    /// # Errors
    /// [`Error::Template`] where the template does not parse.
    pub fn with_chat_template(&self, source: String) -> Result<Self, Error> {
        let template = Some(Arc::new(JinjaTemplate::parse(source)?));
        Ok(Self { template, ..self.clone() })
    }

    /// Renders chat messages as the text that the model was trained on. The text contains the
    /// special tokens, and a BOS where the template writes one: encode it with
    /// [`Tokenizer::encode`].
    ///
    /// # Errors
    /// [`Error::Template`] where the tokenizer has no template, or the template refuses the
    /// messages.
    pub fn render_chat(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, Error> {
        let template = self.template.as_ref().ok_or_else(|| {
            Error::Template("the model has none; give prompts as text, not as messages".to_owned())
        })?;
        let token = |token: &Option<String>| token.clone().unwrap_or_default();
        template.render(messages, add_generation_prompt, &token(&self.bos), &token(&self.eos))
    }
}

/// Text of a special token: a string, or an object with `content`.
fn special_token(config: &Map<String, Value>, key: &str) -> Option<String> {
    let value = config.get(key)?;
    let text = value.as_str().or_else(|| value.get("content").and_then(Value::as_str))?;
    Some(text.to_owned())
}

/// Chat template of a configuration: one text, or the template `default` of a list of named ones.
fn default_template(value: &Value) -> Option<String> {
    match value {
        Value::String(template) => Some(template.clone()),
        Value::Array(named) => {
            let is_default = |entry: &&Value| entry["name"] == "default";
            let entry = named.iter().find(is_default).or(named.first())?;
            entry["template"].as_str().map(str::to_owned)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
