//! Continuations of tokenizers that put a blank before a text and of those that do not, and the
//! frames of turns.

use std::path::Path;

use serde_json::{Value, json};

use super::*;

/// A folder of a small SentencePiece tokenizer, as Llama 2 has one.
fn sentence_piece(normalizer: &Value, pre_tokenizer: &Value) -> Tokenizer {
    let pieces = ["<unk>", "<s>", "</s>", "▁", "2", "4", "+", "=", "\n", "a", "▁4", "=4"];
    let vocab: serde_json::Map<String, Value> =
        pieces.iter().enumerate().map(|(id, piece)| ((*piece).to_owned(), id.into())).collect();
    let special = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    let file = json!({
        "version": "1.0",
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
        "model": {"type": "BPE", "unk_token": "<unk>", "vocab": vocab, "merges": [["▁", "4"]]},
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), file.to_string()).unwrap();
    let config = json!({"bos_token": "<s>", "eos_token": "</s>"});
    std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    Tokenizer::from_folder(dir.path()).unwrap()
}

fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|id| tokenizer.inner.id_to_token(*id).unwrap()).collect()
}

#[test]
fn encode_continuation_has_no_blank_that_the_text_has_not() {
    let llama = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]});
    let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first",
                           "split": false});
    for (normalizer, pre_tokenizer) in [(&llama, &Value::Null), (&Value::Null, &metaspace)] {
        let tokenizer = sentence_piece(normalizer, pre_tokenizer);
        assert_eq!(pieces(&tokenizer, &tokenizer.encode("4").unwrap()), ["▁4"]);
        let behind = |prompt: &str, text: &str| {
            let ids = tokenizer.encode_continuation(prompt, text).unwrap();
            // what the whole text is encoded as
            let whole = tokenizer.encode(&format!("{prompt}{text}")).unwrap();
            assert!(whole.ends_with(&ids) || prompt.ends_with(' '), "{prompt:?} {text:?}");
            pieces(&tokenizer, &ids)
        };
        assert_eq!(behind("2+2=", "4"), ["4"]);
        assert_eq!(behind("2+2=", " 4"), ["▁4"]);
        assert_eq!(behind("", "4"), ["▁4"]);
        assert_eq!(behind("a\n", "4a"), ["4", "a"]);
        // the blank of the prompt would merge with the text: encoded behind another text
        assert_eq!(behind("2+2= ", "4"), ["4"]);
        assert!(behind("2+2=", "").is_empty());
    }
}

#[test]
fn encode_continuation_of_byte_level_tokenizers_is_encode() {
    for name in ["tiny-llama", "tiny-llama3", "tiny-mistral", "tiny-qwen2", "tiny-qwen3"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models").join(name);
        let tokenizer = Tokenizer::from_folder(&dir).unwrap();
        for text in ["4", " 4", "It is 5.", "\n\n5", "<think>\nsum</think>", "é", ""] {
            for prompt in ["2+2=", "Q: 1\n", "<|im_start|>assistant\n", "a "] {
                let ids = tokenizer.encode_continuation(prompt, text).unwrap();
                assert_eq!(ids, tokenizer.encode(text).unwrap(), "{name} {prompt:?} {text:?}");
            }
        }
    }
}

#[test]
fn turn_frame_is_what_the_template_writes_around_a_turn() {
    let plain = sentence_piece(&Value::Null, &Value::Null);
    assert_eq!(plain.turn_frame(), None);
    let frame = |before: &str, after: &str, end_id: u32| {
        Some(TurnFrame { before: before.to_owned(), after: after.to_owned(), end_id })
    };
    let turns = |user: &str, assistant: &str| {
        format!(
            "{{% for m in messages %}}{{% if m.role == 'user' %}}{user}{{% else %}}{assistant}\
             {{% endif %}}{{% endfor %}}"
        )
    };
    for (template, wanted) in [
        // Llama 2
        (
            turns("<s>[INST] {{ m.content }} [/INST]", " {{ m.content }} {{ eos_token }}"),
            frame(" ", " ", 2),
        ),
        // another end than the tokenizer's EOS, and a thought before the content
        (turns("{{ m.content }}", "<t></t>{{ m.content }}{{ bos_token }}\n"), frame("", "", 1)),
        // no end
        (turns("Q: {{ m.content }}\n", "A: {{ m.content }}\n"), None),
        // something else before the end
        (turns("{{ m.content }}", "{{ m.content }}--</s>"), None),
    ] {
        let tokenizer = plain.with_chat_template(template.clone()).unwrap();
        assert_eq!(tokenizer.turn_frame(), wanted, "{template}");
    }
    for name in ["tiny-llama", "tiny-llama3", "tiny-qwen2", "tiny-qwen3", "tiny-qwen3-biased"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models").join(name);
        let tokenizer = Tokenizer::from_folder(&dir).unwrap();
        assert_eq!(tokenizer.turn_frame(), frame("", "", tokenizer.eos_ids()[0]), "{name}");
    }
}
