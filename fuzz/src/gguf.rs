//! A GGUF file: a whole model with its constants, tokenizer, chat template and tensors.

use joust_engine::folder;
use joust_schema::prompt::Message;

use super::refusal;
use super::scratch::ScratchFile;

/// Opens a model; where that succeeds, encodes a text and renders a chat.
pub fn check(bytes: &[u8]) {
    let file = ScratchFile::new("model.gguf", bytes);
    let opened = folder::open(&file.path);
    let model = match opened {
        Ok(model) => model,
        Err(error) => return refusal::check(&error),
    };
    match model.tokenizer.encode_prompt("What is 47 + 93? ä") {
        Ok(ids) => drop(model.tokenizer.decode(&ids, false)),
        Err(error) => refusal::check(&error),
    }
    if model.tokenizer.has_chat_template()
        && let Err(error) = model.tokenizer.render_chat(&[Message::new("user", "hello")], true)
    {
        refusal::check(&error);
    }
    for name in model.weights.names() {
        if let Err(error) = model.weights.read(name, tch::Device::Cpu) {
            refusal::check(&error);
        }
    }
}
