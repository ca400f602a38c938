//! The commands, a file each, and the arguments that several of them share.

use std::path::PathBuf;

use clap::Args;
use joust_engine::{Engine, EngineConfig};
use joust_reward::Scorer;
use joust_run::ExistingRun;
use joust_run::config::merge::Merged;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::output;
use crate::score_config::{ScoreRun, UNUSED};

pub(crate) mod bench;
pub(crate) mod data;
pub(crate) mod docs;
pub(crate) mod doctor;
pub(crate) mod dump;
pub(crate) mod generate;
pub(crate) mod judge;
pub(crate) mod logprobs;
pub(crate) mod quantize;
pub(crate) mod rate;
pub(crate) mod score;
pub(crate) mod serve;
pub(crate) mod sft;
pub(crate) mod train;

/// Config files and overrides, and whether to only look at them.
#[derive(Args)]
pub(crate) struct ConfigArgs {
    /// TOML files, merged left to right, and overrides like `trainer.steps=10`.
    #[arg(required = true, value_name = "CONFIG.toml|KEY=VALUE")]
    parts: Vec<String>,
    /// Prints the resolved config and stops.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl ConfigArgs {
    /// Reads the files and applies the overrides.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        Ok(self.merged()?.into_config()?)
    }

    fn merged(&self) -> Result<Merged, joust_run::Error> {
        // a file may have `=` in its name, a key has no `/` and does not end in `.toml`
        let is_override =
            |part: &&String| part.contains('=') && !std::path::Path::new(part).exists();
        let (overrides, files): (Vec<&String>, Vec<&String>) =
            self.parts.iter().partition(is_override);
        let files: Vec<PathBuf> = files.into_iter().map(PathBuf::from).collect();
        let overrides: Vec<String> = overrides.into_iter().cloned().collect();
        Merged::read(&files, &overrides)
    }

    /// Starts a scoring command: the valid config, with its threads set; none where it was only to be
    /// printed.
    pub(crate) fn start_scoring(&self) -> anyhow::Result<Option<ScoreRun>> {
        let config = self.read_scoring()?;
        config.validate()?;
        if self.dry_run {
            self.print(&config)?;
            return Ok(None);
        }
        config.run.set_threads();
        Ok(Some(config))
    }

    /// Reads a scoring config; sections of `joust train` that it has no use for are left out.
    fn read_scoring(&self) -> anyhow::Result<ScoreRun> {
        Ok(self.merged()?.without(&UNUSED).into_config()?)
    }

    /// Prints the resolved config.
    pub(crate) fn print<T: Serialize>(&self, config: &T) -> anyhow::Result<()> {
        output::line(toml::to_string(config)?.trim_end());
        Ok(())
    }
}

/// What to do with a run folder that exists already.
#[derive(Args)]
pub(crate) struct ExistingArgs {
    /// Goes on from the newest checkpoint; starts anew where there is none.
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

/// Makes the output folder and loads the judge, in this order: judging is dear, and a place that
/// cannot be written to is better known before.
pub(crate) fn open_scorer(config: &ScoreRun, output: &std::path::Path) -> anyhow::Result<Scorer> {
    std::fs::create_dir_all(output).map_err(|source| joust_schema::Error::io(output, source))?;
    Ok(Scorer::open(&config.reward, true)?)
}

/// Which model a command runs, and in what.
#[derive(Args)]
pub(crate) struct ModelArgs {
    /// Model folder (Hugging Face) or GGUF file.
    #[arg(long)]
    model: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
}

/// How a model is run.
#[derive(Args)]
pub(crate) struct EngineArgs {
    /// What the weights are kept and computed in.
    #[arg(long, default_value = "auto", value_parser = known(&["auto", "f32", "bf16"]))]
    dtype: String,
    /// Which matrices are FP8.
    #[arg(long, default_value = "auto", value_parser = known(&["auto", "off", "fp8", "fp8_with_head"]))]
    quantization: String,
    /// What keys and values are kept in.
    #[arg(long, default_value = "auto", value_parser = known(&["auto", "fp8"]))]
    kv_dtype: String,
    /// Where the model runs.
    #[arg(long, default_value = "auto", value_parser = known(&["auto", "cpu", "cuda"]))]
    device: String,
    /// Most samples that run at once.
    #[arg(long, default_value_t = 64)]
    max_batch: usize,
    /// Most tokens of prompt and sample together; 0 means the model's own limit.
    #[arg(long, default_value_t = 0)]
    max_context: usize,
    /// Most tokens that one step computes.
    #[arg(long, default_value_t = 2_048)]
    step_tokens: usize,
    /// Memory for keys and values, in MiB; 0 takes what they need, at most an eighth of the
    /// machine's, or what is left of a GPU's.
    #[arg(long, default_value_t = 0)]
    kv_memory_mib: usize,
    /// On a GPU, libtorch's own operations in place of the fused kernels.
    #[arg(long)]
    no_gpu_kernels: bool,
    /// On a GPU, decoding steps that are not recorded.
    #[arg(long)]
    no_cuda_graphs: bool,
    /// On a GPU, contexts that are read row by row, also where they begin alike.
    #[arg(long)]
    no_shared_attention: bool,
    /// On a GPU, most of a product's weights that are fetched before it, in MiB.
    #[arg(long, default_value_t = EngineConfig::default().fetch_ahead_mib)]
    fetch_ahead_mib: usize,
}

fn known(values: &'static [&'static str]) -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(values)
}

/// A setting by the name that config files have for it.
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
            // a file's prompts all wait from the start
            max_queue: usize::MAX,
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
