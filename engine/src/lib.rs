//! Decoder models on libtorch: token ids in, tokens and log-probabilities out.
//!
//! Reads and writes Hugging Face model folders and reads GGUF files; runs and differentiates the
//! Qwen2 and Llama families. It does not know what a prompt is for, what a judge is, or a reward.

mod batch;
pub mod capacity;
pub mod config;
mod cpu;
pub mod device;
mod engine;
mod error;
pub mod ffi;
pub mod folder;
pub mod forced;
mod fp8;
mod gguf;
mod gpu;
mod json;
mod kv;
pub mod model;
pub mod quantize;
mod request;
mod runner;
mod sampler;
mod scheduler;
mod settings;
mod stops;
pub mod tokenizer;
pub mod weights;

/// Says that a test did not run, and why.
#[cfg(test)]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn tests_not_run(reason: &str) {
    eprintln!("NOT RUN: {reason}");
}

pub use gpu::measure;

pub use config::ModelConfig;
pub use engine::Engine;
pub use error::Error;
pub use model::{Decoder, Precision};
pub use request::{Request, RequestId, Sample, Stats};
pub use settings::{EngineConfig, KvDType, SamplingParams};
pub use tokenizer::Tokenizer;
