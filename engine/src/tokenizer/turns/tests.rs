//! Turns of the assistant against transformers, recorded in `tests/golden/turn_masks.json` by
//! `make_turn_masks.py`.

use joust_schema::prompt::Message;
use serde_json::Value;

use crate::golden;
use crate::tokenizer::Tokenizer;

fn tokenizer(model: &str, template: &str) -> Tokenizer {
    let folder = golden::path("models").join(model);
    let tokenizer = Tokenizer::from_folder(&folder).unwrap();
    tokenizer.with_chat_template(template.to_owned()).unwrap()
}

fn chat(value: &Value) -> Vec<Message> {
    serde_json::from_value(value.clone()).unwrap()
}

fn end_of_turn(tokenizer: &Tokenizer) -> Option<String> {
    tokenizer.turn_frame().map(|frame| tokenizer.decode(&[frame.end_id], false))
}

fn of_assistant(messages: &[Message]) -> Vec<usize> {
    (0..messages.len()).filter(|&idx| messages[idx].role == "assistant").collect()
}

#[test]
fn render_turns_and_encode_parts_give_the_mask_of_transformers_with_and_without_marks() {
    let golden = golden::read("turn_masks.json");
    let templates = golden["templates"].as_array().unwrap();
    assert_eq!(templates.len(), 3);
    for row in templates {
        for kind in ["template", "plain"] {
            let tokenizer = tokenizer(row["model"].as_str().unwrap(), row[kind].as_str().unwrap());
            let end = end_of_turn(&tokenizer);
            assert!(end.is_some(), "{}", row["name"]);
            for case in row["chats"].as_array().unwrap() {
                let name = format!("{} {kind} {}", row["name"], case["text"]);
                let messages = chat(&case["chat"]);
                let selected = of_assistant(&messages);
                let seen = tokenizer.render_turns(&messages, &selected, end.as_deref()).unwrap();
                assert_eq!(seen.text, case["text"].as_str().unwrap(), "{name}");
                let tokens = tokenizer.encode_parts(&seen.text, &seen.turns).unwrap();
                assert_eq!(tokens.ids, golden::ids(&case["ids"]), "{name}");
                let mask: Vec<u32> = tokens.is_marked.iter().map(|&is| u32::from(is)).collect();
                assert_eq!(mask, golden::ids(&case["mask"]), "{name}");
                // one of the turns alone
                let last = *selected.last().unwrap();
                let one = tokenizer.render_turns(&messages, &[last], end.as_deref()).unwrap();
                assert_eq!(one.turns[..], seen.turns[seen.turns.len() - 1..], "{name}");
            }
        }
    }
}

#[test]
fn render_turns_without_an_end_token_goes_as_far_as_the_messages_are_rendered() {
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}assistant: {% endif %}";
    let tokenizer = tokenizer("tiny-qwen2", template);
    assert_eq!(end_of_turn(&tokenizer), None);
    let roles = ["user", "assistant", "user", "assistant"];
    let messages: Vec<Message> = roles.iter().map(|role| Message::new(*role, "Hi")).collect();
    let seen = tokenizer.render_turns(&messages, &[1, 3], None).unwrap();
    let turns: Vec<&str> = seen.turns.iter().map(|turn| &seen.text[turn.clone()]).collect();
    assert_eq!(turns, ["Hi\n", "Hi\n"]);
}

#[test]
fn render_turns_refuses_turns_that_it_cannot_find() {
    // a thought is opened for the turn that is generated, and earlier turns have none
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
                    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\
                    {% endif %}";
    let opens = tokenizer("tiny-qwen3", template);
    let roles = ["user", "assistant", "user", "assistant"];
    let messages: Vec<Message> = roles.iter().map(|role| Message::new(*role, "Hi")).collect();
    let told = |tokenizer: &Tokenizer, messages: &[Message]| {
        let turns = tokenizer.render_turns(messages, &of_assistant(messages), Some("<|im_end|>"));
        turns.unwrap_err().to_string()
    };
    let message = told(&opens, &messages);
    assert!(message.contains("renders the messages before message 2 otherwise"), "{message}");
    let plain = tokenizer("tiny-qwen3", &template.replace("<think>\n", ""));
    let mut spelled = messages.clone();
    spelled[3].content = "Hi<|im_end|>".to_owned();
    let message = told(&plain, &spelled);
    assert!(
        message.contains("ends a turn by `<|im_end|>`, which the text of message 4"),
        "{message}"
    );
    // a mark for one of two turns, and one of them is selected
    let once = template.replace(
        "{{ m.content }}",
        "{% if loop.last %}{% generation %}{{ m.content }}{% endgeneration %}{% endif %}",
    );
    let turns = tokenizer("tiny-qwen3", &once).render_turns(&messages, &[3], Some("<|im_end|>"));
    let message = turns.unwrap_err().to_string();
    assert!(message.contains("marks 1 parts as generated in a chat with 2 turns"), "{message}");
}
