//! Chat templates against transformers, recorded in `tests/golden/templates.json` by
//! `make_templates.py`: equal texts, and errors where transformers raises one.

use joust_schema::ordered_json::JsonFields;
use joust_schema::prompt::Message;
use serde::Deserialize;
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

/// The golden file. Objects of messages and variables keep the order of their keys.
#[derive(Deserialize)]
struct Golden {
    _meta: Value,
    chats: Vec<Vec<Message>>,
    templates: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    template: String,
    special: Value,
    #[serde(default)]
    kwargs: JsonFields,
    rendered: Vec<Value>,
}

#[test]
fn templates_render_the_text_of_transformers_or_an_error_where_it_raises_one() {
    let text = std::fs::read_to_string(golden::path("templates.json")).unwrap();
    let golden: Golden = serde_json::from_str(&text).unwrap();
    let today = golden._meta["today"].as_str().unwrap();
    assert!(golden.templates.len() >= 200 && golden.chats.len() == 6);
    let mut differing = Vec::new();
    for row in &golden.templates {
        let tokenizer = tokenizer(&row.template, &row.special, today)
            .map(|tokenizer| tokenizer.with_template_kwargs(&row.kwargs));
        assert_eq!(row.rendered.len(), golden.chats.len(), "{}", row.name);
        for (at, (chat, wanted)) in golden.chats.iter().zip(&row.rendered).enumerate() {
            let seen = tokenizer.as_ref().map_err(Clone::clone).and_then(|tokenizer| {
                tokenizer.render_chat(chat, at % 2 == 0).map_err(|error| error.to_string())
            });
            let is_equal = match wanted["text"].as_str() {
                Some(text) => seen.as_deref() == Ok(text),
                None => seen.is_err(),
            };
            if !is_equal {
                differing.push(format!("{} {at}: {seen:?}\n  wanted {wanted}", row.name));
            }
        }
    }
    let n = differing.len();
    assert!(differing.is_empty(), "{n} renderings differ:\n{}", differing.join("\n"));
}

#[test]
fn templates_with_values_that_are_deep_or_many_end_with_an_error() {
    let nest = |wrapped: &str, n: usize, then: &str| {
        format!(
            "{{% set ns = namespace(x=[0]) %}}{{% for i in range({n}) %}}{{% set ns.x = {wrapped} \
             %}}{{% endfor %}}{then}"
        )
    };
    let cases = [
        (nest("[ns.x]", 100_000, ""), "levels deep"),
        (nest("{'a': ns.x}", 100_000, ""), "levels deep"),
        (nest("(ns.x,)", 100_000, "{{ {ns.x: 1} }}"), "levels deep"),
        (nest("[ns.x]|select", 100_000, ""), "levels deep"),
        (nest("cycler(ns.x)", 100_000, ""), "levels deep"),
        (nest("{'a': ns.x}.get", 100_000, ""), "levels deep"),
        (nest("[ns.x, ns.x]", 40, "{{ ns.x }}"), "values in it"),
        (nest("[ns.x, ns.x]", 40, "{{ ns.x == ns.x }}"), "values in it"),
        (nest("{'a': ns.x, 'b': ns.x}", 40, "{{ ns.x|tojson }}"), "values in it"),
        (nest("namespace(y=ns.x)", 100_000, ""), "does not end"),
        (nest("range(100000)|list", 100_000, ""), "does not end"),
        (nest("ns.x", 1, "{{ ('a' * 16000000).replace('a', 'b' * 1000) }}"), "too long"),
        (nest("ns.x", 1, "{{ [[1]]|tojson(indent='x' * 9000000) }}"), "bytes"),
        (nest("ns.x", 1, "{{ range(100000)|unique|list }}"), "different items"),
        (nest("ns.x", 1, "{{ dict.fromkeys(range(100000)) }}"), "keys"),
    ];
    for (template, wanted) in cases {
        let tokenizer = tokenizer(&template, &json!({}), "2025-01-01").unwrap();
        let seen = tokenizer.render_chat(&[Message::new("user", "a")], true);
        let seen = seen.map_err(|error| error.to_string()).expect_err(&template);
        assert!(seen.contains(wanted), "{template}: {seen:?} lacks {wanted:?}");
    }
    // a namespace that holds itself is freed, and printed up to its own name
    let holds_itself = nest("ns", 1, "{{ ns }}{{ [ns]|string|length }}");
    let tokenizer = tokenizer(&holds_itself, &json!({}), "2025-01-01").unwrap();
    let text = tokenizer.render_chat(&[], true).unwrap();
    assert!(text.starts_with("<Namespace {'x': <Namespace {...}>}>"), "{text}");
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
        ("{{ messages[0].tool_calls[0] }}", "has no attribute 'tool_calls'"),
        (
            "{% for x in [1] %}{% for y in x %}{% endfor %}{% endfor %}",
            "'int' object is not iterable",
        ),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "levels of calls"),
        ("{{ messages|select }}", "prints a generator; `| list` gives its values"),
        ("{{ messages[0].items }}", "prints the method `items` without a call"),
        ("{{ 'a' ~ range }}", "writes the function `range` without a call"),
        ("{{ self.title() }}", "`self` of Jinja is not known here"),
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

#[test]
fn messages_have_no_content_where_it_is_null_and_all_fields_that_a_file_gave() {
    // transformers 5.23 drops keys whose value is null before it renders
    let template = "{% for m in messages %}[{{ 'content' in m }} {{ m.content is defined }} \
                    {{ m.content is none }} {{ m.tool_plan }} {{ m.n | tojson }}]{% endfor %}";
    let tokenizer = tokenizer(template, &json!({}), "2025-01-01").unwrap();
    let calling = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c"}]});
    let calling: Message = serde_json::from_value(calling).unwrap();
    let mut planning = Message::new("assistant", "");
    planning.add_further(serde_json::from_str(r#"{"tool_plan": "Add.", "n": [1, 2.5]}"#).unwrap());
    assert_eq!(
        tokenizer.render_chat(&[planning], true).unwrap(),
        "[True True False Add. [1, 2.5]]"
    );
    let of_null = tokenizer.with_chat_template(template.replace(" | tojson", "")).unwrap();
    assert_eq!(of_null.render_chat(&[calling], true).unwrap(), "[False False False  ]");
}

#[test]
fn else_of_a_loop_runs_where_no_round_came_to_its_end() {
    // what jinja2 3.1 renders
    for (template, wanted) in [
        ("{% for x in [1,2] %}{{x}}{% break %}{% else %}E{% endfor %}", "1E"),
        ("{% for x in [1,2] %}{{x}}{% continue %}{% else %}E{% endfor %}", "12E"),
        (
            "{% for x in [1,2] %}{% if x==2 %}{% break %}{% endif %}{{x}}{% else %}E{% endfor %}",
            "1",
        ),
        ("{% for x in [1,2] %}{% if x==1 %}{% continue %}{% endif %}2{% else %}E{% endfor %}", "2"),
        ("{% for x in [] %}{% else %}E{% endfor %}", "E"),
        ("{% for x in [1] %}{% else %}E{% endfor %}", ""),
        (
            "{% for y in [1,2] %}{% for x in [1] %}{{x}}{% break %}{% else %}{{y}}{% continue %}\
             {% endfor %}z{% endfor %}",
            "1112",
        ),
    ] {
        let tokenizer = tokenizer(template, &json!({}), "2025-01-01").unwrap();
        assert_eq!(tokenizer.render_chat(&[], true).unwrap(), wanted, "{template}");
    }
}
