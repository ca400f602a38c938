//! A safetensors file.

use joust_engine::weights;

use super::refusal;
use super::scratch::ScratchFile;

/// Reads all tensors of a file; they hold no more bytes than the file.
pub fn check(bytes: &[u8]) {
    let file = ScratchFile::new("model.safetensors", bytes);
    match weights::read_file(&file.path) {
        Ok(tensors) => {
            let of_tensor =
                |tensor: &tch::Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
            let n_bytes: usize = tensors.values().map(of_tensor).sum();
            assert!(n_bytes <= bytes.len(), "{n_bytes} bytes out of {}", bytes.len());
        }
        Err(error) => refusal::check(&error),
    }
}
