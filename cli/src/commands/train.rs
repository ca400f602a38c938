//! `joust train`: a post-training run.

use clap::Args;
use joust_run::config::train::TrainRun;
use joust_run::training;

use crate::commands::{ConfigArgs, ExistingArgs};
use crate::console::Console;
use crate::signals::StopSignals;
use crate::summary::Summary;

/// Arguments of `joust train`.
#[derive(Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    existing: ExistingArgs,
}

pub(crate) fn run(args: TrainArgs) -> anyhow::Result<()> {
    let config = args.config.read(TrainRun::problems)?;
    if args.config.dry_run {
        return args.config.print(&config);
    }
    let signals = StopSignals::listen()?;
    let mut observer = (Console::training(), Summary::of(&config.trainer.learner));
    let existing = args.existing.choice();
    let run = training::start(config, existing, signals.switch(), &mut observer)?.run()?;
    signals.check(run.end, run.steps)
}
