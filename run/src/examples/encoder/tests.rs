//! The tokens that are learned, against the text that the template renders.

use std::path::Path;

use joust_data::TaskConfig;
use joust_schema::prompt::Message;
use joust_schema::seed::Seed;

use super::*;
use crate::config::sft::{DataSection, TaskKind};
use crate::examples::ExampleSource;

fn tokenizer(name: &str) -> Tokenizer {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models");
    Tokenizer::from_folder(&models.join(name)).unwrap()
}

/// Prompt and completion of a file's only row, as text.
fn learned(tokenizer: &Tokenizer, row: &str) -> Result<(String, String), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.jsonl");
    std::fs::write(&path, row.replace('\n', " ")).unwrap();
    let section = DataSection { path: Some(path), ..DataSection::default() };
    let source = ExampleSource::open(&section).map_err(|error| error.to_string())?;
    let example = source.example(tokenizer, Seed::new(0), 0).map_err(|error| {
        // told before the run begins, too
        assert_eq!(source.check(tokenizer).unwrap_err().to_string(), error.to_string());
        error.to_string()
    })?;
    source.check(tokenizer).unwrap();
    let ids = Encoder::new(tokenizer.clone(), source.has_chats()).encode(&example).unwrap();
    Ok((tokenizer.decode(&ids.prompt, false), tokenizer.decode(&ids.completion, false)))
}

#[test]
fn encode_writes_a_thought_into_the_one_that_the_template_opens() {
    // of OpenR1-Math-220k: the content has the whole thought
    let row = r#"{"messages": [{"role": "user", "content": "2+3?"},
        {"role": "assistant", "content": "<think>\nsum\n</think>\n\n5"}]}"#;
    let opens = tokenizer("tiny-llama");
    let (prompt, completion) = learned(&opens, row).unwrap();
    assert_eq!(prompt, "<|im_start|><|user|>2+3?<|assistant|><think>\n");
    assert_eq!(completion, "sum\n</think>\n\n5<|im_end|>");
    let (prompt, completion) = learned(&tokenizer("tiny-qwen3"), row).unwrap();
    assert!(prompt.ends_with("<|im_start|>assistant\n"), "{prompt}");
    assert_eq!(completion, "<think>\nsum\n</think>\n\n5<|im_end|>");
    let row = r#"{"messages": [{"role": "user", "content": "2+3?"},
        {"role": "assistant", "content": "5"}]}"#;
    let message = learned(&opens, row).unwrap_err();
    assert!(message.contains("t.jsonl:1: the chat template opens a thought"), "{message}");
}

#[test]
fn encode_ends_a_turn_as_the_template_does_and_a_text_by_eos() {
    // a base model: the tokenizer's EOS is not the end of a turn
    let tokenizer = tokenizer("tiny-qwen2");
    let eos = tokenizer.eos_ids()[0];
    let other = tokenizer.token_id("<|endoftext|>").unwrap();
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|endoftext|>\n\
                    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let tokenizer = tokenizer.with_chat_template(template.to_owned()).unwrap();
    let encoder = Encoder::new(tokenizer.clone(), true);
    let example = |is_chat: bool| {
        let (prompt, completion) = ("2+3=".to_owned(), "5".to_owned());
        encoder.encode(&Example { prompt, is_chat, completion }).unwrap()
    };
    // an end that the data has is not doubled
    let twice = |text: &str, is_chat: bool| {
        let (prompt, completion) = ("2+3=".to_owned(), format!("5{text}"));
        encoder.encode(&Example { prompt, is_chat, completion }).unwrap().completion
    };
    let eos_text = tokenizer.decode(&[eos], false);
    assert_eq!(twice("<|endoftext|>", true), example(true).completion);
    assert_eq!(twice(&eos_text, false), example(false).completion);
    assert_eq!(example(true).completion.last(), Some(&other));
    assert_eq!(example(false).completion.last(), Some(&eos));
    assert_ne!(eos, other);
}

#[test]
fn encode_of_byte_level_models_is_prompt_completion_and_eos() {
    // the models of the quickstart are trained on these tokens
    for (name, kind) in
        [("tiny-qwen2", TaskKind::ArithmeticPolicy), ("tiny-llama", TaskKind::ArithmeticJudge)]
    {
        let tokenizer = tokenizer(name);
        let config = TaskConfig::default();
        let source = ExampleSource::Task { kind, config, chat: true };
        let encoder = Encoder::new(tokenizer.clone(), true);
        for idx in 0..50 {
            let example = source.example(&tokenizer, Seed::new(1), idx).unwrap();
            let ids = encoder.encode(&example).unwrap();
            let mut wanted = tokenizer.encode(&example.completion).unwrap();
            wanted.push(tokenizer.eos_ids()[0]);
            assert_eq!(ids.completion, wanted);
            assert_eq!(ids.prompt, tokenizer.encode(&example.prompt).unwrap());
        }
    }
    let chat = [Message::new("user", "Hi")];
    assert!(tokenizer("tiny-llama").render_chat(&chat, true).unwrap().ends_with("<think>\n"));
}

#[test]
fn encode_renders_the_tools_of_a_row_and_the_variables_of_the_config() {
    let chat = r#""messages": [{"role": "user", "content": "2+3?"},
        {"role": "assistant", "content": "5"}]"#;
    let with_tools = format!(r#"{{{chat}, "tools": [{{"name": "add"}}]}}"#);
    let tokenizer = tokenizer("tiny-qwen2");
    let (prompt, _) = learned(&tokenizer, &format!("{{{chat}}}")).unwrap();
    assert!(prompt.contains("You are a tiny test model."), "{prompt}");
    let (prompt, completion) = learned(&tokenizer, &with_tools).unwrap();
    assert!(prompt.contains("Tools:\n{\"name\": \"add\"}<|im_end|>"), "{prompt}");
    assert_eq!(completion, "5<|im_end|>");
    let kwargs = serde_json::from_str(r#"{"tools": [{"name": "sub"}]}"#).unwrap();
    let data = DataSection { chat_template_kwargs: kwargs, ..DataSection::default() };
    let tokenizer = data.tokenizer(&tokenizer).unwrap();
    let (prompt, _) = learned(&tokenizer, &format!("{{{chat}}}")).unwrap();
    assert!(prompt.contains("Tools:\n{\"name\": \"sub\"}<|im_end|>"), "{prompt}");
    let (prompt, _) = learned(&tokenizer, &with_tools).unwrap();
    assert!(prompt.contains("{\"name\": \"add\"}") && !prompt.contains("sub"), "{prompt}");
}
