//! `joust sft`: supervised fine-tuning of a model or of random weights.

use clap::Args;
use joust_run::config::sft::{ExportSection, SftRun};
use joust_run::training::RunEnd;
use joust_run::{FinishedTuning, sft};

use crate::commands::{ConfigArgs, ExistingArgs};
use crate::console::Console;
use crate::output;
use crate::signals::StopSignals;

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
    let run = sft::run(&config, existing, signals.switch(), &mut Console::sft())?;
    finish(&run, &signals, &config.export)
}

/// Tells how a run on given texts has ended.
pub(crate) fn finish(
    run: &FinishedTuning,
    signals: &StopSignals,
    export: &ExportSection,
) -> anyhow::Result<()> {
    if run.end == RunEnd::Stopped {
        return Err(signals.stopped(run.steps).into());
    }
    if let Some(path) = &export.path {
        output::line(format!("Wrote {}.", path.display()));
    }
    Ok(())
}
