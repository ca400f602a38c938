//! How examples become the text that a model reads: prompts by the chat template and completions as
//! they go on behind it, or whole chats.

use joust_engine::{RenderedTurns, Tokenizer};
use joust_reward::prompt::after_opened_thought;
use joust_schema::ordered_json::JsonFields;
use joust_schema::prompt::{Message, Prompt};

use crate::error::Error;

/// What is wrong with an answer that would be learned as a thought.
const NO_END_OF_THOUGHT: &str = "the chat template opens a thought (<think>) and the \
                                            turn that is learned does not end one: write the \
                                            thought and </think> before the answer, or take a \
                                            template that opens none";

/// What encloses a thought in the text of a message.
const THOUGHT: [&str; 2] = ["<think>", "</think>"];

/// What is wrong with a last turn whose thought would not be learned.
const THOUGHT_NOT_WRITTEN: &str = "the chat template does not write the thought of the last turn, \
                                   which would not be learned: write it into `content` as the \
                                   template has it, or leave it out";

/// What is learned, as text.
pub(crate) enum LearnedText {
    /// A completion of a prompt.
    Completion(Example),
    /// Turns of a chat.
    Turns(RenderedTurns),
}

impl LearnedText {
    /// The whole text.
    pub(crate) fn whole(self) -> String {
        match self {
            Self::Completion(example) => example.prompt + &example.completion,
            Self::Turns(rendered) => rendered.text,
        }
    }
}

/// A prompt with a completion.
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
        let rendered = tokenizer.render_chat(messages, true);
        Ok(Some(rendered.map_err(|error| refused(messages, error))?))
    }

    /// A chat with the turns of some of its messages. `end`: the text that ends a turn in the
    /// template, if it has one.
    ///
    /// # Errors
    /// What the template refuses; an answer, or the thought of the last message, that it does not
    /// write.
    pub(super) fn turns(
        &self,
        messages: &[Message],
        turns: &[usize],
        end: Option<&str>,
    ) -> Result<RenderedTurns, Error> {
        let tokenizer = self.tokenizer.with_more_template_kwargs(self.kwargs);
        let rendered = tokenizer.render_turns(messages, turns, end);
        let rendered = rendered.map_err(|error| refused(messages, error))?;
        let [_, close] = THOUGHT;
        for &idx in turns {
            let answer = messages[idx].content.rsplit(close).next().unwrap_or_default();
            if !rendered.text.contains(answer.trim()) {
                return Err(Error::input(format!(
                    "the chat template does not write the text of message {} as it is, which would \
                     not be learned",
                    idx + 1
                )));
            }
        }
        if let Some(last) = messages.last().filter(|_| turns.contains(&(messages.len() - 1)))
            && drops_thought(last, &rendered.text)
        {
            return Err(Error::input(THOUGHT_NOT_WRITTEN));
        }
        Ok(rendered)
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

/// The error of a chat that the template refuses: with what is uncommon about the order of its
/// turns, which most templates mean.
fn refused(messages: &[Message], error: joust_engine::Error) -> Error {
    let reason = match &error {
        joust_engine::Error::Template(reason) => reason,
        _ => return error.into(),
    };
    let is_turn = |message: &&Message| !matches!(&message.role[..], "system" | "developer");
    let turns: Vec<&Message> = messages.iter().filter(is_turn).collect();
    let is_doubled = |pair: &[&Message]| pair[0].role == pair[1].role;
    match turns.first() {
        Some(first) if first.role == "assistant" => Error::input(format!(
            "the chat template refuses a chat that begins with a turn of the assistant ({reason}): \
             begin it with a turn of the user, or leave that turn out"
        )),
        None => Error::input(format!(
            "the chat template refuses a chat without a turn of the user ({reason}): give the \
             instruction as a turn of the user"
        )),
        Some(_) if turns.windows(2).any(is_doubled) => {
            let roles: Vec<&str> = messages.iter().map(|message| &message.role[..]).collect();
            let roles = roles.join(", ");
            Error::input(format!(
                "the chat template refuses a chat with turns of {roles} ({reason}): let the user \
                 and the assistant take turns"
            ))
        }
        Some(_) => error.into(),
    }
}

/// Whether a message has a thought that is not in the rendered chat.
pub(super) fn drops_thought(message: &Message, rendered: &str) -> bool {
    let fields = [&message.reasoning_content, &message.thinking, &message.reasoning];
    let [open, close] = THOUGHT;
    let in_content = message.content.split_once(close);
    let in_content = in_content
        .map(|(before, _)| before.split_once(open).map_or(before, |(_, thought)| thought));
    let thought = fields.into_iter().flatten().map(String::as_str).next().or(in_content);
    thought.is_some_and(|thought| !rendered.contains(thought.trim()))
}
