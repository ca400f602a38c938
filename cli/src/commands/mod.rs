//! The commands, one file each, and the arguments that several of them share.

use std::path::{Path, PathBuf};

use clap::Args;
use joust_engine::{Engine, EngineConfig};
use joust_reward::Scorer;
use joust_run::ExistingRun;
use joust_run::config::merge::Merged;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::UserError;
use crate::score_config::{ScoreRun, UNUSED};
use crate::{output, signals};
use written::OutputFolder;

pub(crate) mod bench;
pub(crate) mod data;
mod data_rows;
pub(crate) mod docs;
pub(crate) mod doctor;
pub(crate) mod dpo;
pub(crate) mod dump;
pub(crate) mod generate;
pub(crate) mod judge;
pub(crate) mod logprobs;
pub(crate) mod quantize;
pub(crate) mod rate;
pub(crate) mod score;
pub(crate) mod serve;
pub(crate) mod sets;
pub(crate) mod sft;
pub(crate) mod train;
pub(crate) mod votes;
mod written;

/// Config files and overrides, and whether only to print the config.
#[derive(Args)]
pub(crate) struct ConfigArgs {
    /// TOML files, merged left to right, and overrides like `run.seed=1`.
    #[arg(required = true, value_name = "CONFIG.toml|KEY=VALUE")]
    pub(crate) parts: Vec<String>,
    /// Prints the resolved config and stops.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl ConfigArgs {
    /// Reads the files and applies the overrides. `problems` returns the problems between keys.
    pub(crate) fn read<T>(&self, problems: impl Fn(&T) -> Vec<String>) -> anyhow::Result<T>
    where
        T: Default + Serialize + DeserializeOwned + JsonSchema,
    {
        Ok(self.merged()?.into_config(problems)?)
    }

    fn merged(&self) -> Result<Merged, joust_run::Error> {
        // a file may have `=` in its name, a key has no `/` and does not end in `.toml`
        let is_override = |part: &&String| part.contains('=') && !Path::new(part).exists();
        let (overrides, files): (Vec<&String>, Vec<&String>) =
            self.parts.iter().partition(is_override);
        let files: Vec<PathBuf> = files.into_iter().map(PathBuf::from).collect();
        let overrides: Vec<String> = overrides.into_iter().cloned().collect();
        Merged::read(&files, &overrides)
    }

    /// Starts a scoring command: validates the config and sets its threads. `None` after
    /// `--dry-run`, which only prints the config.
    pub(crate) fn start_scoring(&self) -> anyhow::Result<Option<ScoreRun>> {
        // a pattern without quotes becomes many names
        let is_data = |part: &&String| part.ends_with(".jsonl") || part.ends_with(".parquet");
        if let Some(part) = self.parts.iter().find(is_data) {
            let text = "is no config: --input takes one file, a folder, or a pattern in quotes";
            return Err(UserError::new(format!("{part} {text}")).into());
        }
        let config = self.read_scoring()?;
        if self.dry_run {
            self.print(&config)?;
            return Ok(None);
        }
        config.run.set_threads();
        Ok(Some(config))
    }

    /// Reads a scoring config, without the sections that only `joust train` uses.
    fn read_scoring(&self) -> anyhow::Result<ScoreRun> {
        Ok(self.merged()?.without(&UNUSED).into_config(ScoreRun::problems)?)
    }

    /// Prints the resolved config, once where there are several processes.
    pub(crate) fn print<T: Serialize>(&self, config: &T) -> anyhow::Result<()> {
        if crate::process::is_first_rank() {
            output::line(toml::to_string(config)?.trim_end());
        }
        Ok(())
    }
}

/// Choice for a run folder that exists.
#[derive(Args)]
pub(crate) struct ExistingArgs {
    /// Continues from the newest checkpoint; starts from the beginning without one.
    #[arg(long, conflicts_with = "clean")]
    resume: bool,
    /// Deletes the run's folder first.
    #[arg(long)]
    clean: bool,
}

impl ExistingArgs {
    /// The choice that the flags make.
    pub(crate) fn choice(&self) -> ExistingRun {
        match (self.resume, self.clean) {
            (true, _) => ExistingRun::Resume,
            (false, true) => ExistingRun::Clean,
            (false, false) => ExistingRun::Refuse,
        }
    }
}

/// Checks and prepares the output, then loads the judge: what cannot be written, or would replace
/// what is read, fails before the expensive part. From here on a stop signal ends the command with
/// a last line.
fn open_scorer(
    config: &ScoreRun,
    input: &Path,
    output: &OutputFolder<'_>,
) -> anyhow::Result<Scorer> {
    output.check_apart(input, &config.reward)?;
    signals::end_at_signal(format!(
        "Stopped before the end: the results are not in {}. Start the command again.",
        output.path.display()
    ))?;
    output.prepare()?;
    Ok(Scorer::open(&config.reward, true)?)
}

/// The model that a command runs, and the engine's settings.
#[derive(Args)]
pub(crate) struct ModelArgs {
    /// Model folder (Hugging Face) or GGUF file.
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Settings of the engine.
#[derive(Args)]
pub(crate) struct EngineArgs {
    /// Number format of weights and computation.
    #[arg(long, default_value = "auto", value_parser = known(&["auto", "f32", "bf16"]))]
    dtype: String,
    /// Matrices that are stored in FP8.
    #[arg(long, default_value = "auto")]
    #[arg(value_parser = known(&["auto", "off", "fp8", "fp8_with_head"]))]
    quantization: String,
    /// Number format of keys and values.
    #[arg(long, default_value = "auto", value_parser = known(&["auto", "fp8"]))]
    kv_dtype: String,
    /// Device of the model.
    #[arg(long, default_value = "auto", value_parser = known(&["auto", "cpu", "cuda"]))]
    device: String,
    /// Maximum number of samples that run at once.
    #[arg(long, default_value_t = 64)]
    max_batch: usize,
    /// Maximum number of tokens of prompt and sample together; 0 for the model's own limit.
    #[arg(long, default_value_t = 0)]
    max_context: usize,
    /// Maximum number of tokens per step.
    #[arg(long, default_value_t = 2_048)]
    step_tokens: usize,
    /// Memory for keys and values, in MiB; 0 for as much as they need: at most an eighth of the
    /// machine's memory, or the free memory of a GPU.
    #[arg(long, default_value_t = 0)]
    kv_memory_mib: usize,
    /// On a GPU, uses libtorch's operations instead of the fused kernels.
    #[arg(long)]
    no_gpu_kernels: bool,
    /// On a GPU, launches decoding steps without CUDA graphs.
    #[arg(long)]
    no_cuda_graphs: bool,
    /// On a GPU, reads shared prefixes once per row: no cascade attention.
    #[arg(long)]
    no_shared_attention: bool,
    /// On a GPU, maximum size of a product's weights that are fetched ahead, in MiB.
    #[arg(long, default_value_t = EngineConfig::default().fetch_ahead_mib)]
    fetch_ahead_mib: usize,
}

fn known(values: &'static [&'static str]) -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(values)
}

/// Parses a setting by its name in config files.
fn setting<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_value(name.into())
        .expect("the command line takes the settings' own names. This is a bug.")
}

impl EngineArgs {
    /// The engine's settings.
    pub(crate) fn config(&self) -> EngineConfig {
        EngineConfig {
            max_batch: self.max_batch,
            max_context: self.max_context,
            step_tokens: self.step_tokens,
            dtype: setting(&self.dtype),
            quantization: setting(&self.quantization),
            kv_dtype: setting(&self.kv_dtype),
            device: setting(&self.device),
            kv_memory_mib: self.kv_memory_mib,
            gpu_kernels: !self.no_gpu_kernels,
            cuda_graphs: !self.no_cuda_graphs,
            shared_attention: !self.no_shared_attention,
            fetch_ahead_mib: self.fetch_ahead_mib,
            // all prompts of a file are queued at once
            max_queue: 0,
            ..EngineConfig::default()
        }
    }
}

impl ModelArgs {
    /// Loads the model into an engine.
    pub(crate) fn open_engine(&self) -> anyhow::Result<Engine> {
        let engine = Engine::open(&self.model, &self.engine.config())?;
        let kept = &engine.model().config().kept.generation;
        if let Some(penalty) = kept.get("repetition_penalty").and_then(serde_json::Value::as_f64)
            && penalty != 1.0
        {
            output::note(format!(
                "{}: repetition_penalty {penalty} of generation_config.json is not applied",
                self.model.display()
            ));
        }
        Ok(engine)
    }
}
