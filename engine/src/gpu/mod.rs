//! The decoder on a GPU, without gradients: products by libtorch, everything between them by fused
//! kernels, all in memory that is allocated once.
//!
//! The residual stream is f32, activations are bf16, or FP8 where the next matrix is. The
//! operations are a trait with a reference implementation by libtorch, so that everything runs and
//! is tested on a CPU as well. A kernel is declared in `kernels`, listed with its file in `source`,
//! and called in `kernel_ops`. It knows nothing of requests, or of sampling parameters beyond the
//! numbers of one row.

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
mod sampling;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod tuning;

pub(crate) use arena::KvKind;
pub(crate) use forward::GpuRunner;
pub(crate) use kernel_ops::check_model;
pub(crate) use settings::GpuSettings;
