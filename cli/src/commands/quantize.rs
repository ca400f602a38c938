//! `joust quantize`: writes a model folder with the matrices of its layers in FP8.

use std::path::PathBuf;

use clap::Args;
use joust_engine::{folder, quantize};

use crate::output;

/// Arguments of `joust quantize`.
#[derive(Args)]
pub(crate) struct QuantizeArgs {
    /// Model folder in Hugging Face's layout.
    #[arg(long)]
    model: PathBuf,
    /// Folder of the FP8 model; a model in it is replaced.
    #[arg(long)]
    output: PathBuf,
}

pub(crate) fn run(args: QuantizeArgs) -> anyhow::Result<()> {
    folder::check_apart(&args.model, &args.output)?;
    folder::check_target(&args.output)?;
    let bar = output::progress_bar(0, "MB");
    let mut summary = quantize::QuantizeSummary::default();
    joust_schema::atomic::write_dir::<anyhow::Error>(&args.output, |dir| {
        summary = quantize::quantize_folder(&args.model, dir, &mut |done, total| {
            bar.set_length((total / 1_000_000) as u64);
            bar.set_position((done / 1_000_000) as u64);
        })?;
        Ok(())
    })?;
    bar.finish_and_clear();
    output::line(format!(
        "Wrote {}: {} matrices in FP8, {} tensors as they were, {:.1} of {:.1} MB.",
        args.output.display(),
        summary.n_quantized,
        summary.n_kept,
        summary.bytes_after as f64 / 1e6,
        summary.bytes_before as f64 / 1e6,
    ));
    Ok(())
}
