//! What runs on given texts learn from: supervised examples and preference pairs, by number, as
//! text and as tokens.

mod chat;
mod data_file;
mod encoder;
mod form;
mod pair_row;
mod pairs;
mod row;
mod shuffled;
mod source;

pub(crate) use chat::LearnedText;
pub(crate) use encoder::Encoder;
pub(crate) use pairs::{PairOfExamples, PairSource, PairTexts};
pub(crate) use source::{ExampleFile, ExampleSource, ExampleTexts};
