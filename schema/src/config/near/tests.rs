//! Edit distances and the words they find.

use super::*;

#[test]
fn distance_counts_insertions_deletions_substitutions_and_swaps() {
    for (a, b, wanted) in [
        ("", "", 0),
        ("", "lr", 2),
        ("lr", "lr", 0),
        ("stpes", "steps", 1),
        ("step", "steps", 1),
        ("steps", "stops", 1),
        ("kitten", "sitting", 3),
    ] {
        assert_eq!(distance(a, b), wanted, "{a} {b}");
        assert_eq!(distance(b, a), wanted, "{b} {a}");
    }
}

#[test]
fn nearest_is_the_known_word_with_the_fewest_edits_if_it_is_near() {
    let known = ["temperature", "top_p", "top_k", "max_batch"];
    for (word, wanted) in [
        ("temprature", Some("temperature")),
        ("top-k", Some("top_k")),
        ("maxbatch", Some("max_batch")),
        ("learning_rate", None),
        ("x", None),
    ] {
        assert_eq!(nearest(word, known), wanted, "{word}");
    }
}
