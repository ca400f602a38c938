//! `joust dpo`: preference optimisation of a model on pairs of completions.

use clap::Args;
use joust_run::config::dpo::DpoRun;
use joust_run::dpo;

use crate::commands::{ConfigArgs, ExistingArgs};
use crate::console::Console;
use crate::signals::StopSignals;
use crate::summary::Summary;

/// Arguments of `joust dpo`.
#[derive(Args)]
pub(crate) struct DpoArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    existing: ExistingArgs,
}

pub(crate) fn run(args: DpoArgs) -> anyhow::Result<()> {
    let config = args.config.read(DpoRun::problems)?;
    if args.config.dry_run {
        return args.config.print(&config);
    }
    let signals = StopSignals::listen()?;
    let existing = args.existing.choice();
    let mut observer = (Console::dpo(), Summary::of(&config.trainer.learner));
    let run = dpo::run(&config, existing, signals.switch(), &mut observer)?;
    signals.check(run.end, run.steps)
}
