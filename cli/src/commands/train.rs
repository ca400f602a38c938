//! `joust train`: a post-training run.

use clap::Args;

use crate::commands::ConfigArgs;
use crate::config::train::TrainRun;
use crate::run_folder::Existing;
use crate::training;

/// Arguments of `joust train`.
#[derive(Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    existing: Existing,
}

pub(crate) fn run(args: TrainArgs) -> anyhow::Result<()> {
    let config: TrainRun = args.config.read()?;
    if args.config.dry_run {
        config.validate()?;
        return args.config.print(&config);
    }
    training::start(config, args.existing)?.run()
}
