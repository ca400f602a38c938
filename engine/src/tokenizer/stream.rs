//! Decoding token by token: text appears once its bytes are complete. It knows nothing of stop
//! strings.

use std::sync::Arc;

/// The text of a growing list of tokens.
pub struct TextStream {
    tokenizer: Arc<tokenizers::Tokenizer>,
    ids: Vec<u32>,
    /// Index of the first token that is decoded again as context.
    context_start: usize,
    /// Number of tokens whose text is in `text`.
    n_decoded: usize,
    text: String,
}

impl TextStream {
    pub(super) fn new(tokenizer: Arc<tokenizers::Tokenizer>) -> Self {
        Self { tokenizer, ids: Vec::new(), context_start: 0, n_decoded: 0, text: String::new() }
    }

    /// Adds a token to the text.
    pub fn push(&mut self, id: u32) {
        self.ids.push(id);
        let decode = |ids: &[u32]| self.tokenizer.decode(ids, true).unwrap_or_default();
        // some decoders treat the first token differently, so that the previous window is decoded
        // too
        let before = decode(&self.ids[self.context_start..self.n_decoded]);
        let after = decode(&self.ids[self.context_start..]);
        // U+FFFD at the end is a character whose last bytes are missing so far
        if after.len() > before.len()
            && !after.ends_with('\u{FFFD}')
            && after.is_char_boundary(before.len())
        {
            self.text.push_str(&after[before.len()..]);
            self.context_start = self.n_decoded;
            self.n_decoded = self.ids.len();
        }
    }

    /// The text so far, up to the last complete character.
    pub fn text(&self) -> &str {
        &self.text
    }
}
