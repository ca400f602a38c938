//! Groups in; matches, verdicts, ratings and rewards out.
//!
//! A judge compares completions two at a time, a tournament chooses who meets whom, ratings turn
//! votes into rewards. It knows nothing of policies and gradients.

#![forbid(unsafe_code)]

pub mod prompt;
pub mod rating;
pub mod tournament;
pub mod verdict;
