//! The decoder: embedding, layers, final norm, output head, on libtorch tensors.
//!
//! Generation and training use the same forward pass with different implementations of
//! `attention::Attend`. This module knows nothing of requests, sampling or optimisers.
//!
//! Shape glossary: B rows of a batch, T tokens per row, N flat tokens, H hidden size, V vocabulary,
//! Hq query heads, Hkv key/value heads, D dimensions per head.

mod adapter;
pub(crate) mod attention;
mod attention_kernel;
mod body;
mod buckets;
mod decoder;
mod gradients;
pub(crate) mod layer;
mod layer_pass;
mod linear;
mod params;
pub(crate) mod products;
mod rope;
mod source;
#[cfg(test)]
pub(crate) mod tests;
mod tree;
mod tree_attention;

pub(crate) use adapter::{Adapter, FusedAdapters};
pub use body::{BodyBackward, BodyForward, BodyPass, KeptActivations};
pub use buckets::{Bucket, BucketPiece, PieceOfPart, Section, TakeBucket};
pub use decoder::Decoder;
pub(crate) use layer::HeadNorms;
pub(crate) use linear::Linear;
pub use params::CheckpointPart;
pub use source::Precision;
pub use tree::TokenTree;
