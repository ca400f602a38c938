//! The model that a benchmark measures, the median of its repetitions, and peak memory. Knows no
//! benchmark.

use std::path::PathBuf;

use clap::Args;
use joust_engine::{Engine, EngineConfig};

use crate::commands::EngineArgs;

/// The model that is measured.
#[derive(Args)]
pub(super) struct BenchModel {
    /// Model folder (Hugging Face) or GGUF file.
    #[arg(long)]
    pub(super) model: PathBuf,
    /// Draws random weights instead of reading them; the folder needs a config.json and a
    /// tokenizer.
    #[arg(long)]
    pub(super) random_weights: bool,
    #[command(flatten)]
    pub(super) engine: EngineArgs,
}

impl BenchModel {
    /// Loads the model into an engine whose settings `change` adapts.
    pub(super) fn open(&self, change: impl FnOnce(&mut EngineConfig)) -> anyhow::Result<Engine> {
        let mut config = self.engine.config();
        change(&mut config);
        Ok(match self.random_weights {
            true => Engine::open_random(&self.model, &config)?,
            false => Engine::open(&self.model, &config)?,
        })
    }

    /// Last part of the model's path.
    pub(super) fn name(&self) -> String {
        self.model.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The median; NaN of no values.
pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Peak host memory of the process so far, in MB.
pub(super) fn peak_rss_mb() -> f64 {
    joust_engine::device::peak_memory_bytes() as f64 / 1e6
}
