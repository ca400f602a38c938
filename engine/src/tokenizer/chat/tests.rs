//! Chat templates against transformers, recorded in `tests/golden/templates.json` by
//! `make_templates.py`: equal texts, and errors where transformers raises one.

use joust_schema::prompt::Message;
use serde_json::{Value, json};

use crate::golden;
use crate::tokenizer::Tokenizer;

/// A tokenizer of a folder with this template and these special tokens.
fn tokenizer(template: &str, special: &Value, today: &str) -> Result<Tokenizer, String> {
    let dir = tempfile::tempdir().unwrap();
    let vocab = json!({"<s>": 0, "</s>": 1, "<unk>": 2});
    let model = json!({"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"});
    let write = |name: &str, value: Value| {
        std::fs::write(dir.path().join(name), value.to_string()).unwrap();
    };
    write("tokenizer.json", json!({"version": "1.0", "added_tokens": [], "model": model}));
    let mut config = special.clone();
    config["chat_template"] = template.into();
    write("tokenizer_config.json", config);
    let tokenizer = Tokenizer::from_folder(dir.path()).map_err(|error| error.to_string())?;
    Ok(tokenizer.with_template_date(today).unwrap())
}

#[test]
fn templates_render_the_text_of_transformers_or_an_error_where_it_raises_one() {
    let golden = golden::read("templates.json");
    let today = golden["_meta"]["today"].as_str().unwrap();
    let chats: Vec<Vec<Message>> = serde_json::from_value(golden["chats"].clone()).unwrap();
    let templates = golden["templates"].as_array().unwrap();
    assert!(templates.len() >= 80 && chats.len() == 4);
    let mut differing = Vec::new();
    for row in templates {
        let tokenizer = tokenizer(row["template"].as_str().unwrap(), &row["special"], today);
        for (at, (chat, wanted)) in
            chats.iter().zip(row["rendered"].as_array().unwrap()).enumerate()
        {
            let seen = tokenizer.as_ref().map_err(Clone::clone).and_then(|tokenizer| {
                tokenizer.render_chat(chat, at % 2 == 0).map_err(|error| error.to_string())
            });
            let is_equal = match wanted["text"].as_str() {
                Some(text) => seen.as_deref() == Ok(text),
                None => seen.is_err(),
            };
            if !is_equal {
                differing.push(format!("{} {at}: {seen:?}\n  wanted {wanted}", row["name"]));
            }
        }
    }
    let n = differing.len();
    assert!(differing.is_empty(), "{n} renderings differ:\n{}", differing.join("\n"));
}

#[test]
fn template_errors_name_the_line_or_give_the_templates_own_words() {
    let message = |template: &str| {
        let special = json!({"bos_token": "<s>"});
        match tokenizer(template, &special, "2025-01-01") {
            Err(error) => error,
            Ok(tokenizer) => {
                tokenizer.render_chat(&[Message::new("user", "a")], true).unwrap_err().to_string()
            }
        }
    };
    let deep = format!("{{{{ {}1", "(".repeat(5_000));
    let cases = [
        ("a\n{% if %}", "chat template: does not parse: line 2:"),
        ("{{ raise_exception('only users') }}", "chat template: only users"),
        ("{{ messages[0].tool_calls[0] }}", "has no attribute 'tool_calls' is undefined"),
        (
            "{% for x in [1] %}{% for y in x %}{% endfor %}{% endfor %}",
            "'int' object is not iterable",
        ),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "levels of calls"),
        (&deep, "line 1:"),
    ];
    for (template, wanted) in cases {
        let seen = message(template);
        assert!(seen.contains(wanted), "{seen:?} lacks {wanted:?}");
    }
}

#[test]
fn several_templates_without_a_default_are_an_error_with_their_names() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(
        golden::path("models/tiny-llama/tokenizer.json"),
        dir.path().join("tokenizer.json"),
    )
    .unwrap();
    let named = |names: &[&str]| -> Value {
        names.iter().map(|name| json!({"name": name, "template": format!("T-{name}")})).collect()
    };
    let render = |names: &[&str]| {
        let config = json!({"chat_template": named(names)}).to_string();
        std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
        let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
        tokenizer.render_chat(&[], true).map_err(|error| error.to_string())
    };
    assert_eq!(render(&["tool_use", "default"]).unwrap(), "T-default");
    let error = render(&["tool_use", "rag"]).unwrap_err();
    assert!(error.contains("tool_use, rag"), "{error}");
    // a file of its own counts more
    std::fs::write(dir.path().join("chat_template.jinja"), "from the file\n").unwrap();
    assert_eq!(render(&["default"]).unwrap(), "from the file");
}
