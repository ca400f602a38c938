//! Conversion between text and token ids: a tokenizer with its special tokens and chat template.
//!
//! The byte-pair encoding is the `tokenizers` library's; this module adds the settings of model
//! folders. It knows nothing of models.

pub(crate) mod as_is;
mod as_text;
mod byte_bound;
mod chat;
pub(crate) mod continuation;
pub(crate) mod gguf;
mod special;
mod stream;
mod templates;
pub mod train;
pub(crate) mod turns;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use joust_schema::ordered_json::JsonFields;
use joust_schema::prompt::Message;
use serde_json::{Map, Value};

pub use stream::TextStream;

use crate::error::Error;
use crate::jinja::{CalendarDate, Rendered};
use crate::json;
use as_text::TextEncoder;
use chat::TemplateContext;
pub(crate) use templates::MORE_TEMPLATES;
use templates::{ChatTemplates, TemplateTexts};

/// A tokenizer as a model folder describes it.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    /// Content of `tokenizer_config.json`, without the chat template.
    config: Map<String, Value>,
    templates: ChatTemplates,
    /// The date that the template's `strftime_now` gives.
    today: CalendarDate,
    /// Further variables of the template.
    kwargs: Arc<JsonFields>,
    /// Names and texts of the special tokens that are set.
    named: Vec<(String, String)>,
    bos: Option<String>,
    eos_ids: Vec<u32>,
    /// Encodes control tokens in contents of chats as text; made when it is first used.
    as_text: Arc<OnceLock<TextEncoder>>,
    /// Maximum number of bytes of a text per token, if there is one; found when it is first used.
    bytes_per_token: Arc<OnceLock<Option<usize>>>,
}

/// Folders with `tokenizer.model`, or with `vocab.json` and `merges.txt` alone, have none.
const NO_TOKENIZER: &str = "no tokenizer.json in this folder; transformers writes it: \
                            AutoTokenizer.from_pretrained(folder).save_pretrained(folder)";

/// Date that chat templates see by default, as year, month and day.
pub const DEFAULT_TEMPLATE_DATE: &str = "2025-01-01";

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

    /// Least number of tokens of any text of `n_bytes`, told without encoding one; 0 if texts of
    /// that size may have none, because the tokenizer leaves something out.
    pub fn least_tokens(&self, n_bytes: usize) -> usize {
        let found = self.bytes_per_token.get_or_init(|| byte_bound::bytes_per_token(&self.inner));
        found.map_or(0, |per_token| n_bytes.div_ceil(per_token))
    }

    /// Size of a rendered chat, at least, without the marks of [`Tokenizer::mark_controls`].
    pub fn marked_bytes(rendered: &str) -> usize {
        TextEncoder::bytes_outside_marks(rendered)
    }

    fn text_encoder(&self) -> &TextEncoder {
        self.as_text.get_or_init(|| {
            let template = self.templates.of(&self.kwargs);
            let written = template.map_or(BTreeSet::new(), |template| {
                as_text::written_tokens(template, self.today, &self.kwargs)
            });
            TextEncoder::new(&self.inner, written)
        })
    }

    /// Makes a tokenizer from its parts.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where BOS or EOS is not in the vocabulary, [`Error::Template`] where
    /// the template does not parse.
    pub(crate) fn from_parts(
        inner: tokenizers::Tokenizer,
        config: Map<String, Value>,
        templates: TemplateTexts,
    ) -> Result<Self, Error> {
        let named = special::named(&config);
        let text_of =
            |key: &str| named.iter().find(|(name, _)| name == key).map(|(_, text)| text.clone());
        let (bos, eos) = (text_of("bos_token"), text_of("eos_token"));
        let id_of = |token: &String| {
            inner.token_to_id(token).ok_or_else(|| {
                Error::Tokenizer(format!("special token `{token}` is not in the vocabulary"))
            })
        };
        if let Some(bos) = &bos {
            id_of(bos)?;
        }
        let eos_ids = eos.as_ref().map(id_of).transpose()?.into_iter().collect();
        let templates = ChatTemplates::parse(templates)?;
        let today = CalendarDate::parse(DEFAULT_TEMPLATE_DATE)
            .expect("the default date is a date. This is a bug.");
        Ok(Self {
            inner: Arc::new(inner),
            config,
            templates,
            today,
            kwargs: Arc::default(),
            named,
            bos,
            eos_ids,
            as_text: Arc::default(),
            bytes_per_token: Arc::default(),
        })
    }

    /// The tokenizer with another date for its chat template's `strftime_now`: `2024-07-26`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where the text is no date.
    pub fn with_template_date(&self, date: &str) -> Result<Self, Error> {
        match CalendarDate::parse(date) {
            Some(today) => Ok(Self { today, ..self.clone() }),
            None => Err(Error::BadRequest(format!(
                "template_date is {date:?}, wanted a date such as {DEFAULT_TEMPLATE_DATE}"
            ))),
        }
    }

    /// The tokenizer with further variables of its chat template, such as `enable_thinking`.
    #[must_use]
    pub fn with_template_kwargs(&self, kwargs: &JsonFields) -> Self {
        Self { kwargs: Arc::new(kwargs.clone()), as_text: Arc::default(), ..self.clone() }
    }

    /// The tokenizer with variables of its chat template beside those that it has; of the same name
    /// the new ones count.
    #[must_use]
    pub fn with_more_template_kwargs(&self, more: &JsonFields) -> Self {
        if more.0.is_empty() {
            return self.clone();
        }
        let mut kwargs = JsonFields::clone(&self.kwargs);
        for (name, value) in &more.0 {
            kwargs.insert(name.clone(), value.clone());
        }
        self.with_template_kwargs(&kwargs)
    }

    /// Reads `tokenizer.json`, the settings, the special and added tokens, and the chat template of
    /// a model folder.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::BadFile`] for missing or broken files, [`Error::Tokenizer`] where
    /// BOS or EOS is not in the vocabulary, [`Error::Template`] where the template does not parse.
    pub fn from_folder(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("tokenizer.json");
        if dir.is_dir() && !path.exists() {
            return Err(Error::bad_file(dir, NO_TOKENIZER));
        }
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
        special::complete(dir, &mut inner, &mut config)?;
        let in_config = config.remove("chat_template");
        Self::from_parts(inner, config, templates::texts(dir, in_config.as_ref())?)
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` (with the chat templates), and the class
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
        self.templates.write(&mut config);
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
        TextStream::new(Arc::clone(&self.inner), true)
    }

    /// As [`Tokenizer::stream`], with the texts of special tokens.
    pub(crate) fn stream_with_special_tokens(&self) -> TextStream {
        TextStream::new(Arc::clone(&self.inner), false)
    }

    /// Whether a text contains a special token's text.
    pub(crate) fn spells_special_token(&self, text: &str) -> bool {
        self.special_token_in(text).is_some()
    }

    /// The first special token in a text.
    pub fn special_token_in(&self, text: &str) -> Option<String> {
        let added = self.inner.get_added_tokens_decoder();
        let special = added.values().filter(|token| token.special);
        let found = special.filter_map(|token| Some((text.find(&token.content)?, &token.content)));
        found.min().map(|(_, token)| token.clone())
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
        self.templates.has_default()
    }

    /// The same tokenizer with another chat template.
    ///
    /// # Errors
    /// [`Error::Template`] where the template does not parse.
    pub fn with_chat_template(&self, source: String) -> Result<Self, Error> {
        let templates = ChatTemplates::parse(Some(source).into())?;
        Ok(Self { templates, as_text: Arc::default(), ..self.clone() })
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
        Ok(self.rendered(messages, add_generation_prompt)?.text)
    }

    /// As [`Tokenizer::render_chat`], with what the template marks as generated.
    fn rendered(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Rendered, Error> {
        let template = self.templates.of(&self.kwargs)?;
        let context = TemplateContext {
            add_generation_prompt,
            special_tokens: &self.named,
            today: self.today,
            kwargs: &self.kwargs,
        };
        template.render(messages, &context)
    }
}

#[cfg(test)]
mod tests;
