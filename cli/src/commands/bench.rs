//! `joust bench`: how fast the parts are, one JSON line each.

mod engine;
mod judge;

use clap::Subcommand;

/// What is measured.
#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Prefill and decode of a model, in tokens per second.
    Engine(engine::EngineArgs),
    /// Tournaments of given groups: matches per second, and how much of the prompts was computed.
    Judge(judge::JudgeArgs),
}

pub(crate) fn run(command: BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::Engine(args) => engine::run(args),
        BenchCommand::Judge(args) => judge::run(args),
    }
}
