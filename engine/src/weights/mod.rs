//! Checkpoint tensors by name, from and to files.
//!
//! Names are those of Hugging Face checkpoints. This module does not know what they mean.

mod checkpoint;
pub(crate) mod dequant;
pub(crate) mod gguf;
pub(crate) mod safetensors;
mod shards;
mod tensor_file;

pub use self::checkpoint::{Checkpoint, WeightMap};
pub use self::safetensors::{read_file, write_file};
pub use self::shards::{Piece, Shards, shard_name, write_shard};
pub use self::tensor_file::{TensorEntry, TensorFile};
