//! Decoding token by token: the text so far is that of all tokens decoded at once, without the
//! characters at its end whose bytes are incomplete. It knows nothing of stop strings.

use std::sync::Arc;

/// Number of tokens after which text counts as final, even if their decoder could still change it.
const MAX_OPEN_TOKENS: usize = 256;

/// The text of a growing list of tokens.
pub struct TextStream {
    tokenizer: Arc<tokenizers::Tokenizer>,
    /// Whether special tokens have no text.
    skips_special: bool,
    ids: Vec<u32>,
    /// Index of the first token that is decoded again as context: some decoders treat the first
    /// token differently.
    context_start: usize,
    /// Number of tokens whose text is final.
    n_final: usize,
    /// Bytes of that text.
    final_len: usize,
    /// Whether the last visible token stands for one byte: its decoder joins a run of them, so that
    /// a byte that is no UTF-8 changes the text of those before it.
    is_in_bytes: bool,
    text: String,
}

impl TextStream {
    pub(super) fn new(tokenizer: Arc<tokenizers::Tokenizer>, skips_special: bool) -> Self {
        Self {
            tokenizer,
            skips_special,
            ids: Vec::new(),
            context_start: 0,
            n_final: 0,
            final_len: 0,
            is_in_bytes: false,
            text: String::new(),
        }
    }

    /// Adds a token to the text. Returns the offset from which on the text is new.
    pub fn push(&mut self, id: u32) -> usize {
        self.ids.push(id);
        if !(self.skips_special && self.is_special(id)) {
            self.is_in_bytes = self.is_byte(id);
        }
        let changed_from = self.final_len;
        let before = self.decode(self.context_start, self.n_final);
        let mut after = self.decode(self.context_start, self.ids.len());
        let is_continued = after.starts_with(&before);
        let tail = match is_continued {
            true => after.split_off(before.len()),
            false => {
                // the decoder has changed text that was final: only the whole is right
                let whole = self.decode(0, self.ids.len());
                self.text.clear();
                self.final_len = 0;
                whole
            }
        };
        self.text.truncate(self.final_len);
        let complete = tail.trim_end_matches('\u{FFFD}');
        self.text.push_str(complete);
        let is_complete = complete.len() == tail.len();
        let n_open = self.ids.len() - self.n_final;
        let is_final = is_complete && !self.is_in_bytes && !tail.is_empty();
        if !is_continued || is_final || n_open > MAX_OPEN_TOKENS {
            self.context_start = self.n_final;
            self.n_final = self.ids.len();
            if !is_complete {
                // these characters will not be completed any more
                self.text.truncate(self.final_len);
                self.text.push_str(&tail);
            }
            self.final_len = self.text.len();
        }
        if is_continued { changed_from } else { 0 }
    }

    fn decode(&self, start: usize, end: usize) -> String {
        self.tokenizer.decode(&self.ids[start..end], self.skips_special).unwrap_or_default()
    }

    fn is_special(&self, id: u32) -> bool {
        let added = self.tokenizer.get_added_vocabulary();
        added.simple_id_to_token(id).is_some_and(|token| added.is_special_token(&token))
    }

    /// Whether a token is one byte in the spelling of vocabularies with byte fallback: `<0x0A>`.
    fn is_byte(&self, id: u32) -> bool {
        let token = self.tokenizer.id_to_token(id).unwrap_or_default();
        let digits = token.strip_prefix("<0x").and_then(|token| token.strip_suffix('>'));
        digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
    }

    /// The text so far, up to the last complete character.
    pub fn text(&self) -> &str {
        &self.text
    }
}
