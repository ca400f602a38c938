//! Supervised fine-tuning, from a model or from nothing: what `joust sft` learns from.

use std::path::Path;
use std::sync::Arc;

use joust_dist::Collectives;
use joust_engine::Tokenizer;
use joust_engine::model::Decoder;
use joust_schema::seed::Seed;
use joust_trainer::{FirstWeights, Metrics, SftExample, SftTrainer, ShardStage};
use tch::Kind;

use crate::config::sft::SftRun;
use crate::error::Error;
use crate::examples::{Encoder, ExampleFile, ExampleSource, ExampleTexts, LearnedText};
use crate::inputs::InputPath;
use crate::observer::Observer;
use crate::run_folder::ExistingRun;
use crate::stop::StopSwitch;
use crate::tuning::finished::FinishedTuning;
use crate::tuning::{self, Course, FirstModel, Lessons, TuningConfig, TuningSettings, open_model};

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
    let course = || {
        let source = ExampleSource::open(&config.data)?;
        let held_out = ExampleFile::held_out(&config.eval, &config.data)?;
        Ok(FineTuning { config, source, held_out })
    };
    tuning::run(config, course, existing, stop, observer)
}

/// Examples of which completions or turns are learned.
struct FineTuning<'a> {
    config: &'a SftRun,
    source: ExampleSource,
    held_out: Option<ExampleFile>,
}

impl TuningConfig for SftRun {
    fn problems(&self) -> Vec<String> {
        self.problems()
    }

    fn inputs(&self) -> Vec<InputPath> {
        self.inputs()
    }

    fn settings(&self) -> TuningSettings<'_> {
        TuningSettings {
            run: &self.run,
            eval: &self.eval,
            checkpoint: &self.checkpoint,
            export: &self.export,
            device: self.model.device,
            base: self.model.path.as_deref().unwrap_or(Path::new("")),
            learner: &self.trainer.learner,
            length: self.trainer.length(),
            batch_size: self.trainer.batch_size,
        }
    }
}

impl<'a> Course for FineTuning<'a> {
    type Lessons = SftLessons<'a>;

    fn n_examples(&self) -> Option<u64> {
        self.source.n_examples()
    }

    fn first_model(&self, seed: Seed) -> Result<FirstModel, Error> {
        first_model(self.config, &self.source, seed)
    }

    fn tokenizer(&self, tokenizer: &Tokenizer) -> Result<Tokenizer, Error> {
        self.config.data.template_settings().tokenizer(tokenizer)
    }

    fn rendered(self, tokenizer: &Tokenizer) -> Result<SftLessons<'a>, Error> {
        let Self { config, source, held_out } = self;
        let texts = source.rendered(tokenizer)?;
        let held_out = held_out.map(|file| file.texts(tokenizer)).transpose()?;
        Ok(SftLessons { config, texts, held_out: held_out.unwrap_or_default() })
    }
}

/// The same examples as a model reads them.
struct SftLessons<'a> {
    config: &'a SftRun,
    texts: ExampleTexts,
    held_out: Vec<LearnedText>,
}

impl Lessons for SftLessons<'_> {
    type Example = SftExample;
    type Trainer = SftTrainer;

    const WANTED: &'static str =
        "wanted a prompt, a completion, and together at most trainer.max_length tokens";

    const SEQUENCES: usize = 1;
    const HAS_REFERENCE: bool = false;

    fn has_chats(&self) -> bool {
        self.texts.has_chats()
    }

    fn trainer(
        &self,
        model: FirstWeights,
        n_steps: u64,
        (ranks, shard): (Arc<Collectives>, ShardStage),
    ) -> Result<SftTrainer, Error> {
        let mut config = self.config.trainer.clone();
        config.learner.shard = shard;
        Ok(SftTrainer::new(model, &config, n_steps, ranks)?)
    }

    fn example(&self, encoder: &Encoder, seed: Seed, idx: u64) -> Result<SftExample, Error> {
        self.texts.example(encoder, seed, idx)
    }

    fn held_out(&self, encoder: &Encoder) -> Result<Vec<SftExample>, Error> {
        self.held_out.iter().map(|text| encoder.example(text)).collect()
    }

    fn learn(
        trainer: &mut SftTrainer,
        examples: &[SftExample],
        place: u64,
    ) -> Result<Metrics, Error> {
        Ok(trainer.step(examples, place)?)
    }

    fn evaluate(trainer: &SftTrainer, examples: &[SftExample]) -> Result<Metrics, Error> {
        Ok(trainer.evaluate(examples)?)
    }

    fn fits(trainer: &SftTrainer, example: &SftExample) -> bool {
        trainer.fits(example)
    }
}

/// The first model: an existing one, or a fresh one with a fresh tokenizer.
fn first_model(config: &SftRun, source: &ExampleSource, seed: Seed) -> Result<FirstModel, Error> {
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
    let template = config.data.template_settings().tokenizer(&template)?;
    let texts = (0..n_examples)
        .map(|idx| source.text(&template, seed_of_texts, idx))
        .collect::<Result<Vec<_>, Error>>()?;
    let tokenizer = joust_engine::tokenizer::train::bpe(texts.into_iter(), &fresh.bpe)?;
    let model_config = new.config(&tokenizer);
    let device = section.device.resolve()?;
    let random = move || {
        Ok(Decoder::random(&model_config, seed.child("model", 0), device, Kind::Float).into())
    };
    Ok(FirstModel { tokenizer, decoder: Box::new(random) })
}
