//! Checkpoint tensors by name, from and to files.
//!
//! Names are those of Hugging Face checkpoints. This module does not know what they mean.

mod checkpoint;
pub(crate) mod dequant;
pub(crate) mod gguf;
pub(crate) mod safetensors;

pub use self::checkpoint::{Checkpoint, WeightMap};
pub use self::safetensors::{read_file, write_file};
