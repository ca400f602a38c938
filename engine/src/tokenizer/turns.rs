//! Where the turns of the assistant are in a rendered chat, as text and as tokens.
//!
//! It does not know what becomes of them.

use std::ops::Range;

use joust_schema::prompt::Message;

use super::Tokenizer;
use crate::error::Error;

/// A chat as its template renders it, with turns of the assistant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedTurns {
    /// The whole chat, without the beginning of a further turn.
    pub text: String,
    /// Bytes of each turn, in order: what the assistant wrote, with the token that ends it.
    pub turns: Vec<Range<usize>>,
}

/// Tokens of a text of which parts are marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkedTokens {
    /// Ids of all tokens.
    pub ids: Vec<u32>,
    /// Token by token, whether it is of a marked part.
    pub is_marked: Vec<bool>,
}

impl Tokenizer {
    /// Renders a chat and finds the turns of the assistant whose messages are `selected`, by their
    /// numbers from 0. `end` is the text of the token that ends a turn, where the template has one
    /// ([`Tokenizer::turn_frame`]).
    ///
    /// A template that marks what is generated (`{% generation %}`) says where the turns are.
    /// Otherwise a turn begins where the messages before it end, rendered with the beginning of the
    /// assistant's turn; it goes on to the first `end`, or, without one, as far as the messages up
    /// to it are rendered. Templates that drop the thoughts of earlier turns are rendered as a
    /// whole, so that a turn has the text that it has there.
    ///
    /// # Errors
    /// [`Error::Template`] where the template refuses the messages, or where a turn is not found.
    pub fn render_turns(
        &self,
        messages: &[Message],
        selected: &[usize],
        end: Option<&str>,
    ) -> Result<RenderedTurns, Error> {
        let rendered = self.rendered(messages, false)?;
        let text = rendered.text;
        let turns = match rendered.generated.is_empty() {
            true => self.turns_by_prefixes(&text, messages, selected, end)?,
            false => marked_turns(rendered.generated, messages, selected)?,
        };
        Ok(RenderedTurns { text, turns })
    }

    fn turns_by_prefixes(
        &self,
        text: &str,
        messages: &[Message],
        selected: &[usize],
        end: Option<&str>,
    ) -> Result<Vec<Range<usize>>, Error> {
        let mut turns: Vec<Range<usize>> = Vec::new();
        for &idx in selected {
            let number = idx + 1;
            let not_found = || {
                Error::Template(format!(
                    "renders the messages before message {number} otherwise than in the whole \
                     chat, so that this turn of the assistant is not found; wanted a template that \
                     marks it by {{% generation %}}, or one that begins alike"
                ))
            };
            let before = self.render_chat(&messages[..idx], true)?;
            let rest = text.strip_prefix(&before[..]).ok_or_else(not_found)?;
            let start = before.len();
            let stop = match end {
                Some(end) if messages[idx].content.contains(end) => {
                    return Err(Error::Template(format!(
                        "ends a turn by `{end}`, which the text of message {number} contains: take \
                         it out"
                    )));
                }
                Some(end) => start + rest.find(end).ok_or_else(not_found)? + end.len(),
                None => {
                    let up_to = self.render_chat(&messages[..=idx], false)?;
                    let is_prefix = up_to.len() > start && text.starts_with(&up_to);
                    is_prefix.then_some(up_to.len()).ok_or_else(not_found)?
                }
            };
            if turns.last().is_some_and(|turn| turn.end > start) {
                return Err(not_found());
            }
            turns.push(start..stop);
        }
        Ok(turns)
    }

    /// Encodes a text without adding tokens, and finds the tokens of marked parts, given as bytes.
    /// A token that a part only begins or ends in is of that part, as in transformers'
    /// `return_assistant_tokens_mask`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where the tokenizer refuses the text.
    pub fn encode_parts(&self, text: &str, parts: &[Range<usize>]) -> Result<MarkedTokens, Error> {
        let encoding =
            self.inner.encode(text, false).map_err(|error| Error::Tokenizer(error.to_string()))?;
        // tokens of white space alone have no bytes where offsets are trimmed; they then lie at
        // the end of their place
        let is_in = |part: &Range<usize>, (start, end): (usize, usize)| {
            end > part.start && (start < part.end || (start == end && end == part.end))
        };
        let is_marked = |offsets: &(usize, usize)| parts.iter().any(|part| is_in(part, *offsets));
        let is_marked = encoding.get_offsets().iter().map(is_marked).collect();
        Ok(MarkedTokens { ids: encoding.get_ids().to_vec(), is_marked })
    }
}

/// The selected ones of the turns that a template has marked.
fn marked_turns(
    marked: Vec<Range<usize>>,
    messages: &[Message],
    selected: &[usize],
) -> Result<Vec<Range<usize>>, Error> {
    let is_assistant = |idx: &usize| messages[*idx].role == "assistant";
    let all: Vec<usize> = (0..messages.len()).filter(is_assistant).collect();
    let marked: Vec<Range<usize>> = marked.into_iter().filter(|turn| !turn.is_empty()).collect();
    if all == selected {
        return Ok(marked);
    }
    if all.len() != marked.len() {
        return Err(Error::Template(format!(
            "marks {} parts as generated in a chat with {} turns of the assistant, of which some \
             are selected; wanted a mark for each",
            marked.len(),
            all.len()
        )));
    }
    let of_turns = all.into_iter().zip(marked).filter(|(idx, _)| selected.contains(idx));
    Ok(of_turns.map(|(_, turn)| turn).collect())
}

#[cfg(test)]
mod tests;
