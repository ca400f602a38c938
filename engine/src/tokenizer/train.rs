//! Training a byte-level byte-pair encoding on a task's own text.
//!
//! The training is the `tokenizers` library's; this chooses how text is split beforehand.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, DecoderWrapper, ModelWrapper};

use super::{Tokenizer, as_is};
use crate::error::Error;

/// How text is cut before pairs are merged; merges never cross a cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreTokenizer {
    /// Each digit stands alone and nothing else is cut: whole phrases become one token.
    #[default]
    Digits,
    /// Each digit stands alone, the rest is cut into words as GPT-2 does.
    DigitsAndWords,
}

/// What a fresh tokenizer is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BpeConfig {
    /// Number of tokens in the vocabulary, special tokens included.
    #[schemars(range(min = 1))]
    pub vocab_size: usize,
    /// Rule that cuts text before pairs are merged.
    #[serde(default)]
    pub pre_tokenizer: PreTokenizer,
    /// Begin-of-text token.
    pub bos_token: String,
    /// End-of-text token. It is the padding token, too.
    pub eos_token: String,
    /// Further special tokens: never cut, and left out by decoding.
    #[serde(default)]
    pub special_tokens: Vec<String>,
    /// Further tokens that are never cut and that decoding keeps, such as `<think>`.
    #[serde(default)]
    pub added_tokens: Vec<String>,
    /// Jinja template that turns chat messages into text.
    #[serde(default)]
    pub chat_template: Option<String>,
}

/// Trains a tokenizer on `texts`.
///
/// # Errors
/// [`Error::Tokenizer`] where the vocabulary has no room for the 256 bytes and the special tokens,
/// [`Error::Template`] where the template does not parse.
pub fn bpe(
    texts: impl Iterator<Item = String> + Send,
    config: &BpeConfig,
) -> Result<Tokenizer, Error> {
    let failed = |error: tokenizers::Error| Error::Tokenizer(error.to_string());
    let names = [&config.bos_token, &config.eos_token];
    let mut tokens: Vec<AddedToken> = names
        .into_iter()
        .chain(&config.special_tokens)
        .map(|text| AddedToken::from(text.clone(), true).normalized(false))
        .collect();
    tokens.extend(
        config
            .added_tokens
            .iter()
            .map(|text| AddedToken::from(text.clone(), false).normalized(false)),
    );
    let least = 256 + tokens.len();
    if config.vocab_size < least {
        return Err(Error::Tokenizer(format!(
            "vocab_size is {}, wanted at least {least} for all bytes and special tokens",
            config.vocab_size
        )));
    }
    let trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(config.vocab_size)
        .min_frequency(2)
        .special_tokens(tokens.clone())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut trainer = TrainerWrapper::BpeTrainer(trainer);
    let mut inner = tokenizers::Tokenizer::new(ModelWrapper::BPE(BPE::default()));
    let byte_level =
        ByteLevel::new(false, true, config.pre_tokenizer == PreTokenizer::DigitsAndWords);
    inner.with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(vec![
        PreTokenizerWrapper::Digits(Digits::new(true)),
        PreTokenizerWrapper::ByteLevel(byte_level),
    ]))));
    inner.with_decoder(Some(DecoderWrapper::ByteLevel(ByteLevel::new(false, true, true))));
    inner.train(&mut trainer, texts).map_err(failed)?;
    inner.add_tokens(tokens).map_err(failed)?;
    Tokenizer::from_parts(inner, tokenizer_config(config), config.chat_template.clone().into())
}

fn tokenizer_config(config: &BpeConfig) -> Map<String, Value> {
    let value = json!({
        // the class that takes tokenizer.json as it is
        "tokenizer_class": "PreTrainedTokenizerFast",
        // transformers 5 takes that of the model's family instead unless this is there too
        "auto_map": as_is::auto_map(),
        "bos_token": config.bos_token,
        "eos_token": config.eos_token,
        "pad_token": config.eos_token,
        "add_bos_token": true,
        "clean_up_tokenization_spaces": false,
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
