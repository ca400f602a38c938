//! The model that a run on given texts begins with, and its examples: of a fresh run, or of the
//! newest checkpoint.

use std::path::{Path, PathBuf};

use joust_engine::model::Decoder;
use joust_engine::{Tokenizer, folder};
use joust_schema::seed::Seed;
use joust_trainer::LearnerConfig;
use tch::Device;

use super::course::Course;
use super::settings::{TuningConfig, TuningSettings};
use crate::error::Error;
use crate::examples::Encoder;
use crate::run_folder::{RunFolder, RunStart};

/// What a run has before it has a trainer.
pub(super) struct Opened<L> {
    pub(super) model: Decoder,
    pub(super) lessons: L,
    pub(super) encoder: Encoder,
    pub(super) run: RunFolder,
    /// Step and folder of the newest checkpoint, if there is one.
    pub(super) newest: Option<(u64, PathBuf)>,
}

impl<L> Opened<L> {
    /// A fresh run. Its folder is touched last: `--clean` deletes nothing for a model that cannot
    /// be made, or for examples that cannot be learned.
    pub(super) fn fresh<T: TuningConfig, C: Course<Lessons = L>>(
        course: C,
        start: &RunStart<'_, T>,
        seed: Seed,
    ) -> Result<Self, Error> {
        let (model, tokenizer) = course.first_model(seed)?;
        let tokenizer = course.tokenizer(&tokenizer)?;
        let lessons = course.rendered(&tokenizer)?;
        let run = start.open()?;
        let newest = run.rewind_to_newest()?;
        Ok(Self { model, lessons, encoder: Encoder::new(tokenizer), run, newest })
    }

    /// A run that goes on: the model of its newest checkpoint, or the first one where it has none.
    pub(super) fn resumed<T: TuningConfig, C: Course<Lessons = L>>(
        settings: &TuningSettings<'_>,
        course: C,
        start: &RunStart<'_, T>,
        seed: Seed,
    ) -> Result<Self, Error> {
        let run = start.open()?;
        let newest = run.rewind_to_newest()?;
        let (model, tokenizer) = match &newest {
            Some((_, path)) if settings.learner.lora.is_none() => {
                let opened = open_model(path, settings.device.resolve()?, settings.learner);
                opened.map_err(|error| run.bad_checkpoint(error))?
            }
            // the checkpoint's adapters follow with the trainer's state
            _ => course.first_model(seed)?,
        };
        let tokenizer = course.tokenizer(&tokenizer)?;
        let lessons = course.rendered(&tokenizer)?;
        Ok(Self { model, lessons, encoder: Encoder::new(tokenizer), run, newest })
    }
}

/// A model with the weights that training wants, and its tokenizer.
pub(crate) fn open_model(
    path: &Path,
    device: Device,
    learner: &LearnerConfig,
) -> Result<(Decoder, Tokenizer), Error> {
    let files = folder::open(path)?;
    let model = files.decoder(device, learner.number_formats(device).weights)?;
    Ok((model, files.tokenizer))
}
