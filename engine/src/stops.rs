//! Search for stop strings in a sample's text. It knows nothing of tokens.

/// Byte offset of the earliest stop string in `text`.
pub(crate) fn position(text: &str, stops: &[String]) -> Option<usize> {
    stops.iter().filter_map(|stop| text.find(stop.as_str())).min()
}

/// Whether `text` contains a stop string; the first `n_seen` bytes were already searched.
pub(crate) fn has_come(text: &str, n_seen: usize, stops: &[String]) -> bool {
    let longest = stops.iter().map(String::len).max().unwrap_or(0);
    let mut start = n_seen.saturating_sub(longest);
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    position(&text[start..], stops).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Searching piece by piece finds the same as searching the whole text.
        #[test]
        fn has_come_is_true_from_the_piece_that_completes_a_stop_string(
            pieces in prop::collection::vec("[aé\u{1F600}]{0,3}", 0..20),
            stops in prop::collection::vec("[aé\u{1F600}]{1,4}", 0..3),
        ) {
            let mut text = String::new();
            for piece in pieces {
                let n_seen = text.len();
                text.push_str(&piece);
                let whole = position(&text, &stops).is_some();
                prop_assert_eq!(has_come(&text, n_seen, &stops), whole);
                if whole {
                    break;
                }
            }
        }
    }
}
