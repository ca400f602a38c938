//! Whether two texts are the same answer.
//!
//! It does not know where they stand.

use super::{compare, parse};

/// Whether two texts are the same answer. Those that are not understood are not.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    match (parse::parse(a), parse::parse(b)) {
        (Ok(a), Ok(b)) => compare::same(&a, &b) == Some(true),
        _ => false,
    }
}
