//! The tokens of a text that goes on where another one ends, and what a chat template writes around
//! the assistant's turn.
//!
//! It does not know who continues what, nor what is learned.

use std::cmp::Reverse;

use joust_schema::control_tokens;
use joust_schema::prompt::Message;

use super::Tokenizer;
use crate::error::Error;

/// Signs by which SentencePiece and GPT-2 write a blank in a token.
const BLANKS: [char; 2] = ['▁', 'Ġ'];

/// Texts behind which a continuation is encoded where it would merge with its prompt. The first is
/// the one that transformers takes.
const ANCHORS: [&str; 4] = ["\n", "=", "0", "x"];

/// Content of the assistant's turn that shows what a template writes around it.
const SAID: &str = "joust";

/// What a chat template writes around the content of the assistant's last turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnFrame {
    /// White space between the prompt and the content.
    pub before: String,
    /// White space between the content and the token that ends the turn.
    pub after: String,
    /// The token that ends the turn.
    pub end_id: u32,
}

impl Tokenizer {
    /// Encodes a text that goes on where `prompt` ends, without adding tokens.
    ///
    /// Tokenizers that put a blank before every text (Llama 2, most of SentencePiece) would put one
    /// between the two. There, the text is encoded behind its prompt, or behind another text where
    /// it would merge with that, as transformers does with pieces of a chat
    /// (`_encode_chat_piece`). All others encode both alike, and encode the text alone.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where the tokenizer refuses the text.
    pub fn encode_continuation(&self, prompt: &str, text: &str) -> Result<Vec<u32>, Error> {
        if text.is_empty() || !self.puts_blank_before()? {
            return self.encode(text);
        }
        for before in [prompt].into_iter().chain(ANCHORS) {
            let alone = self.encode(before)?;
            let mut both = self.encode(&format!("{before}{text}"))?;
            if both.starts_with(&alone) {
                return Ok(both.split_off(alone.len()));
            }
        }
        let start: String = text.chars().take(20).collect();
        Err(Error::Tokenizer(format!("merges {start:?} with every text before it")))
    }

    /// Whether a text gets a blank before it that it does not have.
    fn puts_blank_before(&self) -> Result<bool, Error> {
        let letter = self.inner.encode_fast("a", false);
        let letter = letter.map_err(|error| Error::Tokenizer(error.to_string()))?;
        let first = letter.get_ids().first().and_then(|id| self.inner.id_to_token(*id));
        Ok(first.is_some_and(|token| token.starts_with(BLANKS)))
    }

    /// What the chat template writes around the assistant's last turn; `None` without a template
    /// that ends the turn by a control token.
    pub fn turn_frame(&self) -> Option<TurnFrame> {
        let chat = [Message::new("user", "Hi"), Message::new("assistant", SAID)];
        let prompt = self.render_chat(&chat[..1], true).ok()?;
        let rendered = self.render_chat(&chat, false).ok()?;
        let at = rendered.rfind(SAID)?;
        let is_white = |text: &str| text.trim().is_empty();
        let before = rendered[..at].strip_prefix(&prompt[..]).filter(|text| is_white(text));
        let rest = &rendered[at + SAID.len()..];
        let added = self.inner.get_added_tokens_decoder();
        let ends = added.iter().filter(|(_, token)| {
            !token.content.is_empty()
                && (token.special || control_tokens::is_control(&token.content))
        });
        let found = ends.filter_map(|(id, token)| {
            let at = rest.find(token.content.as_str())?;
            Some((at, Reverse(token.content.len()), *id))
        });
        let (end, _, end_id) = found.min()?;
        let after = Some(&rest[..end]).filter(|text| is_white(text))?;
        Some(TurnFrame {
            before: before.unwrap_or_default().to_owned(),
            after: after.to_owned(),
            end_id,
        })
    }
}

#[cfg(test)]
mod tests;
