//! `joust sft`: supervised fine-tuning of a model or of random weights.

use clap::Args;
use joust_run::config::sft::SftRun;
use joust_run::sft;

use crate::commands::{ConfigArgs, ExistingArgs};
use crate::console::Console;
use crate::signals::StopSignals;
use crate::summary::Summary;

/// Arguments of `joust sft`.
#[derive(Args)]
pub(crate) struct SftArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    existing: ExistingArgs,
}

pub(crate) fn run(args: SftArgs) -> anyhow::Result<()> {
    let config = args.config.read(SftRun::problems)?;
    if args.config.dry_run {
        return args.config.print(&config);
    }
    let signals = StopSignals::listen()?;
    let existing = args.existing.choice();
    let mut observer = (Console::sft(), Summary::of(&config.trainer.learner));
    let run = sft::run(&config, existing, signals.switch(), &mut observer)?;
    signals.check(run.end, run.steps)
}
