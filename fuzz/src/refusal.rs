//! What an error must look like, whatever the input: one line that is no longer than a screen.

/// Maximum length of a message, in bytes: values of the input may be quoted, but not all of it.
const MAX_BYTES: usize = 4096;

/// Panics unless the message can be shown as one line.
pub(crate) fn check(error: &dyn std::fmt::Display) {
    let text = error.to_string();
    assert!(!text.is_empty(), "an error without a word");
    assert!(!text.contains(['\n', '\r']), "an error of several lines: {text:?}");
    assert!(text.len() <= MAX_BYTES, "an error of {} bytes: {}", text.len(), &text[..80]);
}
