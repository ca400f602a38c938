//! `joust dump`: shows dumps, and turns them into DPO pairs or best-of-n data.

mod files;
mod preferences;
mod show;

use clap::{Args, Subcommand};

/// Arguments of `joust dump`.
#[derive(Args)]
pub(crate) struct DumpArgs {
    #[command(subcommand)]
    command: DumpCommand,
}

#[derive(Subcommand)]
enum DumpCommand {
    /// Prints the rows of a Parquet file, or the tables of a run's folder.
    Show(show::ShowArgs),
    /// Writes `prompt`, `chosen`, `rejected`: the best and the worst completion of every group.
    Pairs(preferences::PairsArgs),
    /// Writes `prompt`, `completion`, `reward`: the best completion of every group.
    Best(preferences::BestArgs),
}

pub(crate) fn run(args: DumpArgs) -> anyhow::Result<()> {
    match args.command {
        DumpCommand::Show(args) => show::run(args),
        DumpCommand::Pairs(args) => preferences::write_pairs(args),
        DumpCommand::Best(args) => preferences::write_best(args),
    }
}
