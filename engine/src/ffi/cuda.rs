//! The GPU through CUDA's driver and the C functions of libtorch's CUDA library.
//!
//! Both use the same context, libtorch's, so that tensors and kernels share memory and streams.

pub(crate) mod context;
pub(crate) mod flash;
pub(crate) mod graph;
pub(crate) mod kernel;
mod libtorch;
pub(crate) mod stream;
