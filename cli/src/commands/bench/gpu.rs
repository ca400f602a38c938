//! `joust bench gpu`: the parts of a step on the GPU that is here.

use std::path::PathBuf;

use clap::Args;
use joust_engine::folder;
use joust_engine::measure::{MeasureSizes, measure};

use crate::failure::UserError;
use crate::output;

/// Arguments of `joust bench gpu`.
#[derive(Args)]
pub(crate) struct GpuArgs {
    /// Model folder with a config.json, for its shapes.
    #[arg(long)]
    model: PathBuf,
    /// Rows (tokens) of a step.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    rows: Vec<usize>,
    /// Tokens of each row's context.
    #[arg(long, default_value_t = 2_048)]
    context: usize,
    /// Keys and values in FP8.
    #[arg(long)]
    kv_fp8: bool,
    /// Times that each part runs between two looks at the clock; 0 only compares with the twins.
    #[arg(long, default_value_t = 50)]
    reps: usize,
}

pub(crate) fn run(args: GpuArgs) -> anyhow::Result<()> {
    let config = folder::open_config(&args.model)?;
    let sizes = MeasureSizes {
        rows: args.rows.into_iter().filter(|&rows| rows > 0).collect(),
        context: args.context.max(1),
        kv_fp8: args.kv_fp8,
        reps: args.reps,
    };
    let (mut wrong, mut printed) = (Vec::new(), Ok(()));
    measure(&config, &sizes, &mut |part| {
        if !part.is_good() {
            wrong.push(format!("{} at {} rows", part.part, part.rows));
        }
        // at once: what comes later may take the program down
        if printed.is_ok() {
            printed = output::json_lines(None, &[part]);
        }
    })?;
    printed?;
    match &wrong[..] {
        [] => Ok(()),
        wrong => Err(UserError::new(format!(
            "failed, or not what their twins compute: {}",
            wrong.join(", ")
        ))
        .into()),
    }
}
