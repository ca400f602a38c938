//! Which template of several renders, and that an export keeps them all.

use joust_schema::prompt::Message;

use crate::tokenizer::Tokenizer;

use super::*;

/// A folder with a tokenizer of three tokens and this `chat_template`.
fn folder(chat_template: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let vocab = json!({"<s>": 0, "</s>": 1, "<unk>": 2});
    let model = json!({"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"});
    let tokenizer = json!({"version": "1.0", "added_tokens": [], "model": model});
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let config = json!({"chat_template": chat_template});
    std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    dir
}

fn rendered(tokenizer: &Tokenizer, kwargs: Value) -> Result<String, String> {
    let kwargs: JsonFields = serde_json::from_value(kwargs).unwrap();
    let tokenizer = tokenizer.with_template_kwargs(&kwargs);
    tokenizer.render_chat(&[Message::new("user", "a")], true).map_err(|error| error.to_string())
}

/// Of a folder as it is, and as an export of it has it.
fn check(dir: &Path, kwargs: &Value, wanted: &Result<&str, &str>) {
    let tokenizer = Tokenizer::from_folder(dir).unwrap();
    let export = tempfile::tempdir().unwrap();
    tokenizer.save(export.path()).unwrap();
    for tokenizer in [tokenizer, Tokenizer::from_folder(export.path()).unwrap()] {
        match (rendered(&tokenizer, kwargs.clone()), wanted) {
            (Ok(text), Ok(wanted)) => assert_eq!(text, *wanted, "{kwargs}"),
            (Err(error), Err(wanted)) => assert!(error.contains(wanted), "{error}"),
            (seen, wanted) => panic!("{kwargs}: {seen:?}, wanted {wanted:?}"),
        }
    }
}

#[test]
fn tool_use_renders_where_tools_are_given_and_an_export_keeps_it() {
    let named = |name: &str, text: &str| json!({"name": name, "template": text});
    let (default, tool_use) = ("D{{ messages[0].content }}", "T{{ tools | length }}");
    let tools = json!({"tools": [{"type": "function"}]});
    // as in transformers' `get_chat_template`, which asks whether tools are None
    let with_tools = json!([named("tool_use", tool_use), named("default", default)]);
    let both = folder(&with_tools);
    check(both.path(), &json!({}), &Ok("Da"));
    check(both.path(), &json!({"tools": null}), &Ok("Da"));
    check(both.path(), &tools, &Ok("T1"));
    check(both.path(), &json!({"tools": []}), &Ok("T0"));
    let only = folder(&json!([named("tool_use", tool_use), named("rag", "R")]));
    check(only.path(), &tools, &Ok("T1"));
    check(only.path(), &json!({}), &Err("the model has tool_use, rag and none named default"));
    let broken = folder(&json!([named("default", default), named("tool_use", "{% if %}")]));
    check(broken.path(), &json!({}), &Ok("Da"));
    check(broken.path(), &tools, &Err("tool_use: chat template: does not parse"));
    let plain = folder(&json!(default));
    check(plain.path(), &tools, &Ok("Da"));
    let files = folder(&json!("not read"));
    std::fs::write(files.path().join("chat_template.jinja"), default).unwrap();
    let more = files.path().join(MORE_TEMPLATES);
    std::fs::create_dir(&more).unwrap();
    std::fs::write(more.join("tool_use.jinja"), tool_use).unwrap();
    check(files.path(), &json!({}), &Ok("Da"));
    check(files.path(), &tools, &Ok("T1"));
}
