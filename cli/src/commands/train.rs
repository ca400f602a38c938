//! `joust train`: a post-training run.

use clap::Args;
use joust_run::config::train::TrainRun;
use joust_run::training;

use crate::commands::{ConfigArgs, ExistingArgs};
use crate::console::Console;
use crate::summary;

/// Arguments of `joust train`.
#[derive(Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    existing: ExistingArgs,
}

pub(crate) fn run(args: TrainArgs) -> anyhow::Result<()> {
    let config: TrainRun = args.config.read()?;
    if args.config.dry_run {
        config.validate()?;
        return args.config.print(&config);
    }
    let mut console = Console::training();
    let training = training::start(config, args.existing.choice(), &mut console)?;
    summary::print(&training.run(&mut console)?);
    Ok(())
}
