//! Examples as token ids.

use joust_engine::{Tokenizer, TurnFrame};

use super::chat::Example;
use crate::error::Error;

/// Makes the tokens of examples.
pub(crate) struct Encoder {
    tokenizer: Tokenizer,
    /// What the chat template writes around the turn that is learned.
    frame: Option<TurnFrame>,
}

/// An example as token ids.
pub(crate) struct EncodedExample {
    /// Tokens that are given.
    pub(crate) prompt: Vec<u32>,
    /// Tokens that are learned.
    pub(crate) completion: Vec<u32>,
}

impl Encoder {
    /// `has_chats`: whether examples are rendered by the chat template.
    pub(crate) fn new(tokenizer: Tokenizer, has_chats: bool) -> Self {
        let frame = tokenizer.turn_frame().filter(|_| has_chats);
        Self { tokenizer, frame }
    }

    /// The tokenizer, with its chat template's variables.
    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The token that ends the assistant's turn in the chat template, if it is a control token.
    pub(crate) fn end_of_turn(&self) -> Option<u32> {
        self.frame.as_ref().map(|frame| frame.end_id)
    }

    /// The tokens of an example. A completion of a chat ends as the template ends the turn, another
    /// one with the tokenizer's EOS.
    ///
    /// # Errors
    /// [`Error::Engine`] for texts that the tokenizer cannot encode.
    pub(crate) fn encode(&self, example: &Example) -> Result<EncodedExample, Error> {
        let Self { tokenizer, frame } = self;
        let Example { prompt, is_chat, completion } = example;
        let frame = frame.as_ref().filter(|_| *is_chat);
        // a completion may have its end already
        let end = match frame {
            Some(frame) => Some(frame.end_id),
            None => tokenizer.eos_ids().first().copied(),
        };
        let end_text = end.map_or(String::new(), |end| tokenizer.decode(&[end], false));
        let completion = match completion.strip_suffix(&end_text) {
            Some(before) => before,
            None => completion,
        };
        let text = match frame {
            Some(TurnFrame { before, after, .. }) => {
                let before = match completion.starts_with(char::is_whitespace) {
                    true => "",
                    false => &before[..],
                };
                format!("{before}{completion}{after}")
            }
            None => completion.to_owned(),
        };
        let mut completion = tokenizer.encode_continuation(prompt, &text)?;
        completion.extend(end);
        let prompt = match is_chat {
            true => tokenizer.encode(prompt)?,
            // with the BOS token, as in sampling from a text prompt
            false => tokenizer.encode_prompt(prompt)?,
        };
        Ok(EncodedExample { prompt, completion })
    }
}

#[cfg(test)]
mod tests;
