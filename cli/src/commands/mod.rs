//! The commands, a file each, and the arguments that several of them share.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use joust_engine::device::{DType, DeviceChoice};
use joust_engine::{Engine, EngineConfig};

pub(crate) mod doctor;
pub(crate) mod generate;
pub(crate) mod logprobs;

/// Which model a command runs, and in what.
#[derive(Args)]
pub(crate) struct ModelArgs {
    /// Model folder (Hugging Face) or GGUF file.
    #[arg(long)]
    model: PathBuf,
    /// What the weights are kept and computed in.
    #[arg(long, value_enum, default_value_t = DTypeArg::Auto)]
    dtype: DTypeArg,
    /// Where the model runs.
    #[arg(long, value_enum, default_value_t = DeviceArg::Auto)]
    device: DeviceArg,
    /// Most samples that run at once.
    #[arg(long, default_value_t = 64)]
    max_batch: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum DTypeArg {
    Auto,
    #[value(alias = "float32")]
    F32,
    #[value(alias = "bfloat16")]
    Bf16,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceArg {
    Auto,
    Cpu,
    Cuda,
}

impl ModelArgs {
    /// Loads the model into an engine.
    pub(crate) fn open_engine(&self) -> anyhow::Result<Engine> {
        let config = EngineConfig {
            max_batch: self.max_batch,
            dtype: match self.dtype {
                DTypeArg::Auto => DType::Auto,
                DTypeArg::F32 => DType::F32,
                DTypeArg::Bf16 => DType::Bf16,
            },
            device: match self.device {
                DeviceArg::Auto => DeviceChoice::Auto,
                DeviceArg::Cpu => DeviceChoice::Cpu,
                DeviceArg::Cuda => DeviceChoice::Cuda,
            },
            ..EngineConfig::default()
        };
        Ok(Engine::open(&self.model, &config)?)
    }
}
