//! How examples become the text that a model reads: prompts by the chat template, completions as
//! they go on behind it.

use joust_engine::Tokenizer;
use joust_reward::prompt::after_opened_thought;
use joust_schema::ordered_json::JsonFields;
use joust_schema::prompt::{Message, Prompt};

use crate::error::Error;

/// What is wrong with an answer that would be learned as a thought.
const NO_END_OF_THOUGHT: &str = "the chat template opens a thought (<think>) and the \
                                            turn that is learned does not end one: write the \
                                            thought and </think> before the answer, or take a \
                                            template that opens none";

/// One example.
pub(crate) struct Example {
    /// The prompt as the model reads it.
    pub(crate) prompt: String,
    /// Whether the prompt was rendered by the chat template, with its special tokens.
    pub(crate) is_chat: bool,
    /// The completion, which is learned.
    pub(crate) completion: String,
}

/// What renders the chats of examples.
pub(super) struct ChatSource<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    /// Whether a text is rendered as a turn of the user.
    pub(super) chat: bool,
    /// Further variables of the template.
    pub(super) kwargs: &'a JsonFields,
}

impl ChatSource<'_> {
    /// The prompt as a template renders it, if one does.
    fn rendered(&self, prompt: &Prompt) -> Result<Option<String>, Error> {
        let of_text;
        let messages = match prompt {
            Prompt::Messages(messages) => &messages[..],
            Prompt::Text(text) if self.chat => {
                if let Some(token) = self.tokenizer.special_token_in(text) {
                    return Err(Error::input(format!(
                        "the prompt has the control token `{token}`, as a text has that a chat \
                         template has rendered already: set data.chat = false, or take it out"
                    )));
                }
                of_text = [Message::new("user", text)];
                &of_text[..]
            }
            Prompt::Text(_) => return Ok(None),
        };
        let tokenizer = self.tokenizer.with_more_template_kwargs(self.kwargs);
        Ok(Some(tokenizer.render_chat(messages, true)?))
    }

    /// The text of an example. What would be learned as a thought is refused.
    pub(super) fn example(&self, prompt: &Prompt, completion: String) -> Result<Example, Error> {
        let Some(rendered) = self.rendered(prompt)? else {
            return Ok(Example { prompt: prompt.question(), is_chat: false, completion });
        };
        let completion = after_opened_thought(&rendered, &completion)
            .ok_or_else(|| Error::input(NO_END_OF_THOUGHT))?
            .to_owned();
        Ok(Example { prompt: rendered, is_chat: true, completion })
    }
}
