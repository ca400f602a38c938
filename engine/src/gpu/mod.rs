//! The decoder on a GPU, without gradients: products by libtorch, everything between them by kernels
//! that fuse what belongs together, all in memory that is set aside once.
//!
//! The residual stream is f32, activations are bf16, FP8 where the matrix that takes them is. What the
//! kernels do is a trait with a plain libtorch reference, so that all of this runs and is tested on a CPU as
//! well. It knows nothing of requests or sampling parameters beyond one row's numbers.

mod arena;
mod batch;
mod buffers;
mod cascade;
mod device_batch;
#[cfg(test)]
mod emulator;
mod forward;
mod graphs;
mod kernel;
mod kernel_ops;
mod kernels;
mod launch;
pub mod measure;
mod ops;
mod prefill;
mod reference;
mod source;
#[cfg(test)]
mod tests;
mod tuning;

pub(crate) use arena::KvKind;
pub(crate) use forward::{GpuRunner, GpuSettings};
pub(crate) use kernel_ops::check_model;
