//! The tokens of a GGUF file that end a generation, by their keys and by their names, as llama.cpp
//! finds them: files name one of them as EOS, and chat models end a turn with another.

use super::file::GgufFile;
use super::value::GgufValue;

/// Keys with the id of a token that ends a generation: `tokenizer.ggml.{key}_token_id`.
pub(super) const KEYS: [&str; 6] = ["eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep"];

/// Names of such tokens in the vocabularies of all families.
const NAMES: [&str; 26] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "< EOT >",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    // between the files that a code model completes
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Whether a token of this name ends a generation.
pub(crate) fn is_end_name(token: &str) -> bool {
    NAMES.contains(&token)
}

/// Ids of all tokens that end a generation by their name.
pub(super) fn named(file: &GgufFile) -> Vec<u64> {
    let tokens = file.metadata("tokenizer.ggml.tokens").and_then(GgufValue::as_array);
    let tokens = tokens.unwrap_or_default().iter().map(GgufValue::as_str);
    let ends = (0..).zip(tokens).filter(|(_, token)| token.is_some_and(is_end_name));
    ends.map(|(id, _)| id).collect()
}
