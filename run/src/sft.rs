//! Supervised fine-tuning, from a model or from nothing: what `joust sft` learns from.

use std::path::Path;

use joust_engine::Tokenizer;
use joust_engine::model::Decoder;
use joust_schema::seed::Seed;
use joust_trainer::{LearnerConfig, Metrics, SftExample, SftTrainer};
use tch::{Device, Kind};

use crate::config::sft::{ExportSection, SftRun};
use crate::config::{CheckpointSection, RunSection};
use crate::error::Error;
use crate::examples::{EncodedExample, Encoder, ExampleSource};
use crate::inputs::InputPath;
use crate::observer::Observer;
use crate::run_folder::ExistingRun;
use crate::stop::StopSwitch;
use crate::tuning::{self, Course, FinishedTuning, TuningConfig, open_model};

/// Runs supervised fine-tuning to its last step, or to the end of the step in which it is asked to
/// stop.
///
/// # Errors
/// [`Error::Input`] for unusable configs or data; the trainer's errors.
pub fn run(
    config: &SftRun,
    existing: ExistingRun,
    stop: &StopSwitch,
    observer: &mut dyn Observer,
) -> Result<FinishedTuning, Error> {
    let course = || Ok(FineTuning { config, source: ExampleSource::open(&config.data)? });
    tuning::run(config, course, existing, stop, observer)
}

/// Examples whose completions are learned.
struct FineTuning<'a> {
    config: &'a SftRun,
    source: ExampleSource,
}

impl TuningConfig for SftRun {
    fn validate(&self) -> Result<(), Error> {
        self.validate()
    }

    fn run(&self) -> &RunSection {
        &self.run
    }

    fn checkpoint(&self) -> &CheckpointSection {
        &self.checkpoint
    }

    fn export(&self) -> &ExportSection {
        &self.export
    }

    fn inputs(&self) -> Vec<InputPath> {
        self.inputs()
    }

    fn device(&self) -> Result<Device, Error> {
        Ok(self.model.device.resolve()?)
    }

    fn base(&self) -> &Path {
        self.model.path.as_deref().unwrap_or(Path::new(""))
    }

    fn learner(&self) -> &LearnerConfig {
        &self.trainer.learner
    }

    fn n_steps(&self) -> u64 {
        self.trainer.steps
    }

    fn batch_size(&self) -> usize {
        self.trainer.batch_size
    }
}

impl Course for FineTuning<'_> {
    type Example = SftExample;
    type Trainer = SftTrainer;

    const WANTED: &'static str =
        "wanted a prompt, a completion, and together at most trainer.max_length tokens";

    fn first_model(&self, seed: Seed) -> Result<(Decoder, Tokenizer), Error> {
        first_model(self.config, &self.source, seed)
    }

    fn tokenizer(&self, tokenizer: &Tokenizer) -> Result<Tokenizer, Error> {
        self.config.data.tokenizer(tokenizer)
    }

    fn check(&self, tokenizer: &Tokenizer) -> Result<(), Error> {
        self.source.check(tokenizer)
    }

    fn n_examples(&self) -> Option<u64> {
        self.source.n_examples()
    }

    fn has_chats(&self) -> bool {
        self.source.has_chats()
    }

    fn trainer(&self, model: Decoder) -> Result<SftTrainer, Error> {
        Ok(SftTrainer::new(model, &self.config.trainer)?)
    }

    fn example(&self, encoder: &Encoder, seed: Seed, idx: u64) -> Result<SftExample, Error> {
        let example = self.source.example(encoder.tokenizer(), seed, idx)?;
        let EncodedExample { prompt, completion } = encoder.encode(&example)?;
        Ok(SftExample { prompt, completion })
    }

    fn learn(
        trainer: &mut SftTrainer,
        examples: &[SftExample],
        place: u64,
    ) -> Result<Metrics, Error> {
        Ok(trainer.step(examples, place)?)
    }
}

/// The first model: an existing one, or a fresh one with a fresh tokenizer.
fn first_model(
    config: &SftRun,
    source: &ExampleSource,
    seed: Seed,
) -> Result<(Decoder, Tokenizer), Error> {
    let section = &config.model;
    if let Some(path) = &section.path {
        return open_model(path, section.device.resolve()?, &config.trainer.learner);
    }
    let missing =
        |key: &str| Error::input(format!("key `model.{key}` is missing for a fresh model"));
    let new = section.new.as_ref().ok_or_else(|| missing("new"))?;
    let fresh = section.tokenizer.as_ref().ok_or_else(|| missing("tokenizer"))?;
    let n_examples = fresh.n_examples as u64;
    let seed_of_texts = seed.child("tokenizer", 0);
    // a tokenizer without merges renders the prompts by the chat template; the final one is trained
    // on the rendered texts
    let template = joust_engine::tokenizer::train::bpe(std::iter::empty(), &fresh.bpe)?;
    let template = config.data.tokenizer(&template)?;
    let texts = (0..n_examples)
        .map(|idx| {
            let example = source.example(&template, seed_of_texts, idx)?;
            Ok(example.prompt + &example.completion)
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let tokenizer = joust_engine::tokenizer::train::bpe(texts.into_iter(), &fresh.bpe)?;
    let model_config = new.config(&tokenizer);
    let device = section.device.resolve()?;
    let model = Decoder::random(&model_config, seed.child("model", 0), device, Kind::Float);
    Ok((model, tokenizer))
}
