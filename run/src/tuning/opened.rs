//! The model that a run on given texts begins with, and its examples: of a fresh run, or of the
//! newest checkpoint.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use joust_dist::Collectives;
use joust_engine::folder;
use joust_schema::seed::Seed;
use joust_trainer::{FirstWeights, LearnerConfig};
use tch::Device;

use super::course::{Course, FirstModel};
use super::settings::{TuningConfig, TuningSettings};
use crate::error::Error;
use crate::examples::Encoder;
use crate::run_folder::{RunFolder, RunStart};

/// What a run has before it has a trainer.
pub(super) struct Opened<L> {
    pub(super) model: FirstWeights,
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
        (seed, ranks): (Seed, &Collectives),
    ) -> Result<Self, Error> {
        let FirstModel { tokenizer, decoder } = course.first_model(seed)?;
        let tokenizer = course.tokenizer(&tokenizer)?;
        let lessons = course.rendered(&tokenizer)?;
        let model = decoder()?;
        let run = start.open_together(ranks)?;
        let newest = run.newest();
        Ok(Self { model, lessons, encoder: Encoder::new(tokenizer), run, newest })
    }

    /// A run that goes on: the model of its newest checkpoint, or the first one where it has none.
    pub(super) fn resumed<T: TuningConfig, C: Course<Lessons = L>>(
        settings: &TuningSettings<'_>,
        course: C,
        start: &RunStart<'_, T>,
        (seed, ranks): (Seed, &Collectives),
    ) -> Result<Self, Error> {
        let run = start.open_together(ranks)?;
        let newest = run.newest();
        let is_whole = newest.is_some() && settings.learner.lora.is_none();
        let of_checkpoint = |error| match is_whole {
            true => run.bad_checkpoint(error),
            false => error,
        };
        let first = match &newest {
            Some((_, path)) if is_whole => {
                open_model(path, settings.device.resolve()?, settings.learner)
            }
            // the checkpoint's adapters follow with the trainer's state
            _ => course.first_model(seed),
        };
        let FirstModel { tokenizer, decoder } = first.map_err(of_checkpoint)?;
        let tokenizer = course.tokenizer(&tokenizer)?;
        let lessons = course.rendered(&tokenizer)?;
        let model = decoder().map_err(of_checkpoint)?;
        Ok(Self { model, lessons, encoder: Encoder::new(tokenizer), run, newest })
    }
}

/// A model with the weights that training wants.
pub(crate) fn open_model(
    path: &Path,
    device: Device,
    learner: &LearnerConfig,
) -> Result<FirstModel, Error> {
    let files = folder::open(path)?;
    let tokenizer = files.tokenizer.clone();
    let kind = learner.number_formats(device).weights;
    let has_adapters = learner.lora.is_some();
    let decoder = move || match has_adapters {
        true => Ok(files.decoder(device, kind)?.into()),
        false => Ok(FirstWeights::of_files(Rc::new(files), device)?),
    };
    Ok(FirstModel { tokenizer, decoder: Box::new(decoder) })
}
