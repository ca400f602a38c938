//! The decoder on a GPU, without gradients: products by libtorch, everything between them by kernels
//! that fuse what belongs together, all in memory that is set aside once.
//!
//! The residual stream is f32, activations are bf16, FP8 where the matrix that takes them is. What the
//! kernels do is a trait with a plain libtorch twin, so that all of this runs and is tested on a CPU as
//! well. It knows nothing of requests or sampling parameters beyond one row's numbers.

mod arena;
mod buffers;
#[cfg(test)]
mod emulator;
mod forward;
mod graphs;
mod kernels;
mod launch;
pub mod measure;
mod numbers;
mod ops;
mod prefill;
mod sharing;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod twins;

pub(crate) use arena::KvKind;
pub(crate) use forward::{GpuRunner, GpuSettings};
pub(crate) use kernels::check_model;
