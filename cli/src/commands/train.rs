//! `joust train`: a post-training run.

use clap::Args;
use joust_run::config::train::TrainRun;
use joust_run::training::{self, RunEnd};

use crate::commands::{ConfigArgs, ExistingArgs};
use crate::console::Console;
use crate::signals::StopSignals;
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
    let config = args.config.read(TrainRun::problems)?;
    if args.config.dry_run {
        return args.config.print(&config);
    }
    let signals = StopSignals::listen()?;
    let mut console = Console::training();
    let training = training::start(config.clone(), args.existing.choice(), &mut console)?;
    let run = training.run(signals.switch(), &mut console)?;
    match run.end {
        RunEnd::Finished => {
            summary::print(&run, &config);
            Ok(())
        }
        RunEnd::Stopped => Err(signals.stopped(run.steps).into()),
    }
}
