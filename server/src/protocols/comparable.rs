//! Texts compared as tokenizers write them: without blanks, in one Unicode form, with or without
//! special tokens. Pure.

use icu_normalizer::DecomposingNormalizerBorrowed;
use icu_normalizer::properties::CanonicalCombiningClassMapBorrowed;
use joust_schema::control_tokens::token_at_start;

/// Whether special tokens are part of a comparison.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum SpecialTokens {
    Kept,
    Dropped,
}

/// Characters of a text for comparison, and where each comes from.
pub(crate) struct Comparable {
    pub(crate) chars: Vec<char>,
    /// Position in the text of each character of `chars`, and of the end of what was read.
    starts: Vec<usize>,
    /// Whether the text goes on after the last of `chars`.
    is_cut: bool,
}

/// Maximum number of characters for comparison of a text, per byte: one character of three bytes
/// has 18 (U+FDFA).
pub(crate) const CHARS_PER_BYTE: usize = 6;

/// Bytes that are taken per character while a text is read.
pub(crate) const BYTES_PER_CHAR: usize = size_of::<(char, usize)>() + KEPT_PER_CHAR;

/// Bytes that are taken per character afterwards.
pub(crate) const KEPT_PER_CHAR: usize = size_of::<char>() + size_of::<usize>();

impl Comparable {
    /// At most `max` characters of a text, and those that its last letter has beyond that.
    pub(crate) fn new(text: &str, tokens: SpecialTokens, max: usize) -> Self {
        let normalizer = DecomposingNormalizerBorrowed::new_nfkd();
        let classes = CanonicalCombiningClassMapBorrowed::new();
        let mut found: Vec<(char, usize)> = Vec::with_capacity(text.len().min(max));
        let mut at = 0;
        while found.len() < max
            && let Some(c) = text[at..].chars().next()
        {
            let token = match tokens {
                SpecialTokens::Kept => None,
                SpecialTokens::Dropped => token_at_start(&text[at..]),
            };
            match (token, c) {
                (Some(token), _) => {
                    at += token.len();
                    continue;
                }
                (None, _) if is_left_out(c) => {}
                (None, ' '..='~') => found.push((c, at)),
                (None, c) => {
                    let parts = normalizer.normalize(c.encode_utf8(&mut [0; 4])).into_owned();
                    found.extend(parts.chars().filter(|c| !is_left_out(*c)).map(|c| (c, at)));
                }
            }
            at += c.len_utf8();
        }
        // marks on one letter have one order
        let class = |c: char| classes.get_u8(c);
        for run in found.chunk_by_mut(|_, (next, _)| class(*next) != 0) {
            run[1..].sort_by_key(|(c, _)| class(*c));
        }
        let (chars, mut starts): (Vec<char>, Vec<usize>) = found.into_iter().unzip();
        starts.push(at);
        Self { chars, starts, is_cut: at < text.len() }
    }

    /// Whether the text has more characters than were asked for.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Position in the text at which character `idx` begins; the end of what was read after the
    /// last.
    pub(crate) fn start_of(&self, idx: usize) -> usize {
        self.starts[idx]
    }

    /// Number of characters that begin before a position in the text.
    pub(crate) fn n_before(&self, position: usize) -> usize {
        self.starts[..self.chars.len()].partition_point(|start| *start < position)
    }
}

/// Blanks, control characters, and what tokenizers write for blanks and for broken characters.
pub(crate) fn is_left_out(c: char) -> bool {
    let is_invisible = matches!(
        c,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{2581}' | '\u{fffd}'
    );
    c.is_whitespace() || c.is_control() || is_invisible
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_equal(one: &str, other: &str, tokens: SpecialTokens) {
        let [one, other] = [one, other].map(|text| Comparable::new(text, tokens, 99).chars);
        assert_eq!(one, other);
    }

    #[test]
    fn comparable_texts_differ_in_form_only() {
        check_equal("Où est le café ?", "Ou\u{300} est le cafe\u{301} ?", SpecialTokens::Kept);
        check_equal("a\u{327}\u{301}", "a\u{301}\u{327}", SpecialTokens::Kept);
        check_equal("ﬁn ½ Ａ", "fin 1\u{2044}2 A", SpecialTokens::Kept);
        check_equal("각", "\u{1100}\u{1161}\u{11a8}", SpecialTokens::Kept);
        check_equal(" ▁a\u{200b}\n b", "ab", SpecialTokens::Kept);
        check_equal("<s> <|im_start|>a</s>", "a<｜end▁of▁sentence｜>", SpecialTokens::Dropped);
        let kept = Comparable::new("<|x y|> a<|", SpecialTokens::Dropped, 99);
        assert_eq!(kept.chars.iter().collect::<String>(), "<|xy|>a<|");
    }

    #[test]
    fn comparable_knows_where_its_characters_come_from() {
        let text = "é <s> b";
        let both = Comparable::new(text, SpecialTokens::Dropped, 99);
        let starts: Vec<usize> = (0..=both.chars.len()).map(|idx| both.start_of(idx)).collect();
        assert_eq!(starts, [0, 0, 7, 8]);
        assert_eq!([0, 1, 7, 8].map(|at| both.n_before(at)), [0, 2, 2, 3]);
    }

    #[test]
    fn comparable_reads_no_more_than_it_is_asked_for() {
        for (text, max, n_chars, end, is_cut) in [
            ("a b c", 2, 2, 3, true),
            ("a b c", 3, 3, 5, false),
            ("\u{fdfa}b", 2, 18, 3, true),
            ("abc", 0, 0, 0, true),
        ] {
            let read = Comparable::new(text, SpecialTokens::Kept, max);
            // the name of U+FDFA has three blanks
            let n_left_out = if n_chars == 18 { 3 } else { 0 };
            let seen = (read.chars.len() + n_left_out, read.start_of(read.chars.len()));
            assert_eq!((seen, read.is_cut()), ((n_chars, end), is_cut), "{text}");
        }
        // U+FDFA is the longest
        let longest = (0..=u32::from(char::MAX)).filter_map(char::from_u32).map(|c| {
            let text = c.to_string();
            let read = Comparable::new(&text, SpecialTokens::Kept, 1);
            read.chars.len().div_ceil(text.len())
        });
        assert!(longest.max().unwrap() <= CHARS_PER_BYTE);
    }
}
