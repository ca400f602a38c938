//! Tokenizers from the metadata of GGUF files that the tests write.

use super::*;
use crate::weights::gguf::tests::GgufWriter;

const TOKENS: [&str; 18] = [
    "<|start|>",
    "<|end|>",
    "<think>",
    "a",
    "b",
    "ab",
    "1",
    "2",
    "12",
    "Ġ",
    "ĠĠ",
    "Ġa",
    "Ċ",
    "'",
    "aa",
    "e",
    "Ì",
    "ģ",
];
const MERGES: [&str; 5] = ["a b", "1 2", "Ġ Ġ", "Ġ a", "a a"];

fn writer(model: &str, pre: &str) -> GgufWriter {
    let mut types = 5_u32.to_le_bytes().to_vec();
    types.extend((TOKENS.len() as u64).to_le_bytes());
    for id in 0..TOKENS.len() {
        let kind: i32 = [3, 3, 4].get(id).copied().unwrap_or(1);
        types.extend(kind.to_le_bytes());
    }
    GgufWriter::default()
        .str("tokenizer.ggml.model", model)
        .str("tokenizer.ggml.pre", pre)
        .strings("tokenizer.ggml.tokens", &TOKENS)
        .value("tokenizer.ggml.token_type", 9, &types)
        .u32("tokenizer.ggml.eos_token_id", 1)
}

fn with_merges(pre: &str) -> GgufWriter {
    writer("gpt2", pre).strings("tokenizer.ggml.merges", &MERGES)
}

fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    tokenizer.encode(text, true).unwrap().get_tokens().to_vec()
}

#[test]
fn tokenizer_from_gguf_splits_text_as_the_file_says() {
    let cases: [(&str, &str, &[&str]); 7] = [
        ("smollm", "ab  12", &["ab", "ĠĠ", "1", "2"]),
        ("gpt-2", "ab  12", &["ab", "Ġ", "Ġ", "12"]),
        ("qwen2", "ab  12", &["ab", "Ġ", "Ġ", "1", "2"]),
        ("deepseek-r1-qwen", "a\n\na", &["a", "Ċ", "Ċ", "a"]),
        ("llama-bpe", "ab  12", &["ab", "Ġ", "Ġ", "12"]),
        ("default", "a'b 12", &["a", "'", "b", "Ġ", "12"]),
        ("qwen2", "<|end|>a<think>  a<|end|>", &["<|end|>", "a", "<think>", "Ġ", "Ġa", "<|end|>"]),
    ];
    for (pre, text, wanted) in cases {
        let (tokenizer, _) = tokenizer_from_gguf(&with_merges(pre).open()).unwrap();
        assert_eq!(pieces(&tokenizer, text), wanted, "{pre} {text:?}");
        assert_eq!(tokenizer.get_vocab_size(true), TOKENS.len());
    }
}

#[test]
fn tokenizer_from_gguf_skips_only_control_tokens_when_decoding() {
    let (tokenizer, _) = tokenizer_from_gguf(&with_merges("qwen2").open()).unwrap();
    let ids = [3, 2, 11, 1];
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "a<think> a");
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "a<think> a<|end|>");
}

#[test]
fn tokenizer_from_gguf_adds_bos_where_the_file_or_its_family_does() {
    let (tokenizer, config) = tokenizer_from_gguf(
        &with_merges("llama-bpe")
            .u32("tokenizer.ggml.bos_token_id", 0)
            .str("tokenizer.chat_template", "{{ messages }}")
            .open(),
    )
    .unwrap();
    let wanted = GgufTokenizerConfig {
        bos: Some("<|start|>".to_owned()),
        eos: Some("<|end|>".to_owned()),
        add_bos: true,
        chat_template: Some("{{ messages }}".to_owned()),
    };
    assert_eq!(config, wanted);
    assert_eq!(pieces(&tokenizer, "ab"), ["<|start|>", "ab"]);
    assert_eq!(tokenizer.encode("ab", false).unwrap().get_tokens(), ["ab"]);

    let off = with_merges("llama-bpe").u32("tokenizer.ggml.bos_token_id", 0).value(
        "tokenizer.ggml.add_bos_token",
        7,
        &[0],
    );
    assert!(!tokenizer_from_gguf(&off.open()).unwrap().1.add_bos);
    let none = tokenizer_from_gguf(&with_merges("llama-bpe").open()).unwrap().1;
    assert_eq!((none.bos, none.add_bos), (None, false));
}

#[test]
fn tokenizer_from_gguf_names_what_it_cannot_read() {
    let merges = |merges: &[&str]| writer("gpt2", "qwen2").strings("tokenizer.ggml.merges", merges);
    let cases = [
        (writer("llama", "default"), "tokenizer.ggml.model llama"),
        (with_merges("tekken"), "tokenizer.ggml.pre tekken is not supported"),
        (GgufWriter::default(), "tokenizer.ggml.model is missing"),
        (writer("gpt2", "qwen2"), "tokenizer.ggml.merges is missing"),
        (merges(&["a b", "b b"]), "merge 1, \"b b\", wants a token \"bb\""),
        (merges(&["ab"]), "merge 0, \"ab\", has no space"),
        (with_merges("qwen2").u32("tokenizer.ggml.bos_token_id", 99), "the file has 18 tokens"),
        (
            GgufWriter::default()
                .str("tokenizer.ggml.model", "gpt2")
                .strings("tokenizer.ggml.tokens", &["a", "a"]),
            "tokens 0 and 1 are both \"a\"",
        ),
    ];
    for (writer, wanted) in cases {
        let error = tokenizer_from_gguf(&writer.open()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error:?} lacks {wanted:?}");
    }
}
