//! `joust bench gpu`: the parts of a step on this machine's GPU.

use std::path::PathBuf;

use clap::Args;
use joust_engine::folder;
use joust_engine::measure::{MeasureSizes, measure};

use crate::failure::UserError;
use crate::output;

/// Arguments of `joust bench gpu`.
#[derive(Args)]
pub(crate) struct GpuBenchArgs {
    /// Model folder with a config.json, which gives the shapes.
    #[arg(long)]
    model: PathBuf,
    /// Numbers of rows (tokens) per step.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    rows: Vec<usize>,
    /// Number of tokens of each row's context.
    #[arg(long, default_value_t = 2_048)]
    context: usize,
    /// Keys and values in FP8.
    #[arg(long)]
    kv_fp8: bool,
    /// Number of runs per measurement; 0 only compares with the reference implementations.
    #[arg(long, default_value_t = 50)]
    reps: usize,
}

pub(crate) fn run(args: GpuBenchArgs) -> anyhow::Result<()> {
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
        // prints at once: a later part may crash the program
        if printed.is_ok() {
            printed = output::json_lines(None, &[part]);
        }
    })?;
    printed?;
    match &wrong[..] {
        [] => Ok(()),
        wrong => Err(UserError::new(format!(
            "failed, or not equal to their reference implementations: {}",
            wrong.join(", ")
        ))
        .into()),
    }
}
