//! Training states on disk: a folder that other programs load, and the state for resuming.
//!
//! `checkpoints/step_00010/` holds the model in f32, so that no bit is lost, or its adapters in
//! PEFT's format; and `trainer_state/` the optimiser's running means, in a shard per rank that
//! torch loads too (`torch.distributed.checkpoint.HuggingFaceStorageReader`), the reference if it
//! is refreshed, and a JSON object of the caller. Any number of ranks goes on with it.

mod model_files;
mod shared_folder;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use joust_dist::Collectives;
use joust_engine::weights::{Shards, shard_name, write_shard};
use joust_engine::{Decoder, Tokenizer, folder, lora};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::dpo::DpoTrainer;
use crate::error::Error;
use crate::grpo::GrpoTrainer;
use crate::learner::Learner;
use crate::reference::{self, Reference};
use crate::sft::SftTrainer;
use shared_folder::write_together;

const STATE_DIR: &str = "trainer_state";
/// The running means in checkpoints of versions without shards.
const WHOLE_OPTIMIZER_FILE: &str = "optimizer.safetensors";
const STATE_FILE: &str = "state.json";
const REFERENCE_FILE: &str = "reference.safetensors";

/// Empty file in [`STATE_DIR`] of an interim checkpoint.
const INTERIM_FILE: &str = "interim";

/// What is kept of the checkpoints of a run.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Number of checkpoints that are kept, interim ones not counted. 0: all.
    pub keep_last: usize,
    /// Whether the new checkpoint is an interim one: it guards against a loss between two others,
    /// and is deleted once there is a newer one.
    pub is_interim: bool,
}

/// A trainer whose state can be saved and restored.
pub trait Trainer {
    /// The model with the weights that the optimiser changes. All ranks call it together.
    ///
    /// # Errors
    /// [`Error::Ranks`]
    fn master(&self) -> Result<Decoder, Error>;
    /// The processes that train together.
    fn ranks(&self) -> &Collectives;
    /// Number of updates made so far.
    fn n_updates(&self) -> u64;
    /// Number of values of the model's parameters.
    fn n_parameters(&self) -> usize;
    #[doc(hidden)]
    fn parts(&mut self) -> TrainerParts<'_>;
}

/// Gives this module access to what a training state holds of a trainer.
#[doc(hidden)]
pub struct TrainerParts<'a> {
    learner: &'a mut Learner,
    /// The reference, if it is refreshed.
    reference: Option<&'a Reference>,
}

impl<'a> TrainerParts<'a> {
    fn new(learner: &'a mut Learner, reference: Option<&'a Reference>) -> Self {
        Self { learner, reference: reference.filter(|reference| reference.is_refreshed()) }
    }
}

macro_rules! trainers {
    ($($trainer:ty: $trainer_value:ident => $reference:expr),*) => {$(
        impl Trainer for $trainer {
            fn master(&self) -> Result<Decoder, Error> {
                self.learner.master()
            }

            fn ranks(&self) -> &Collectives {
                &self.learner.ranks
            }

            fn n_updates(&self) -> u64 {
                self.learner.optimizer.n_updates()
            }

            fn n_parameters(&self) -> usize {
                self.learner.model().n_parameters()
            }

            fn parts(&mut self) -> TrainerParts<'_> {
                let $trainer_value = self;
                TrainerParts::new(&mut $trainer_value.learner, $reference)
            }
        }
    )*};
}

trainers!(
    GrpoTrainer: it => it.reference.as_ref(),
    SftTrainer: it => None,
    DpoTrainer: it => Some(&it.reference)
);

/// The folder of the checkpoint after `step`.
pub fn path(run_dir: &Path, step: u64) -> PathBuf {
    run_dir.join("checkpoints").join(format!("step_{step:05}"))
}

/// The newest complete checkpoint of a run, with its step.
///
/// # Errors
/// [`joust_schema::Error::Io`] where the folder cannot be listed.
pub fn latest(run_dir: &Path) -> Result<Option<(u64, PathBuf)>, Error> {
    Ok(list(run_dir)?.pop())
}

/// The newest complete checkpoint of a run before that of `step`, with its step.
///
/// # Errors
/// As [`latest`].
pub fn before(run_dir: &Path, step: u64) -> Result<Option<(u64, PathBuf)>, Error> {
    Ok(list(run_dir)?.into_iter().rfind(|(at, _)| *at < step))
}

fn list(run_dir: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let dir = run_dir.join("checkpoints");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let io = |source| joust_schema::Error::io(&dir, source);
    let mut checkpoints = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(step) = name.strip_prefix("step_").and_then(|step| step.parse().ok())
            && path.join(STATE_DIR).join(STATE_FILE).exists()
        {
            checkpoints.push((step, path));
        }
    }
    checkpoints.sort();
    Ok(checkpoints)
}

/// Writes a checkpoint, then deletes older ones: those beyond `retention`, and interim ones. `base`
/// is the path of the model that adapters belong to. All ranks call it together, and each writes
/// its part.
///
/// # Errors
/// [`Error::BadWeights`] for a model whose numbers are not finite: it is never saved.
/// [`Error::Engine`] and [`Error::Schema`] for files that cannot be written: nothing is left of the
/// new checkpoint then. Older checkpoints are deleted only after the new one is complete.
/// [`Error::Ranks`] where another rank has failed.
pub fn save<S: Serialize>(
    trainer: &mut impl Trainer,
    tokenizer: &Tokenizer,
    run_dir: &Path,
    step: u64,
    state: &S,
    retention: Retention,
    base: &Path,
) -> Result<PathBuf, Error> {
    let path = path(run_dir, step);
    let TrainerParts { learner, reference } = trainer.parts();
    learner.check_usable()?;
    let ranks = &learner.ranks;
    let (rank, is_first) = (ranks.world().rank, ranks.world().is_first());
    let reference = reference.map(|it| it.model.gathered(ranks)).transpose()?;
    write_together(ranks, &path, |dir| {
        match &learner.config.lora {
            None => model_files::write(dir, learner)?,
            Some(config) => {
                let model = learner.master()?;
                // PEFT looks for the base from wherever it is started
                let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
                if is_first {
                    lora::save(dir, &model, config, &base)?;
                }
            }
        }
        let state_dir = dir.join(STATE_DIR);
        let io = |source| joust_schema::Error::io(&state_dir, source);
        std::fs::create_dir_all(&state_dir).map_err(io)?;
        write_shard(&state_dir.join(shard_name(rank)), &learner.optimizer_pieces())?;
        if !is_first {
            return Ok(());
        }
        match learner.config.lora {
            Some(_) => tokenizer.save(dir)?,
            None => {
                let config = learner.model().config();
                folder::save_beside_weights(dir, config, model_files::KIND, tokenizer)?;
            }
        }
        if let Some(reference) = &reference {
            reference::save(reference, &state_dir.join(REFERENCE_FILE))?;
        }
        let text = serde_json::json!({
            "n_updates": learner.optimizer.n_updates(),
            "run": state,
        });
        if retention.is_interim {
            std::fs::write(state_dir.join(INTERIM_FILE), "").map_err(io)?;
        }
        std::fs::write(state_dir.join(STATE_FILE), format!("{text:#}\n")).map_err(io)?;
        Ok(())
    })?;
    if is_first {
        delete_old(run_dir, step, retention)?;
    }
    Ok(path)
}

/// Deletes what need not be kept beside the new checkpoint of `step`.
fn delete_old(run_dir: &Path, step: u64, retention: Retention) -> Result<(), Error> {
    let is_interim = |(_, path): &(u64, PathBuf)| path.join(STATE_DIR).join(INTERIM_FILE).exists();
    let (interim, regular): (Vec<_>, Vec<_>) = list(run_dir)?.into_iter().partition(is_interim);
    let n_old = match retention.keep_last {
        0 => 0,
        n_kept => regular.len().saturating_sub(n_kept),
    };
    let interim = interim.iter().filter(|(at, _)| *at != step);
    for (_, old) in regular[..n_old].iter().chain(interim) {
        std::fs::remove_dir_all(old).map_err(|source| joust_schema::Error::io(old, source))?;
    }
    Ok(())
}

/// Restores the optimiser of a trainer, its reference if that is refreshed, and its model's
/// adapters; a model without adapters was loaded from the same folder. Returns the caller's object.
///
/// # Errors
/// [`Error::Checkpoint`] names the file or tensor that does not fit.
pub fn restore<S: DeserializeOwned>(trainer: &mut impl Trainer, path: &Path) -> Result<S, Error> {
    let bad = |reason: String| Error::Checkpoint { path: path.to_owned(), reason };
    let state_dir = path.join(STATE_DIR);
    let state_path = state_dir.join(STATE_FILE);
    let text = std::fs::read_to_string(&state_path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::InvalidData => {
            bad(format!("{STATE_DIR}/{STATE_FILE}: {error}"))
        }
        _ => joust_schema::Error::io(&state_path, error).into(),
    })?;
    let mut state: Value =
        serde_json::from_str(&text).map_err(|error| bad(format!("{STATE_FILE}: {error}")))?;
    let n_updates = state["n_updates"]
        .as_u64()
        .ok_or_else(|| bad(format!("{STATE_FILE}: key `n_updates` is missing")))?;
    let means = match state_dir.join(WHOLE_OPTIMIZER_FILE) {
        whole if whole.exists() => Shards::open(&[whole])?,
        _ => Shards::open_folder(&state_dir)?,
    };
    if means.is_empty() {
        return Err(bad(format!("{STATE_DIR} has no shard of the optimiser")));
    }
    let TrainerParts { learner, reference } = trainer.parts();
    if let Some(reference) = reference {
        reference.restore(&state_dir.join(REFERENCE_FILE))?;
    }
    if learner.model().has_adapters() {
        learner.model().set_adapters(&lora::read(path)?)?;
    }
    learner.restore_optimizer(n_updates, &means).map_err(|error| match error {
        Error::Engine(joust_engine::Error::Tensor(_)) => error,
        error => bad(error.to_string()),
    })?;
    serde_json::from_value(state["run"].take())
        .map_err(|error| bad(format!("{STATE_FILE}: {error}")))
}

#[cfg(test)]
mod tests;
