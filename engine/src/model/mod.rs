//! The decoder: embedding, layers, final norm, output head, on libtorch tensors.
//!
//! One forward serves generation and training; what differs is the `attention::Attend` that it is
//! given. It does not know about requests, sampling or optimisers.
//!
//! Shape glossary: B rows of a batch, T time, N = flat tokens, H hidden size, V vocabulary,
//! Hq query heads, Hkv key/value heads, D head size.

pub(crate) mod attention;
mod decoder;
pub(crate) mod layer;
mod linear;
mod params;
mod rope;
mod source;
#[cfg(test)]
mod tests;

pub use decoder::Decoder;
pub(crate) use linear::Linear;
pub use source::Precision;
