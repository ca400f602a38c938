//! A chat template, as a model folder brings it.

use std::path::Path;
use std::sync::LazyLock;

use joust_engine::Tokenizer;
use joust_schema::prompt::Message;

use super::refusal;

/// Maximum length of a rendered chat, in bytes.
const MAX_BYTES: usize = 64 << 20;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/models/tiny-llama");
    Tokenizer::from_folder(Path::new(folder)).expect("a committed model can be read")
});

/// Parses a template and renders four chats with it.
pub fn check(bytes: &[u8]) {
    let template = String::from_utf8_lossy(bytes).into_owned();
    let tokenizer = match TOKENIZER.with_chat_template(template) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return refusal::check(&error),
    };
    let user = || Message::new("user", "What is 47 + 93?\r\n<|im_end|> {{ 1 }}");
    let answer = || Message::new("assistant", "<think>\n7+3</think>\n140");
    let chats = [
        vec![],
        vec![user()],
        vec![Message::new("system", ""), user(), answer(), user()],
        vec![Message::new("tool", "{\"a\": 1}"), answer()],
    ];
    for (chat, add_generation_prompt) in chats.iter().zip([true, true, true, false]) {
        match tokenizer.render_chat(chat, add_generation_prompt) {
            Ok(text) => assert!(text.len() <= MAX_BYTES, "a chat of {} bytes", text.len()),
            Err(error) => refusal::check(&error),
        }
    }
}
