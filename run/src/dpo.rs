//! Preference optimisation: what `joust dpo` learns from.

use std::path::Path;

use joust_engine::model::Decoder;
use joust_engine::{Tokenizer, folder};
use joust_schema::seed::Seed;
use joust_trainer::{DpoPair, DpoTrainer, LearnerConfig, Metrics};
use tch::Device;

use crate::config::dpo::DpoRun;
use crate::config::sft::ExportSection;
use crate::config::{CheckpointSection, RunSection};
use crate::error::Error;
use crate::examples::{Encoder, PairSource};
use crate::inputs::InputPath;
use crate::observer::Observer;
use crate::run_folder::ExistingRun;
use crate::stop::StopSwitch;
use crate::tuning::{self, Course, FinishedTuning, TuningConfig, open_model};

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
    let course = || Ok(PreferenceTuning { config, source: PairSource::open(&config.data)? });
    tuning::run(config, course, existing, stop, observer)
}

/// Pairs of completions, of which one is preferred.
struct PreferenceTuning<'a> {
    config: &'a DpoRun,
    source: PairSource,
}

impl TuningConfig for DpoRun {
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
        &self.model.path
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

impl Course for PreferenceTuning<'_> {
    type Example = DpoPair;
    type Trainer = DpoTrainer;

    const WANTED: &'static str = "wanted a prompt, two completions that differ, and each of them \
                                  with the prompt at most trainer.max_length tokens";

    fn first_model(&self, _seed: Seed) -> Result<(Decoder, Tokenizer), Error> {
        open_model(&self.config.model.path, self.config.device()?, self.config.learner())
    }

    fn tokenizer(&self, tokenizer: &Tokenizer) -> Result<Tokenizer, Error> {
        self.config.data.tokenizer(tokenizer)
    }

    fn check(&self, tokenizer: &Tokenizer) -> Result<(), Error> {
        self.source.check(tokenizer)
    }

    fn n_examples(&self) -> Option<u64> {
        Some(self.source.n_pairs())
    }

    fn has_chats(&self) -> bool {
        self.source.has_chats()
    }

    fn trainer(&self, model: Decoder) -> Result<DpoTrainer, Error> {
        let reference = match &self.config.model.reference {
            None if model.has_adapters() => model.without_adapters(),
            _ => {
                let compute = self.config.trainer.learner.compute_kind(&model);
                let files = folder::open(self.config.model.reference())?;
                files.decoder(self.config.device()?, compute)?
            }
        };
        Ok(DpoTrainer::new(model, reference, &self.config.trainer)?)
    }

    fn example(&self, encoder: &Encoder, seed: Seed, idx: u64) -> Result<DpoPair, Error> {
        let pair = self.source.pair(encoder.tokenizer(), seed, idx)?;
        let (chosen, rejected) = (encoder.encode(&pair.chosen)?, encoder.encode(&pair.rejected)?);
        let prompt = chosen.prompt;
        Ok(DpoPair { prompt, chosen: chosen.completion, rejected: rejected.completion })
    }

    fn learn(trainer: &mut DpoTrainer, pairs: &[DpoPair], place: u64) -> Result<Metrics, Error> {
        Ok(trainer.step(pairs, place)?)
    }
}
