//! What runs on given texts learn from: supervised examples and preference pairs, by number, as
//! text and as tokens.

mod chat;
mod encoder;
mod pair_row;
mod pairs;
mod row;
mod shuffled;
mod source;

pub(crate) use encoder::{EncodedExample, Encoder};
pub(crate) use pairs::PairSource;
pub(crate) use source::ExampleSource;
