//! `joust bench`: measures the speed of the parts, one JSON line each (`train`: text unless
//! `--json`).

mod engine;
mod gpu;
mod judge;
mod model;
mod precision;
mod server;
mod train;
mod votes;

use clap::Subcommand;

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
    /// Steps of GRPO on random prompts: seconds of each part, tokens per second, peak memory.
    Train(train::TrainBenchArgs),
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
        BenchCommand::Train(args) => train::run(args),
        BenchCommand::Judge(args) => judge::run(args),
    }
}
