//! A prompt as the policy sees it: chat template applied, encoded.

use joust_engine::Tokenizer;
use joust_schema::prompt::{Message, Prompt};

use crate::config::{ChatTemplateUse, RolloutConfig};
use crate::prompts::row::PromptRow;

/// The text that the policy continues, and its tokens.
pub(crate) struct RenderedPrompt {
    pub(crate) text: String,
    pub(crate) token_ids: Vec<u32>,
}

/// Renders the prompt of a row. `question` is its plain text, which is continued as it is without a
/// chat template.
pub(crate) fn render(
    row: &PromptRow,
    question: &str,
    tokenizer: &Tokenizer,
    config: &RolloutConfig,
) -> Result<RenderedPrompt, joust_engine::Error> {
    let (text, token_ids) = match chat_messages(&row.prompt, config) {
        Some(messages) => {
            let tokenizer = tokenizer.with_more_template_kwargs(&row.template_kwargs);
            let text = tokenizer.render_chat(&messages, true)?;
            let token_ids = tokenizer.encode(&text)?;
            (text, token_ids)
        }
        None => (question.to_owned(), tokenizer.encode_prompt(question)?),
    };
    Ok(RenderedPrompt { text, token_ids })
}

/// The chat messages of a prompt; `None` for a text that takes no chat template.
fn chat_messages(prompt: &Prompt, config: &RolloutConfig) -> Option<Vec<Message>> {
    let mut messages = match (prompt, config.chat_template) {
        (Prompt::Text(_), ChatTemplateUse::Auto) => return None,
        (Prompt::Text(text), ChatTemplateUse::Always) => vec![Message::new("user", text)],
        (Prompt::Messages(messages), _) => messages.clone(),
    };
    let has_system = messages.first().is_some_and(|message| message.role == "system");
    if let Some(system) = &config.system_prompt
        && !has_system
    {
        messages.insert(0, Message::new("system", system));
    }
    Some(messages)
}
