//! The text that a template has written, and what it marks as a model's. It knows no templates.

use std::ops::Range;

/// What a template has written.
pub(crate) struct Rendered {
    pub(crate) text: String,
    /// Bytes that `{% generation %}` marks as written by a model, in order. Marks in the text of a
    /// macro or of `set` have no place in the whole.
    pub(crate) generated: Vec<Range<usize>>,
}
