//! Preference optimisation: what `joust dpo` learns from.

use std::rc::Rc;
use std::sync::Arc;

use joust_dist::Collectives;
use joust_engine::{Tokenizer, folder};
use joust_schema::seed::Seed;
use joust_trainer::{DpoPair, DpoTrainer, FirstWeights, Metrics, ShardStage};

use crate::config::dpo::{DpoModelSection, DpoRun};
use crate::error::Error;
use crate::examples::{Encoder, PairOfExamples, PairSource, PairTexts};
use crate::inputs::InputPath;
use crate::observer::Observer;
use crate::run_folder::ExistingRun;
use crate::stop::StopSwitch;
use crate::tuning::finished::FinishedTuning;
use crate::tuning::{self, Course, FirstModel, Lessons, TuningConfig, TuningSettings, open_model};

/// Runs preference optimisation to its last step, or to the end of the step in which it is asked to
/// stop.
///
/// # Errors
/// [`Error::Input`] for unusable configs or data; the trainer's errors.
pub fn run(
    config: &DpoRun,
    existing: ExistingRun,
    stop: &StopSwitch,
    observer: &mut dyn Observer,
) -> Result<FinishedTuning, Error> {
    let course =
        || Ok(PreferenceTuning { config, source: PairSource::open(&config.data, &config.eval)? });
    tuning::run(config, course, existing, stop, observer)
}

/// Pairs of completions, of which one is preferred.
struct PreferenceTuning<'a> {
    config: &'a DpoRun,
    source: PairSource,
}

impl TuningConfig for DpoRun {
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
            base: &self.model.path,
            learner: &self.trainer.learner,
            length: self.trainer.length(),
            batch_size: self.trainer.batch_size,
        }
    }
}

impl<'a> Course for PreferenceTuning<'a> {
    type Lessons = DpoLessons<'a>;

    fn n_examples(&self) -> Option<u64> {
        Some(self.source.n_pairs())
    }

    fn first_model(&self, _seed: Seed) -> Result<FirstModel, Error> {
        let DpoModelSection { path, device, .. } = &self.config.model;
        open_model(path, device.resolve()?, &self.config.trainer.learner)
    }

    fn tokenizer(&self, tokenizer: &Tokenizer) -> Result<Tokenizer, Error> {
        self.config.data.template_settings().tokenizer(tokenizer)
    }

    fn rendered(self, tokenizer: &Tokenizer) -> Result<DpoLessons<'a>, Error> {
        let Self { config, source } = self;
        let (texts, held_out) = source.rendered(tokenizer)?;
        Ok(DpoLessons { config, texts, held_out })
    }
}

/// The same pairs as a model reads them.
struct DpoLessons<'a> {
    config: &'a DpoRun,
    texts: PairTexts,
    held_out: Vec<PairOfExamples>,
}

impl Lessons for DpoLessons<'_> {
    type Example = DpoPair;
    type Trainer = DpoTrainer;

    const WANTED: &'static str = "wanted a prompt, two completions that differ, and each of them \
                                  with the prompt at most trainer.max_length tokens";

    const SEQUENCES: usize = 2;
    const HAS_REFERENCE: bool = true;

    fn has_chats(&self) -> bool {
        self.texts.has_chats()
    }

    fn trainer(
        &self,
        model: FirstWeights,
        n_steps: u64,
        (ranks, shard): (Arc<Collectives>, ShardStage),
    ) -> Result<DpoTrainer, Error> {
        let DpoRun { model: section, trainer: config, .. } = self.config;
        let reference = match (&section.reference, &model) {
            (None, FirstWeights::Loaded(model)) if model.has_adapters() => {
                model.without_adapters().into()
            }
            _ => {
                let files = Rc::new(folder::open(section.reference())?);
                FirstWeights::of_files(files, section.device.resolve()?)?
            }
        };
        let mut config = config.clone();
        config.learner.shard = shard;
        Ok(DpoTrainer::new(model, reference, &config, n_steps, ranks)?)
    }

    fn example(&self, encoder: &Encoder, seed: Seed, idx: u64) -> Result<DpoPair, Error> {
        encoder.pair(self.texts.pair(seed, idx))
    }

    fn held_out(&self, encoder: &Encoder) -> Result<Vec<DpoPair>, Error> {
        self.held_out.iter().map(|pair| encoder.pair(pair)).collect()
    }

    fn learn(trainer: &mut DpoTrainer, pairs: &[DpoPair], place: u64) -> Result<Metrics, Error> {
        Ok(trainer.step(pairs, place)?)
    }

    fn evaluate(trainer: &DpoTrainer, pairs: &[DpoPair]) -> Result<Metrics, Error> {
        Ok(trainer.evaluate(pairs)?)
    }

    fn fits(trainer: &DpoTrainer, pair: &DpoPair) -> bool {
        trainer.fits(pair)
    }
}
