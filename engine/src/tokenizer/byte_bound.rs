//! How much text a token can stand for: a bound by which a text that is far too long is refused
//! without being encoded.
//!
//! It does not know contexts.

use serde::Serialize;
use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// Maximum factor by which NFC makes a text shorter, in bytes of UTF-8: three Hangul letters become
/// one, the Kelvin sign a K.
const NFC: usize = 3;

/// Maximum number of bytes of a text per token; `None` if a tokenizer leaves parts of texts out, or
/// may.
pub(super) fn bytes_per_token(tokenizer: &tokenizers::Tokenizer) -> Option<usize> {
    let strips = tokenizer.get_added_tokens_decoder();
    if strips.values().any(|token| token.lstrip || token.rstrip) {
        return None;
    }
    let shrinking = shrinking(&as_json(&tokenizer.get_normalizer()))?;
    if !keeps_all(&as_json(&tokenizer.get_pre_tokenizer())) || !knows_all(tokenizer) {
        return None;
    }
    // a byte is one or more bytes of a name in the vocabulary
    let longest = tokenizer.get_vocab(true).into_keys().map(|name| name.len()).max()?;
    Some(shrinking * longest.max(1))
}

fn as_json(part: &impl Serialize) -> Value {
    serde_json::to_value(part).unwrap_or_else(|error| Value::String(error.to_string()))
}

/// The parts of a sequence, or the part itself; none if there is none.
fn parts<'a>(part: &'a Value, list: &str) -> Vec<&'a Value> {
    match part.get(list).and_then(Value::as_array) {
        Some(list) => list.iter().collect(),
        None if part.is_null() => Vec::new(),
        None => vec![part],
    }
}

/// Maximum factor by which a normalizer makes a text shorter; `None` if it has no bound.
fn shrinking(normalizer: &Value) -> Option<usize> {
    let factor = |part: &Value| match part["type"].as_str()? {
        "NFC" => Some(NFC),
        "Prepend" => Some(1),
        "Replace" => {
            let (from, to) = (part["pattern"]["String"].as_str()?, part["content"].as_str()?);
            (to.len() >= from.len()).then_some(1)
        }
        _ => None,
    };
    parts(normalizer, "normalizers").into_iter().map(factor).product()
}

/// Whether a pre-tokenizer only splits.
fn keeps_all(pre_tokenizer: &Value) -> bool {
    parts(pre_tokenizer, "pretokenizers").into_iter().all(|part| match part["type"].as_str() {
        Some("ByteLevel" | "Digits" | "Metaspace") => true,
        Some("Split" | "Punctuation") => part["behavior"] != "Removed",
        _ => false,
    })
}

/// Whether every byte of a text becomes a token or a part of one.
fn knows_all(tokenizer: &tokenizers::Tokenizer) -> bool {
    let ModelWrapper::BPE(bpe) = tokenizer.get_model() else { return false };
    let has = |name: &str| tokenizer.token_to_id(name).is_some();
    let is_byte_level = as_json(&tokenizer.get_pre_tokenizer()).to_string().contains("ByteLevel");
    match bpe.byte_fallback {
        true => (0..=255).all(|byte: u8| has(&format!("<0x{byte:02X}>"))),
        false => is_byte_level && ByteLevel::alphabet().into_iter().all(|c| has(&c.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The tokenizer of a folder with one change.
    fn changed(folder: &str, change: impl FnOnce(&mut Value)) -> tokenizers::Tokenizer {
        let path = format!("{}/../{folder}/tokenizer.json", env!("CARGO_MANIFEST_DIR"));
        let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        change(&mut value);
        tokenizers::Tokenizer::from_bytes(value.to_string()).unwrap()
    }

    #[test]
    fn bytes_per_token_are_those_of_the_longest_token() {
        for (folder, wanted) in [
            // the longest name, as Python reads it: `max(len(name.encode()) for name in vocab)`
            ("tests/golden/models/tiny-llama", 13),
            ("data/models/nano-policy", 29),
            ("data/models/nano-rrm", 611),
            // NFC, and the added token `<|endoftext|>`
            ("tests/golden/models/tiny-qwen2", 3 * 13),
        ] {
            let tokenizer = changed(folder, |_| {});
            assert_eq!(bytes_per_token(&tokenizer), Some(wanted), "{folder}");
        }
    }

    #[test]
    fn texts_have_as_many_tokens_as_their_bytes_say() {
        let tokenizer = changed("tests/golden/models/tiny-qwen2", |_| {});
        let per_token = bytes_per_token(&tokenizer).unwrap();
        let longest = tokenizer.get_vocab(true).into_keys().max_by_key(String::len).unwrap();
        for text in
            [&longest[..], "\u{212a}", "\u{1112}\u{1161}\u{11ab}", " ", "\u{fffd}", "<|im_end|>"]
        {
            let text = text.repeat(500);
            let n_tokens = tokenizer.encode_fast(&*text, false).unwrap().get_ids().len();
            assert!(n_tokens >= text.len().div_ceil(per_token), "{text:?}");
        }
    }

    #[test]
    fn tokenizers_that_leave_something_out_have_no_bound() {
        const TINY: &str = "tests/golden/models/tiny-llama";
        let split = |behavior: &str| {
            json!({"type": "Split", "pattern": {"String": " "}, "behavior": behavior,
                   "invert": false})
        };
        let put = |key: &'static str, part: Value| changed(TINY, move |value| value[key] = part);
        let replace =
            |to: &str| json!({"type": "Replace", "pattern": {"String": "aa"}, "content": to});
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false,
                                "trim_offsets": true, "use_regex": true});
        let sequence = |first: Value| {
            let both = [first, byte_level.clone()];
            json!({"type": "Sequence", "pretokenizers": both})
        };
        for (tokenizer, wanted) in [
            (put("normalizer", replace("bb")), Some(13)),
            (put("normalizer", replace("b")), None),
            (put("normalizer", json!({"type": "NFKC"})), None),
            (
                put(
                    "normalizer",
                    json!({"type": "Strip", "strip_left": true, "strip_right": true}),
                ),
                None,
            ),
            (put("pre_tokenizer", sequence(split("Isolated"))), Some(13)),
            (put("pre_tokenizer", sequence(split("Removed"))), None),
            (put("pre_tokenizer", json!({"type": "WhitespaceSplit"})), None),
            (put("pre_tokenizer", Value::Null), None),
        ] {
            assert_eq!(bytes_per_token(&tokenizer), wanted);
        }
        let strips = changed(TINY, |value| value["added_tokens"][0]["lstrip"] = json!(true));
        assert_eq!(bytes_per_token(&strips), None);
    }
}
