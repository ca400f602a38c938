//! Decoder models on libtorch: token ids in, tokens and log-probabilities out.
//!
//! The crate reads and writes Hugging Face model folders, reads GGUF files, and runs and
//! differentiates the families Qwen2 and Llama. It knows nothing of judges or rewards.

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
#[cfg(test)]
pub(crate) mod golden;
mod gpu;
mod jinja;
mod json;
mod kv;
pub mod lora;
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

/// Prints that a test did not run, and why.
#[cfg(test)]
#[expect(clippy::print_stderr, reason = "a skipped test must be visible in the output")]
pub(crate) fn tests_not_run(reason: &str) {
    eprintln!("NOT RUN: {reason}");
}

pub use gpu::measure;

pub use config::ModelConfig;
pub use engine::{EndedSample, Engine, SampleEnd};
pub use error::Error;
pub use ffi::signals;
pub use lora::LoraConfig;
pub use model::{Decoder, Precision};
pub use request::{Request, RequestId, Sample, Stats};
pub use settings::{EngineConfig, KvDType, SamplingParams, template_problems};
pub use tokenizer::Tokenizer;
pub use tokenizer::continuation::TurnFrame;
pub use tokenizer::turns::{MarkedTokens, RenderedTurns};
