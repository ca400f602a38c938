//! Special and added tokens of a model folder, beside those of `tokenizer.json`: the tokens of
//! `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`, with the precedence
//! that transformers gives them. It knows nothing of templates.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::Error;
use crate::json;

/// Settings whose tokens are special, in the order in which missing ones are added.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Lists of further special tokens, by their present and their former name.
const LISTS: [&str; 2] = ["extra_special_tokens", "additional_special_tokens"];
const DECODER: &str = "added_tokens_decoder";

/// Text of a special token: a string, or an object with `content`.
pub(super) fn text_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content").and_then(Value::as_str))
}

/// Names and texts of the special tokens that a configuration sets. Chat templates see them.
pub(super) fn named(config: &Map<String, Value>) -> Vec<(String, String)> {
    let is_extra = |key: &&String| key.ends_with("_token") && !NAMED.contains(&key.as_str());
    let names = NAMED.iter().map(|&name| name.to_owned());
    let names = names.chain(config.keys().filter(is_extra).cloned());
    let with_text = |name: String| {
        let text = text_of(config.get(&name)?)?.to_owned();
        Some((name, text))
    };
    names.filter_map(with_text).collect()
}

/// Adds the settings of `special_tokens_map.json` to those of `tokenizer_config.json`, and the
/// tokens of all files to the tokenizer.
///
/// # Errors
/// [`Error::Io`] and [`Error::BadFile`] name a broken file, or a token with another id than the
/// tokenizer would give it.
pub(super) fn complete(
    dir: &Path,
    tokenizer: &mut tokenizers::Tokenizer,
    config: &mut Map<String, Value>,
) -> Result<(), Error> {
    let mut listed = match config.get(DECODER) {
        Some(Value::Object(tokens)) => decoder_tokens(&dir.join("tokenizer_config.json"), tokens)?,
        Some(Value::Null) | None => {
            merge_special_tokens_map(dir, config)?;
            legacy_tokens(dir, config)?
        }
        Some(other) => {
            let reason = format!("key `{DECODER}` is {other}, wanted an object");
            return Err(Error::bad_file(dir.join("tokenizer_config.json"), reason));
        }
    };
    listed.sort_by_key(|token| token.id);
    add(tokenizer, listed.iter().map(|token| token.token.clone()))?;
    for ListedToken { id, token, path } in &listed {
        let seen = tokenizer.token_to_id(&token.content);
        if seen != Some(*id) {
            let seen = seen.map_or("none".to_owned(), |seen| seen.to_string());
            let reason = format!("token `{}` has id {id}, in tokenizer.json {seen}", token.content);
            return Err(Error::bad_file(path, reason));
        }
    }
    let added = tokenizer.get_added_tokens_decoder();
    let is_added = |token: &AddedToken| added.values().any(|other| other.content == token.content);
    let missing: Vec<AddedToken> =
        special_tokens(tokenizer, config).into_iter().filter(|token| !is_added(token)).collect();
    add(tokenizer, missing)
}

/// A token that a file lists with its id.
struct ListedToken {
    id: u32,
    token: AddedToken,
    path: std::path::PathBuf,
}

fn add(
    tokenizer: &mut tokenizers::Tokenizer,
    tokens: impl IntoIterator<Item = AddedToken>,
) -> Result<(), Error> {
    let tokens: Vec<AddedToken> = tokens.into_iter().collect();
    match tokenizer.add_tokens(tokens) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Tokenizer(error.to_string())),
    }
}

/// All tokens that the configuration names as special and that are no texts of their own: BOS and
/// EOS have to be known already.
fn special_tokens(
    tokenizer: &tokenizers::Tokenizer,
    config: &Map<String, Value>,
) -> Vec<AddedToken> {
    let named = named(config).into_iter().filter(|(name, text)| {
        !["bos_token", "eos_token"].contains(&&name[..]) || tokenizer.token_to_id(text).is_some()
    });
    let named = named.filter_map(|(name, _)| added_token(config.get(&name)?, true));
    let lists = LISTS.iter().filter_map(|key| config.get(*key)).find(|list| !is_empty(list));
    let listed: Vec<&Value> = match lists {
        Some(Value::Array(tokens)) => tokens.iter().collect(),
        Some(Value::Object(tokens)) => tokens.values().collect(),
        _ => Vec::new(),
    };
    named.chain(listed.into_iter().filter_map(|token| added_token(token, true))).collect()
}

fn is_empty(list: &Value) -> bool {
    match list {
        Value::Array(tokens) => tokens.is_empty(),
        Value::Object(tokens) => tokens.is_empty(),
        _ => true,
    }
}

/// A token from its text, or from an object with its rules.
fn added_token(value: &Value, is_special: bool) -> Option<AddedToken> {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool);
    let special = is_special || flag("special").unwrap_or(false);
    let token = AddedToken::from(text_of(value)?.to_owned(), special)
        .single_word(flag("single_word").unwrap_or(false))
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false))
        .normalized(flag("normalized").unwrap_or(!special));
    Some(token)
}

/// The tokens of `added_tokens_decoder`: objects by id.
fn decoder_tokens(path: &Path, tokens: &Map<String, Value>) -> Result<Vec<ListedToken>, Error> {
    let token = |(id, value): (&String, &Value)| {
        let token = added_token(value, false).filter(|_| value.is_object());
        match (id.parse(), token) {
            (Ok(id), Some(token)) => Ok(ListedToken { id, token, path: path.to_owned() }),
            _ => {
                let reason = format!("key `{DECODER}.{id}` is {value}, wanted a token by its id");
                Err(Error::bad_file(path, reason))
            }
        }
    };
    tokens.iter().map(token).collect()
}

/// Overwrites settings by those of `special_tokens_map.json`.
fn merge_special_tokens_map(dir: &Path, config: &mut Map<String, Value>) -> Result<(), Error> {
    let path = dir.join("special_tokens_map.json");
    if !path.exists() {
        return Ok(());
    }
    let Value::Object(map) = json::read(&path)? else {
        return Err(Error::bad_file(&path, "wanted a JSON object"));
    };
    for (key, value) in map {
        let merged = match (config.get(&key), value) {
            (Some(Value::Array(known)), Value::Array(more)) if key == LISTS[0] => {
                let new = more.into_iter().filter(|token| !known.contains(token));
                known.iter().cloned().chain(new).collect()
            }
            (_, value) => value,
        };
        config.insert(key, merged);
    }
    Ok(())
}

/// The tokens of `added_tokens.json`: ids by text.
fn legacy_tokens(dir: &Path, config: &Map<String, Value>) -> Result<Vec<ListedToken>, Error> {
    let path = dir.join("added_tokens.json");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let Value::Object(tokens) = json::read(&path)? else {
        return Err(Error::bad_file(&path, "wanted a JSON object"));
    };
    let listed = LISTS.iter().filter_map(|key| config.get(*key)?.as_array());
    let listed: Vec<&str> = listed.flatten().filter_map(text_of).collect();
    let named = named(config);
    let is_special =
        |text: &str| named.iter().any(|(_, other)| other == text) || listed.contains(&text);
    let token = |(text, id): (String, Value)| {
        let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let Some(number) = number else {
            return Err(Error::bad_file(&path, format!("the id of `{text}` is {id}")));
        };
        let special = is_special(&text);
        let token = AddedToken::from(text, special).normalized(!special);
        Ok(ListedToken { id: number, token, path: path.clone() })
    };
    tokens.into_iter().map(token).collect()
}
