//! Checkpoint tensors by name, from and to files.
//!
//! Names are those of Hugging Face checkpoints; what they mean is the model's business.

mod checkpoint;
pub(crate) mod dequant;
pub(crate) mod gguf;
pub(crate) mod safetensors;

use std::collections::BTreeMap;

use tch::Tensor;

pub use self::checkpoint::Checkpoint;
pub use self::safetensors::{read_file, write_file};

/// Tensors by their checkpoint name, on the CPU, in the file's number format.
pub type WeightMap = BTreeMap<String, Tensor>;
