//! The tokens that are learned, against the text that the template renders.

use std::path::Path;

use joust_data::TaskConfig;
use joust_schema::prompt::Message;
use joust_schema::seed::Seed;

use super::*;
use crate::config::sft::{DataSection, TaskKind, TrainedTurns};
use crate::examples::source::TaskSource;
use crate::examples::{ExampleSource, ExampleTexts};

fn tokenizer(name: &str) -> Tokenizer {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/models");
    Tokenizer::from_folder(&models.join(name)).unwrap()
}

/// The source of a file with one row.
fn source(row: &str, trained_turns: TrainedTurns) -> Result<ExampleSource, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.jsonl");
    std::fs::write(&path, row.replace('\n', " ")).unwrap();
    let section = DataSection { path: Some(path), trained_turns, ..DataSection::default() };
    ExampleSource::open(&section).map_err(|error| error.to_string())
}

/// Prompt and completion of a file's only row, as text.
fn learned(tokenizer: &Tokenizer, row: &str) -> Result<(String, String), String> {
    let texts = source(row, TrainedTurns::Last)?.rendered(tokenizer);
    let texts = texts.map_err(|error| error.to_string())?;
    let example = texts.example(&Encoder::new(tokenizer.clone()), Seed::new(0), 0).unwrap();
    let n_given = example.is_learned.iter().position(|is| *is).unwrap();
    assert!(example.is_learned[n_given..].iter().all(|is| *is));
    let (prompt, completion) = example.tokens.split_at(n_given);
    Ok((tokenizer.decode(prompt, false), tokenizer.decode(completion, false)))
}

/// The turns of a file's only row that are learned, as text.
fn learned_turns(tokenizer: &Tokenizer, row: &str) -> Result<Vec<String>, String> {
    let texts = source(row, TrainedTurns::All)?.rendered(tokenizer);
    let texts = texts.map_err(|error| error.to_string())?;
    let example = texts.example(&Encoder::new(tokenizer.clone()), Seed::new(0), 0).unwrap();
    assert_eq!(example.is_learned.last(), Some(&true));
    let mut turns: Vec<Vec<u32>> = Vec::new();
    for (at, (token, is_learned)) in example.tokens.iter().zip(&example.is_learned).enumerate() {
        match (is_learned, at > 0 && example.is_learned[at - 1]) {
            (true, false) => turns.push(vec![*token]),
            (true, true) => turns.last_mut().unwrap().push(*token),
            (false, _) => {}
        }
    }
    Ok(turns.iter().map(|turn| tokenizer.decode(turn, false)).collect())
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
    let encoder = Encoder::new(tokenizer.clone());
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
        let source = ExampleTexts::Task(TaskSource { kind, config, chat: true });
        let encoder = Encoder::new(tokenizer.clone());
        for idx in 0..50 {
            let ExampleTexts::Task(task) = &source else { panic!("the task is a task") };
            let LearnedText::Completion(Example { prompt, completion, .. }) =
                task.text(&tokenizer, Seed::new(1), idx).unwrap()
            else {
                panic!("a task has completions")
            };
            let example = source.example(&encoder, Seed::new(1), idx).unwrap();
            let mut wanted = tokenizer.encode(&completion).unwrap();
            wanted.push(tokenizer.eos_ids()[0]);
            let prompt = tokenizer.encode(&prompt).unwrap();
            assert_eq!(example, SftExample::of_completion(prompt, &wanted));
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
    let tokenizer = data.template_settings().tokenizer(&tokenizer).unwrap();
    let (prompt, _) = learned(&tokenizer, &format!("{{{chat}}}")).unwrap();
    assert!(prompt.contains("Tools:\n{\"name\": \"sub\"}<|im_end|>"), "{prompt}");
    let (prompt, _) = learned(&tokenizer, &with_tools).unwrap();
    assert!(prompt.contains("{\"name\": \"add\"}") && !prompt.contains("sub"), "{prompt}");
}

#[test]
fn example_learns_all_turns_as_the_template_renders_them() {
    // the template is Qwen3's: thoughts of earlier turns are dropped
    let tokenizer = tokenizer("tiny-qwen3");
    let row = r#"{"messages": [{"role": "user", "content": "2+3?"},
        {"role": "assistant", "content": "5", "reasoning_content": "sum"},
        {"role": "user", "content": "And 1?"},
        {"role": "assistant", "content": "6", "reasoning_content": "one more"},
        {"role": "user", "content": "Thanks."}]}"#;
    assert_eq!(learned_turns(&tokenizer, row).unwrap(), ["5<|im_end|>", "6<|im_end|>"]);
    let thanks = r#",
        {"role": "user", "content": "Thanks."}"#;
    let row = row.replace(thanks, "");
    let wanted = ["5<|im_end|>", "<think>\none more\n</think>\n\n6<|im_end|>"];
    assert_eq!(learned_turns(&tokenizer, &row).unwrap(), wanted);
    let row = row.replacen(r#""content": "5""#, r#""content": "5", "weight": 0"#, 1);
    assert_eq!(learned_turns(&tokenizer, &row).unwrap(), wanted[1..]);
    // a single turn is learned as a completion is, with the thought that the template writes
    let row = r#"{"messages": [{"role": "user", "content": "2+3?"},
        {"role": "assistant", "content": "5"}]}"#;
    let turns = learned_turns(&tokenizer, row).unwrap();
    assert_eq!(turns, ["<think>\n\n</think>\n\n5<|im_end|>"]);
    assert_eq!(learned(&tokenizer, row).unwrap().1, "5<|im_end|>");
}

#[test]
fn rendered_refuses_a_row_whose_turns_are_not_found_or_whose_thought_would_be_lost() {
    let chat = r#"{"messages": [{"role": "user", "content": "2+3?"},
        {"role": "assistant", "content": "5"}, {"role": "user", "content": "And 1?"},
        {"role": "assistant", "content": "6"}]}"#;
    // opens a thought where a turn begins, and writes earlier turns without one
    let message = learned_turns(&tokenizer("tiny-llama"), chat).unwrap_err();
    let wanted = "t.jsonl:1: chat template: renders the messages before message 2 otherwise";
    assert!(message.contains(wanted), "{message}");
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
                    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let plain = tokenizer("tiny-qwen3").with_chat_template(template.to_owned()).unwrap();
    assert_eq!(learned_turns(&plain, chat).unwrap(), ["5<|im_end|>", "6<|im_end|>"]);
    let thought = chat.replace(r#""6""#, r#""6", "reasoning_content": "one more""#);
    // such as one for contents in parts
    let silent = template.replace("{{ m.content }}", "{{ m.content[1:] }}");
    let silent = tokenizer("tiny-qwen3").with_chat_template(silent).unwrap();
    let message = learned_turns(&silent, chat).unwrap_err();
    let wanted = "t.jsonl:1: the chat template does not write the text of message 2 as it is";
    assert!(message.contains(wanted), "{message}");
    let message = learned_turns(&plain, &thought).unwrap_err();
    assert!(message.contains("does not write the thought of the last turn"), "{message}");
}
