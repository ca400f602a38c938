//! The end of a sample, and its text, from its tokens alone: of this engine's samples, and of those
//! that another program has drawn from the same model.
//!
//! It knows neither the model nor probabilities.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::stop_search::StopSearch;
use crate::config::ModelConfig;
use crate::tokenizer::Tokenizer;

/// Finds where samples of a model end, as its engine does.
pub struct SampleEnd {
    tokenizer: Arc<Tokenizer>,
    end_tokens: BTreeSet<u32>,
    stops: Vec<String>,
}

/// Tokens up to the end of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedSample {
    /// Number of tokens of the sample, the one that ends it included.
    pub n_tokens: usize,
    /// Whether a token or a stop string ended it; the tokens before are all there were if not.
    pub is_ended: bool,
    /// Text without special tokens, without the end token and without the stop string.
    pub text: String,
}

impl SampleEnd {
    /// For samples that end with an end token of the model or its tokenizer, or with one of the
    /// texts.
    pub fn new(tokenizer: Arc<Tokenizer>, model: &ModelConfig, stops: &[String]) -> Self {
        let end_tokens = end_tokens(&tokenizer, model);
        Self { tokenizer, end_tokens, stops: stops.to_vec() }
    }

    /// Tokens that end a sample.
    pub fn end_tokens(&self) -> impl Iterator<Item = u32> {
        self.end_tokens.iter().copied()
    }

    /// Reads the tokens of a sample up to its end.
    pub fn find(&self, token_ids: &[u32]) -> EndedSample {
        let mut search = StopSearch::new(&self.tokenizer, &self.stops);
        let is_end = |token: u32| self.end_tokens.contains(&token);
        let end = token_ids.iter().position(|&token| {
            is_end(token) || search.as_mut().is_some_and(|search| search.push(token))
        });
        let n_tokens = end.map_or(token_ids.len(), |last| last + 1);
        let text = sample_text(&self.tokenizer, &token_ids[..n_tokens], search.as_ref(), &is_end);
        EndedSample { n_tokens, is_ended: end.is_some(), text }
    }
}

/// End tokens of a model and of its tokenizer.
pub(super) fn end_tokens(tokenizer: &Tokenizer, model: &ModelConfig) -> BTreeSet<u32> {
    let of_tokenizer = tokenizer.eos_ids().iter().copied();
    of_tokenizer.chain(model.eos_token_ids.iter().copied()).collect()
}

/// Text of a finished sample. It ends before the first stop string; the rest of the stop string's
/// last token is cut off with it.
pub(super) fn sample_text(
    tokenizer: &Tokenizer,
    token_ids: &[u32],
    search: Option<&StopSearch>,
    is_end: &dyn Fn(u32) -> bool,
) -> String {
    let cut = search.and_then(|search| search.text(tokenizer, token_ids));
    cut.unwrap_or_else(|| {
        // the end token is not part of the text, whether it is a special token or not
        let shown = match token_ids.split_last() {
            Some((&last, before)) if is_end(last) => before,
            _ => token_ids,
        };
        tokenizer.decode(shown, true)
    })
}
