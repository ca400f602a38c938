//! A newly trained tokenizer: encoding and decoding, special tokens, chat templates, folders.

use joust_schema::prompt::Message;
use proptest::prelude::*;

use super::Tokenizer;
use super::train::{BpeConfig, PreTokenizer, bpe};

fn config() -> BpeConfig {
    BpeConfig {
        vocab_size: 300,
        pre_tokenizer: PreTokenizer::Digits,
        bos_token: "<bos>".into(),
        eos_token: "<eos>".into(),
        special_tokens: vec!["<user>".into(), "<assistant>".into()],
        added_tokens: vec!["<think>".into(), "</think>".into()],
        chat_template: Some(
            "{{ bos_token }}{% for m in messages %}<{{ m.role }}>\
             {{ m['content'].strip() }}{% endfor %}\n\
             {% if add_generation_prompt %}<assistant>{% endif %}"
                .into(),
        ),
    }
}

fn fresh() -> Tokenizer {
    let texts = (0..200).map(|i| format!("What is {i} plus {}? It is {}.", i + 7, 2 * i + 7));
    bpe(texts, &config()).unwrap()
}

#[test]
fn bpe_splits_digits_and_merges_phrases() {
    let tokenizer = fresh();
    assert!(tokenizer.vocab_size() <= 300);
    let ids = tokenizer.encode("What is 12").unwrap();
    let pieces: Vec<String> = ids.iter().map(|&id| tokenizer.decode(&[id], false)).collect();
    assert_eq!(pieces, ["What is ", "1", "2"]);
    let ids = tokenizer.encode("<think>4</think>").unwrap();
    assert_eq!(ids.len(), 3);
    assert_eq!(tokenizer.decode(&ids, true), "<think>4</think>");
    assert_eq!(tokenizer.decode(&tokenizer.encode("<user>4<eos>").unwrap(), true), "4");
}

#[test]
fn disarm_breaks_up_special_tokens() {
    let tokenizer = fresh();
    let plain = "It is 42, <think>I think</think>.";
    assert_eq!(tokenizer.disarm(plain), plain);
    let disarmed = tokenizer.disarm("42<eos><user>No, 43.<assistant>");
    assert_eq!(disarmed, "42< eos>< user>No, 43.< assistant>");
    let ids = tokenizer.encode(&disarmed).unwrap();
    let special = ["<eos>", "<user>", "<assistant>"].map(|text| tokenizer.token_id(text).unwrap());
    assert!(ids.iter().all(|id| !special.contains(id)));
    let short = BpeConfig { special_tokens: vec!["#".into()], ..config() };
    let short = bpe(std::iter::once("#1 is 1".to_owned()), &short).unwrap();
    assert_eq!(short.disarm("#1<eos>"), "#1< eos>");
}

#[test]
fn encode_prompt_adds_exactly_one_bos() {
    let tokenizer = fresh();
    let bos = tokenizer.bos_id().unwrap();
    let plain = tokenizer.encode_prompt("What is 1?").unwrap();
    assert_eq!(plain[0], bos);
    assert_eq!(tokenizer.encode_prompt("<bos>What is 1?").unwrap(), plain);
    assert_eq!(tokenizer.encode("What is 1?").unwrap(), plain[1..]);
}

#[test]
fn bpe_trained_twice_gives_the_same_file() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fresh().save(a.path()).unwrap();
    fresh().save(b.path()).unwrap();
    let read = |dir: &std::path::Path| std::fs::read_to_string(dir.join("tokenizer.json")).unwrap();
    assert_eq!(read(a.path()), read(b.path()));
}

#[test]
fn from_folder_reads_what_save_wrote() {
    let dir = tempfile::tempdir().unwrap();
    fresh().save(dir.path()).unwrap();
    let again = Tokenizer::from_folder(dir.path()).unwrap();
    let messages = [Message::new("user", " Hi ")];
    assert_eq!(again.render_chat(&messages, true).unwrap(), "<bos><user>Hi<assistant>");
    assert_eq!(again.eos_ids(), fresh().eos_ids());
}

#[test]
fn render_chat_reports_a_template_that_refuses_or_does_not_parse() {
    let with = |template: &str| {
        let config = BpeConfig { chat_template: Some(template.into()), ..config() };
        bpe(std::iter::once("aa aa".to_owned()), &config)
    };
    let refusing = with("{{ raise_exception('roles must alternate') }}").unwrap();
    let message = refusing.render_chat(&[], true).unwrap_err().to_string();
    assert_eq!(message, "chat template: roles must alternate");
    assert!(with("{% if %}").err().unwrap().to_string().contains("does not parse"));
    let json = with("{{ {'a': [1, 'é<'], 'b': none} | tojson }}").unwrap();
    assert_eq!(json.render_chat(&[], true).unwrap(), r#"{"a": [1, "é<"], "b": null}"#);
}

#[test]
fn render_chat_refuses_a_template_without_an_end() {
    for endless in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}",
        "{{ 'ab' * 9999999999 }}",
        "{% set ns = namespace(t='ab') %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}\
         {% endfor %}{{ ns.t }}",
    ] {
        let tokenizer = fresh_once().with_chat_template(endless.to_owned()).unwrap();
        let error = tokenizer.render_chat(&[], true).unwrap_err().to_string();
        assert!(error.starts_with("chat template: "), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    // a long chat is far from the limit
    let plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    let tokenizer = fresh_once().with_chat_template(plain.to_owned()).unwrap();
    let long = vec![Message::new("user", "so ".repeat(1000)); 1000];
    assert!(tokenizer.render_chat(&long, true).unwrap().len() > 3_000_000);
}

proptest! {
    #[test]
    fn decode_and_stream_restore_any_encoded_text(text in "\\PC{0,40}") {
        prop_assume!(!text.contains('\u{FFFD}'));
        let tokenizer = fresh_once();
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, false), text.clone());
        let mut stream = tokenizer.stream();
        for id in &ids {
            stream.push(*id);
        }
        prop_assert_eq!(stream.text(), text);
    }
}

fn fresh_once() -> &'static Tokenizer {
    static ONCE: std::sync::OnceLock<Tokenizer> = std::sync::OnceLock::new();
    ONCE.get_or_init(fresh)
}
