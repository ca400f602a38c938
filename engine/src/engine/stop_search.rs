//! The search for stop strings in one sample as it grows. A stop string may contain special tokens,
//! which the sample's own text lacks: such strings are searched in a text with them.

use crate::stops;
use crate::tokenizer::{TextStream, Tokenizer};

/// The texts of a sample in which stop strings are searched.
pub(super) struct StopSearch {
    plain: SearchedText,
    /// The text with special tokens, where a stop string contains one.
    marked: Option<SearchedText>,
}

/// A text, and the strings that are searched in it.
struct SearchedText {
    stream: TextStream,
    stops: Vec<String>,
    /// Length of the text after each token.
    lens: Vec<usize>,
}

impl SearchedText {
    /// Adds a token. Returns whether a stop string has come.
    fn push(&mut self, token: u32) -> bool {
        let changed_from = self.stream.push(token);
        self.lens.push(self.stream.text().len());
        stops::has_come(self.stream.text(), changed_from, &self.stops)
    }

    fn position(&self) -> Option<usize> {
        stops::position(self.stream.text(), &self.stops)
    }
}

impl StopSearch {
    /// A search for these strings; none without any.
    pub(super) fn new(tokenizer: &Tokenizer, stops: &[String]) -> Option<Self> {
        if stops.is_empty() {
            return None;
        }
        let (special, plain): (Vec<String>, Vec<String>) =
            stops.iter().cloned().partition(|stop| tokenizer.spells_special_token(stop));
        let searched = |stream, stops| SearchedText { stream, stops, lens: Vec::new() };
        let marked = (!special.is_empty())
            .then(|| searched(tokenizer.stream_with_special_tokens(), special));
        Some(Self { plain: searched(tokenizer.stream(), plain), marked })
    }

    /// Adds a token. Returns whether a stop string has come.
    pub(super) fn push(&mut self, token: u32) -> bool {
        let is_plain = self.plain.push(token);
        let is_marked = self.marked.as_mut().is_some_and(|marked| marked.push(token));
        is_plain || is_marked
    }

    /// Text of the sample before the first stop string; none where no stop string has come.
    pub(super) fn text(&self, tokenizer: &Tokenizer, token_ids: &[u32]) -> Option<String> {
        let plain = self.plain.position().map(|end| self.plain.stream.text()[..end].to_owned());
        let of_marked = self.marked.as_ref().and_then(|marked| {
            let end = marked.position()?;
            // whole tokens before the stop string, and the part of the one in which it begins
            let n_whole = marked.lens.iter().take_while(|len| **len <= end).count();
            let start = n_whole.checked_sub(1).map_or(0, |last| marked.lens[last]);
            let whole = tokenizer.decode(token_ids.get(..n_whole)?, true);
            Some(whole + &marked.stream.text()[start.min(end)..end])
        });
        match (plain, of_marked) {
            (Some(plain), Some(marked)) if marked.len() < plain.len() => Some(marked),
            (plain, marked) => plain.or(marked),
        }
    }
}
