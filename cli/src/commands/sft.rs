//! `joust sft`: supervised fine-tuning of a model or of random weights.

use clap::Args;
use joust_run::config::sft::SftRun;
use joust_run::sft;

use crate::commands::{ConfigArgs, ExistingArgs};
use crate::console::Console;
use crate::output;

/// Arguments of `joust sft`.
#[derive(Args)]
pub(crate) struct SftArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    existing: ExistingArgs,
}

pub(crate) fn run(args: SftArgs) -> anyhow::Result<()> {
    let config: SftRun = args.config.read()?;
    if args.config.dry_run {
        config.validate()?;
        return args.config.print(&config);
    }
    sft::run(&config, args.existing.choice(), &mut Console::sft())?;
    if let Some(path) = &config.export.path {
        output::line(format!("Wrote {}.", path.display()));
    }
    Ok(())
}
