//! `joust bench`: how fast the parts are, one JSON line each.

mod engine;

use clap::Subcommand;

/// What is measured.
#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Prefill and decode of a model, in tokens per second.
    Engine(engine::EngineArgs),
}

pub(crate) fn run(command: BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::Engine(args) => engine::run(args),
    }
}
