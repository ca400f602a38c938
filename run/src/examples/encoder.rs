//! Examples as token ids.

use joust_engine::{MarkedTokens, Tokenizer, TurnFrame};
use joust_trainer::{DpoPair, SftExample};

use super::chat::{Example, LearnedText};
use super::pairs::PairOfExamples;
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
    pub(crate) fn new(tokenizer: Tokenizer) -> Self {
        let frame = tokenizer.turn_frame();
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

    /// The tokens of what is learned. Of a chat, those behind the last turn are left out: nothing
    /// learned follows.
    ///
    /// # Errors
    /// [`Error::Engine`] for texts that the tokenizer cannot encode.
    pub(crate) fn example(&self, text: &LearnedText) -> Result<SftExample, Error> {
        match text {
            LearnedText::Completion(example) => {
                let EncodedExample { prompt, completion } = self.encode(example)?;
                Ok(SftExample::of_completion(prompt, &completion))
            }
            LearnedText::Turns(rendered) => {
                let tokens = self.tokenizer.encode_parts(&rendered.text, &rendered.turns)?;
                let MarkedTokens { mut ids, is_marked: mut is_learned } = tokens;
                let n_tokens = is_learned.iter().rposition(|is| *is).map_or(0, |last| last + 1);
                ids.truncate(n_tokens);
                is_learned.truncate(n_tokens);
                Ok(SftExample { tokens: ids, is_learned })
            }
        }
    }

    /// The tokens of a pair.
    ///
    /// # Errors
    /// [`Error::Engine`] for texts that the tokenizer cannot encode.
    pub(crate) fn pair(&self, pair: &PairOfExamples) -> Result<DpoPair, Error> {
        let (chosen, rejected) = (self.encode(&pair.chosen)?, self.encode(&pair.rejected)?);
        let (prompt, chosen) = (chosen.prompt, chosen.completion);
        Ok(DpoPair { prompt, chosen, rejected: rejected.completion })
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
