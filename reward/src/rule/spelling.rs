//! Answers that are not understood, compared as they are written.
//!
//! It does not know what an answer means.

use super::lexer::tokens;
use super::token::Token;

/// Whether two answers have the same symbols in the same order. Spaces, and braces around a single
/// symbol, do not count: `\sum_{k=1}^n k` and `\sum_{k=1}^{n}k` are the same.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    match (symbols(a), symbols(b)) {
        (Some(a), Some(b)) => !a.is_empty() && a == b,
        _ => false,
    }
}

/// Maximum number of bytes of an answer that is compared.
const MAX_BYTES: usize = 4096;

fn symbols(text: &str) -> Option<Vec<Token>> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let mut symbols: Vec<Token> = Vec::new();
    for spaced in tokens(text).ok()? {
        if spaced.token == Token::Close('}')
            && let [.., Token::Open('{'), single] = &symbols[..]
        {
            let single = single.clone();
            symbols.truncate(symbols.len() - 2);
            symbols.push(single);
            continue;
        }
        symbols.push(spaced.token);
    }
    Some(symbols)
}
