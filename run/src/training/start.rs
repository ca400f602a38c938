//! From a config to a run that is ready for its next step: a fresh run or a resumed one.

use std::sync::Arc;

use joust_engine::model::Decoder;
use joust_engine::{Engine, folder};
use joust_reward::Scorer;
use joust_rollout::{PromptSource, RolloutWorkers};
use joust_schema::seed::Seed;
use joust_trainer::{GrpoTrainer, checkpoint};
use tch::Kind;

use super::evaluation::Evaluation;
use super::state::TrainingState;
use super::step_loop::Training;
use crate::config::train::TrainRun;
use crate::error::Error;
use crate::export;
use crate::observer::{Event, Observer};
use crate::run_folder::{ExistingRun, RunFolder};

/// Opens all that the run needs. Unusable files are errors before the run's folder is touched.
///
/// # Errors
/// [`Error::Input`] for a config that makes no sense, the stages' errors for their files.
pub fn start(
    config: TrainRun,
    existing: ExistingRun,
    observer: &mut dyn Observer,
) -> Result<Training, Error> {
    config.validate()?;
    config.run.set_threads();
    export::check(&config.export)?;
    let seed = Seed::new(config.run.seed);
    let mut prompts = PromptSource::open(&config.prompts, seed.child("prompts", 0))?;
    let evaluation = Evaluation::open(&config)?;
    let device = config.policy.device.resolve()?;
    let files = folder::open(&config.policy.path)?;
    let origin = files.decoder(device, Kind::Float)?;
    // a large judge takes a while to load
    let scorer = Scorer::open(&config.reward, false)?;

    let run = RunFolder::open(&config.run, &config, existing)?;
    let found = run.rewind_to_newest(existing)?;
    let policy = match &found {
        Some((_, path)) => {
            let files = folder::open(path)?;
            files.decoder(device, Kind::Float)?
        }
        None => origin.duplicate(device, Kind::Float)?,
    };
    let engines = engines(&config, &policy, &files.tokenizer)?;
    let workers = RolloutWorkers::spawn(engines, &config.rollout)?;
    let reference = (config.trainer.beta > 0.0).then_some(origin);
    let mut trainer = GrpoTrainer::new(policy, reference, &config.trainer, config.train.steps)?;
    let state = match &found {
        Some((step, path)) => {
            let state: TrainingState = checkpoint::restore(&mut trainer, path)?;
            prompts.seek(state.cursor)?;
            observer.observe(Event::Resumed { step: *step });
            state
        }
        None => TrainingState::default(),
    };
    observer.observe(Event::TrainingReady {
        n_parameters: trainer.model().n_parameters(),
        n_prompts: prompts.rows().len(),
        judge: scorer.judge_name(),
        run_dir: run.dir(),
    });
    Ok(Training {
        config,
        run,
        seed,
        tokenizer: files.tokenizer,
        prompts,
        workers,
        scorer,
        trainer,
        evaluation,
        state,
        last_groups: Vec::new(),
    })
}

/// One engine per worker. Engines that compute in the policy's number format share its weights.
fn engines(
    config: &TrainRun,
    policy: &Decoder,
    tokenizer: &joust_engine::Tokenizer,
) -> Result<Vec<Engine>, Error> {
    let settings = &config.rollout.engine;
    let precision = settings.quantization.resolve(policy.device(), settings.dtype, false)?;
    let tokenizer = Arc::new(tokenizer.clone());
    let engine = |_| {
        // no worker samples while the trainer changes the weights, so one copy serves both
        let weights = match precision == policy.kind().into() {
            true => policy.shared(),
            false => policy.duplicate(policy.device(), precision)?,
        };
        Ok(Engine::new(weights, Arc::clone(&tokenizer), settings)?)
    };
    (0..config.rollout.workers).map(engine).collect()
}
