//! The tokenizer of a GGUF file, rebuilt for the `tokenizers` crate.
//!
//! This file owns the mapping from llama.cpp's names of pre-tokenizers to their rules of splitting.
//! It reads byte-level BPE only (`tokenizer.ggml.model` = `gpt2`). It does not parse chat templates
//! but returns their text.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::Error;
use crate::weights::gguf::{GgufFile, GgufValue, is_end_name};

/// A control token, such as `<|im_end|>`: matched in text as a whole, skipped by decoding.
const TYPE_CONTROL: u64 = 3;
/// A token that is matched as a whole and kept by decoding, such as `<think>`.
const TYPE_USER_DEFINED: u64 = 4;

const QWEN2_SPLIT: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const LLAMA3_SPLIT: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const GPT2_SPLIT: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Splits of llama.cpp's `default`, applied one after the other.
const DEFAULT_SPLITS: [&str; 4] =
    [r"[\p{P}\$\+<=>\^~\|]+", GPT2_SPLIT, r"\p{N}+", r"[0-9][0-9][0-9]"];

/// Settings of a GGUF file's tokenizer, beside the vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GgufTokenizerConfig {
    /// The token that begins a text.
    pub(crate) bos: Option<String>,
    /// The token that ends a text or a turn.
    pub(crate) eos: Option<String>,
    /// Whether prompts start with `bos`. The tokenizer's post-processor then adds it where the
    /// caller asks for special tokens.
    pub(crate) add_bos: bool,
    /// The chat template, in Jinja.
    pub(crate) chat_template: Option<String>,
}

/// Rules of splitting and merging text.
struct Splitting {
    pre_tokenizer: PreTokenizerWrapper,
    /// Whether a word that is a token becomes that token even if no merges lead to it.
    ignore_merges: bool,
    /// Whether text is first normalised to NFC.
    compose: bool,
    /// Default of `add_bos` for files without that key.
    add_bos: bool,
}

/// Builds the tokenizer of a GGUF file.
///
/// # Errors
/// [`Error::Unsupported`] for a vocabulary other than byte-level BPE or an unknown pre-tokenizer,
/// [`Error::BadFile`] where the vocabulary is missing or inconsistent.
pub(crate) fn tokenizer_from_gguf(
    file: &GgufFile,
) -> Result<(Tokenizer, GgufTokenizerConfig), Error> {
    let bad = |reason: String| Error::bad_file(file.path(), reason);
    match file.metadata("tokenizer.ggml.model").and_then(GgufValue::as_str) {
        Some("gpt2") => {}
        Some(other) => {
            let path = file.path().display();
            let what = format!(
                "{path}: tokenizer.ggml.model {other} (only gpt2, byte-level BPE, can be read)"
            );
            return Err(Error::unsupported(what));
        }
        None => {
            return Err(bad("metadata key tokenizer.ggml.model is missing".to_owned()));
        }
    }
    let splitting = splitting(file)?;
    let tokens = tokens(file).map_err(bad)?;
    let bpe = bpe(file, &tokens, splitting.ignore_merges).map_err(bad)?;
    let mut tokenizer = Tokenizer::new(bpe);
    if splitting.compose {
        tokenizer.with_normalizer(Some(NFC)).map_err(|error| bad(error.to_string()))?;
    }
    tokenizer.with_pre_tokenizer(Some(splitting.pre_tokenizer));
    tokenizer.with_decoder(Some(ByteLevel::default()));

    let bos = named_token(file, &tokens, "bos").map_err(bad)?;
    let eos = named_token(file, &tokens, "eos").map_err(bad)?;
    let added = added_tokens(file, &tokens, [&bos, &eos]).map_err(bad)?;
    tokenizer.add_tokens(added).map_err(|error| bad(error.to_string()))?;

    let add_bos = file.metadata("tokenizer.ggml.add_bos_token").and_then(GgufValue::as_bool);
    let add_bos = add_bos.unwrap_or(splitting.add_bos) && bos.is_some();
    if let Some(bos) = bos.as_deref().filter(|_| add_bos) {
        let template = bos_template(&tokenizer, bos).map_err(bad)?;
        tokenizer.with_post_processor(Some(template));
    }
    let template = file.metadata("tokenizer.chat_template").and_then(GgufValue::as_str);
    let chat_template = template.map(str::to_owned);
    Ok((tokenizer, GgufTokenizerConfig { bos, eos, add_bos, chat_template }))
}

/// The tokens in the order of their ids. An empty token gets llama.cpp's placeholder.
fn tokens(file: &GgufFile) -> Result<Vec<String>, String> {
    let values = strings(file, "tokenizer.ggml.tokens")?;
    let name = |(id, token): (usize, &str)| match token {
        "" => format!("[EMPTY_{id}]"),
        token => token.to_owned(),
    };
    Ok(values.into_iter().enumerate().map(name).collect())
}

fn strings<'a>(file: &'a GgufFile, key: &str) -> Result<Vec<&'a str>, String> {
    let values = file.metadata(key).ok_or_else(|| format!("metadata key {key} is missing"))?;
    let texts: Option<Vec<&str>> =
        values.as_array().and_then(|values| values.iter().map(GgufValue::as_str).collect());
    texts.ok_or_else(|| format!("metadata key {key} is not a list of text"))
}

fn bpe(file: &GgufFile, tokens: &[String], ignore_merges: bool) -> Result<BPE, String> {
    let mut vocab: HashMap<&str, u32> = HashMap::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        let id = u32::try_from(id).map_err(|_| format!("{} tokens", tokens.len()))?;
        if let Some(first) = vocab.insert(token, id) {
            return Err(format!("tokens {first} and {id} are both {token:?}"));
        }
    }
    let mut merges = Vec::new();
    for (rank, merge) in strings(file, "tokenizer.ggml.merges")?.into_iter().enumerate() {
        // a token may begin with a space, so that the first character is never the separator
        let first_bytes = merge.chars().next().map_or(0, char::len_utf8);
        let space = merge[first_bytes..].find(' ').map(|at| at + first_bytes);
        let space = space.ok_or_else(|| format!("merge {rank}, {merge:?}, has no space"))?;
        let (left, right) = (&merge[..space], &merge[space + 1..]);
        let whole = format!("{left}{right}");
        for part in [left, right, &whole] {
            if !vocab.contains_key(part) {
                return Err(format!("merge {rank}, {merge:?}, wants a token {part:?}"));
            }
        }
        merges.push((left.to_owned(), right.to_owned()));
    }
    // llama.cpp names the rows that fill up the embeddings; they have no text
    let named = tokens.iter().zip(0..).filter(|(token, id)| **token != format!("[PAD{id}]"));
    let vocab: Vocab = named.map(|(token, id)| (token.clone(), id)).collect();
    let builder = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(ignore_merges);
    builder.build().map_err(|error| error.to_string())
}

/// Tokens that are matched in text before it is split: the tokens that the file marks, and `named`,
/// the tokens that begin and end a text.
fn added_tokens(
    file: &GgufFile,
    tokens: &[String],
    named: [&Option<String>; 2],
) -> Result<Vec<AddedToken>, String> {
    let key = "tokenizer.ggml.token_type";
    let types: Vec<u64> = match file.metadata(key) {
        None => Vec::new(),
        Some(value) => {
            let types: Option<Vec<u64>> =
                value.as_array().and_then(|types| types.iter().map(GgufValue::as_u64).collect());
            types.ok_or_else(|| format!("metadata key {key} is not a list of counts"))?
        }
    };
    if !types.is_empty() && types.len() != tokens.len() {
        let (n_types, n_tokens) = (types.len(), tokens.len());
        return Err(format!("{key} has {n_types} entries for {n_tokens} tokens"));
    }
    let types = types.into_iter().chain(std::iter::repeat(0));
    let is_named = |token: &String| named.into_iter().flatten().any(|name| name == token);
    let added = tokens.iter().zip(types).filter_map(|(token, kind)| {
        // some files mark the tokens that end a turn as plain ones
        let special = kind == TYPE_CONTROL || is_named(token) || is_end_name(token);
        (special || kind == TYPE_USER_DEFINED)
            .then(|| AddedToken::from(token.clone(), special).normalized(false))
    });
    Ok(added.collect())
}

/// The token with the id `tokenizer.ggml.{name}_token_id`.
fn named_token(file: &GgufFile, tokens: &[String], name: &str) -> Result<Option<String>, String> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    let Some(value) = file.metadata(&key) else {
        return Ok(None);
    };
    let id = value.as_u64().and_then(|id| usize::try_from(id).ok());
    let token = id.and_then(|id| tokens.get(id));
    let n_tokens = tokens.len();
    let token =
        token.ok_or_else(|| format!("{key} is {value:?}, the file has {n_tokens} tokens"))?;
    Ok(Some(token.clone()))
}

/// A post-processor that puts `bos` in front of each text.
fn bos_template(tokenizer: &Tokenizer, bos: &str) -> Result<TemplateProcessing, String> {
    let id = tokenizer.token_to_id(bos).ok_or_else(|| format!("{bos} has no id"))?;
    // the template syntax gives spaces and `:` a meaning, so that a name stands for the token
    let special = tokenizers::processors::template::SpecialToken::new(
        "bos".to_owned(),
        vec![id],
        vec![bos.to_owned()],
    );
    let mut template = TemplateProcessing::builder();
    template.try_single("bos $A").map_err(|error| error.to_string())?;
    template.try_pair("bos $A $B:1").map_err(|error| error.to_string())?;
    template.special_tokens(vec![special.map_err(|error| error.to_string())?]);
    template.build().map_err(|error| error.to_string())
}

/// The rules that `tokenizer.ggml.pre` names. Without that key they are those of `default`, as in
/// llama.cpp.
fn splitting(file: &GgufFile) -> Result<Splitting, Error> {
    let name = file.metadata("tokenizer.ggml.pre").and_then(GgufValue::as_str).unwrap_or("default");
    let pre_tokenizer = match name {
        "qwen2" | "deepseek-r1-qwen" => split_then_bytes(&[QWEN2_SPLIT]),
        "llama-bpe" => split_then_bytes(&[LLAMA3_SPLIT]),
        "default" => split_then_bytes(&DEFAULT_SPLITS),
        "gpt-2" => Ok(byte_level(true).into()),
        "smollm" => {
            Ok(Sequence::new(vec![Digits::new(true).into(), byte_level(true).into()]).into())
        }
        other => {
            let path = file.path().display();
            let what = format!("{path}: tokenizer.ggml.pre {other}");
            return Err(Error::unsupported(what));
        }
    };
    Ok(Splitting {
        pre_tokenizer: pre_tokenizer.map_err(Error::Tokenizer)?,
        ignore_merges: name == "llama-bpe",
        compose: name == "qwen2",
        add_bos: name == "llama-bpe",
    })
}

fn byte_level(use_regex: bool) -> ByteLevel {
    ByteLevel::new(false, true, use_regex)
}

fn split_then_bytes(patterns: &[&str]) -> Result<PreTokenizerWrapper, String> {
    let mut steps: Vec<PreTokenizerWrapper> = Vec::with_capacity(patterns.len() + 1);
    for pattern in patterns {
        let pattern = SplitPattern::Regex((*pattern).to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
        steps.push(split.map_err(|error| error.to_string())?.into());
    }
    steps.push(byte_level(false).into());
    Ok(Sequence::new(steps).into())
}

#[cfg(test)]
mod tests;
