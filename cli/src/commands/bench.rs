//! `joust bench`: measures the speed of the parts, one JSON line each.

mod engine;
mod gpu;
mod judge;
mod precision;
mod server;
mod votes;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use joust_engine::{Engine, EngineConfig};

use crate::commands::EngineArgs;

/// The parts that are measured.
#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Prefill and decode of a model, in tokens per second.
    Engine(engine::EngineBenchArgs),
    /// The parts of a step on a GPU: kernels against their reference implementations, and products.
    Gpu(gpu::GpuBenchArgs),
    /// Distance of FP8 from bf16: logits and next-token distributions.
    Precision(precision::PrecisionBenchArgs),
    /// Several samples of one prompt against a single sample.
    Votes(votes::VotesBenchArgs),
    /// The reward server on a socket: latency of single completions at a fixed rate, and overhead
    /// over the judge alone.
    Server(server::ServerBenchArgs),
    /// Tournaments of given groups: matches per second, and the share of prompt tokens computed.
    Judge(judge::JudgeBenchArgs),
}

pub(crate) fn run(command: BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::Engine(args) => engine::run(args),
        BenchCommand::Gpu(args) => gpu::run(args),
        BenchCommand::Precision(args) => precision::run(args),
        BenchCommand::Votes(args) => votes::run(args),
        BenchCommand::Server(args) => server::run(args),
        BenchCommand::Judge(args) => judge::run(args),
    }
}

/// The model that is measured.
#[derive(Args)]
struct BenchModel {
    /// Model folder (Hugging Face) or GGUF file.
    #[arg(long)]
    model: PathBuf,
    /// Draws random weights instead of reading them; the folder needs a config.json and a
    /// tokenizer.
    #[arg(long)]
    random_weights: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

impl BenchModel {
    /// Loads the model into an engine whose settings `change` adapts.
    fn open(&self, change: impl FnOnce(&mut EngineConfig)) -> anyhow::Result<Engine> {
        let mut config = self.engine.config();
        change(&mut config);
        Ok(match self.random_weights {
            true => Engine::open_random(&self.model, &config)?,
            false => Engine::open(&self.model, &config)?,
        })
    }

    /// Last part of the model's path.
    fn name(&self) -> String {
        self.model.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
