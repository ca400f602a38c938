//! `joust bench`: how fast the parts are, one JSON line each.

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

/// What is measured.
#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Prefill and decode of a model, in tokens per second.
    Engine(engine::BenchArgs),
    /// The parts of a step on a GPU, one by one: kernels against their twins, and products.
    Gpu(gpu::GpuArgs),
    /// How far FP8 is from bf16: logits and next-token distributions.
    Precision(precision::PrecisionArgs),
    /// Several samples of one prompt against one.
    Votes(votes::VotesArgs),
    /// The reward server on a socket: latency of single completions at a rate, and its costs over the bare judge.
    Server(server::ServerArgs),
    /// Tournaments of given groups: matches per second, and how much of the prompts was computed.
    Judge(judge::JudgeArgs),
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

/// Which model is measured.
#[derive(Args)]
struct BenchModel {
    /// Model folder (Hugging Face) or GGUF file.
    #[arg(long)]
    model: PathBuf,
    /// Draws the weights in place of reading them: the folder needs a config.json and a tokenizer.
    #[arg(long)]
    random_weights: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

impl BenchModel {
    /// The model in an engine, its settings changed by the command.
    fn open(&self, change: impl FnOnce(&mut EngineConfig)) -> anyhow::Result<Engine> {
        let mut config = self.engine.config();
        change(&mut config);
        Ok(match self.random_weights {
            true => Engine::open_random(&self.model, &config)?,
            false => Engine::open(&self.model, &config)?,
        })
    }

    /// The last part of its path.
    fn name(&self) -> String {
        self.model.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
