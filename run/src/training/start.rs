//! From a config to a run that is ready for its next step: a fresh run or a resumed one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use joust_dist::Collectives;
use joust_engine::KvDType;
use joust_engine::folder::{self, ModelFiles};
use joust_reward::PartScorer;
use joust_rollout::{PromptNeeds, PromptSource};
use joust_schema::ids::PolicyVersion;
use joust_schema::seed::Seed;
use joust_trainer::objective::SamplerNumbers;
use joust_trainer::{FirstWeights, GrpoTrainer, checkpoint};
use tch::{Device, Kind};

use super::ahead::AheadSource;
use super::collector::Collector;
use super::evaluation::{Evaluation, check_answers};
use super::sampling;
use super::state::TrainingState;
use super::step_loop::Training;
use super::step_source::StepSource;
use crate::checkpoints::CheckpointClock;
use crate::config::train::TrainRun;
use crate::counted::counted;
use crate::error::Error;
use crate::export::Export;
use crate::memory;
use crate::observer::{Event, Observer};
use crate::places;
use crate::ranks::{self, JudgingRanks};
use crate::run_folder::{ExistingRun, RunStart};
use crate::stop::StopSwitch;

/// Opens all that the run needs. Unusable files are errors before the run's folder is touched.
/// What happens is told to `observer`.
///
/// # Errors
/// [`Error::Input`] for a config that makes no sense, for prompts that lack the answers that the
/// reward is made of, and for a folder that cannot be used; the stages' errors for their files.
pub fn start<'a>(
    config: TrainRun,
    existing: ExistingRun,
    stop: &StopSwitch,
    observer: &'a mut dyn Observer,
) -> Result<Training<'a>, Error> {
    config.validate()?;
    config.run.set_threads();
    let (device, ranks) = ranks::join(config.policy.device, &config.run.ranks, stop)?;
    let opened = open(config, existing, stop, observer, (device, Arc::clone(&ranks)));
    opened.map_err(|error| ranks::tell(&ranks, error))
}

fn open<'a>(
    config: TrainRun,
    existing: ExistingRun,
    stop: &StopSwitch,
    observer: &'a mut dyn Observer,
    (device, ranks): (Device, Arc<Collectives>),
) -> Result<Training<'a>, Error> {
    let config = Arc::new(config);
    let inputs = config.inputs();
    let start = RunStart::new(&config.run, &*config, &inputs, existing)?;
    start.check(&ranks)?;
    let mut observer = ranks.world().is_first().then_some(observer);
    places::check_inputs(&config.run.dir(), &inputs)?;
    let run_dir = config.run.dir();
    Export { section: &config.export, run_dir: &run_dir, inputs: &inputs }.check()?;
    let seed = Seed::new(config.run.seed);
    let needs =
        PromptNeeds { purpose: config.reward.prompt_use(), keeps_rows: config.reward.reads_rows() };
    let mut prompts = PromptSource::open(&config.prompts, needs, seed.child("prompts", 0))
        .map_err(|error| Error::in_prompts_of("prompts.path", error))?;
    if config.needs_answers() {
        check_answers(&config.prompts, prompts.rows())?;
    }
    let n_steps = config.n_steps(prompts.rows().len());
    if let Some(problem) = config.schedule_problem(n_steps) {
        return Err(Error::input(format!("config: {problem}")));
    }
    if let Some(step) = start.newest_step(&ranks)?.filter(|step| *step > n_steps) {
        return Err(Error::input(format!(
            "config: the run has {} (train.steps, prompts.epochs), and its checkpoint has made \
             {step} already; wanted at least as many",
            counted(n_steps, "step")
        )));
    }
    let evaluation = Evaluation::open(&config)?;
    let files = folder::open(&config.policy.path)?;
    let shard = memory::shard(&config, &files.config, &ranks)?;
    let mut trainer_config = config.trainer.clone();
    trainer_config.learner.shard = shard;
    let learner = &trainer_config.learner;
    let files = Rc::new(files);
    // with adapters, the policy shares the weights of the reference
    let weights = learner.number_formats(device).weights;
    let origin = learner.lora.is_some().then(|| files.decoder(device, weights)).transpose()?;
    let first_policy = || -> Result<FirstWeights, Error> {
        let Some(origin) = &origin else { return in_files(&files, device) };
        let mut policy = origin.shared();
        learner.attach_adapters(&mut policy, seed.child("adapters", 0));
        Ok(policy.into())
    };
    // a large judge takes a while to load
    let collecting_ranks = match config.train.ahead {
        0 => Arc::clone(&ranks),
        _ => ranks::join_beside(&ranks, &config.run.ranks)?,
    };
    let pool = Arc::new(JudgingRanks(Arc::clone(&collecting_ranks)));
    let scorer = PartScorer::open(&config.reward)?.among(pool);

    let with_sampler = |policy: FirstWeights| {
        let reference = || match &origin {
            Some(origin) => Ok(origin.shared().into()),
            None => in_files(&files, device),
        };
        let reference = config.trainer.has_reference().then(reference).transpose()?;
        let numbers = sampler_numbers(&config, &policy)?;
        let (trainer, of_trainer) = (&trainer_config, Arc::clone(&ranks));
        let mut trainer =
            GrpoTrainer::new(policy, reference, trainer, n_steps, numbers, of_trainer)?;
        let policy = trainer.publish_in(sampling::precision(&config, device)?)?;
        let sampler = sampling::open(&config, &policy, &files, &ranks, stop)?;
        Ok::<_, Error>((trainer, sampler))
    };
    // engines that do not fit into memory and wrong servers leave the folder as it is, too
    let fresh = match start.resumes() {
        true => None,
        false => Some(with_sampler(first_policy()?)?),
    };
    let run = start.open_together(&ranks)?;
    let found = run.newest();
    let (mut trainer, mut sampler) = match (&found, fresh) {
        (Some((_, path)), _) if learner.lora.is_none() => {
            let open = || in_files(&Rc::new(folder::open(path)?), device);
            with_sampler(open().map_err(|error| run.bad_checkpoint(error))?)?
        }
        (None, Some(fresh)) => fresh,
        // the checkpoint's adapters follow with the trainer's state
        _ => with_sampler(first_policy()?)?,
    };
    let state = match &found {
        Some((step, path)) => {
            let state: TrainingState = checkpoint::restore(&mut trainer, path)
                .map_err(|error| run.bad_checkpoint(error.into()))?;
            prompts.seek(state.cursor)?;
            if state.unevaluated.is_some() {
                // a start before this one may have written the line that is still to come
                if let Some(log) = run.metrics_log() {
                    log.forget_from(state.step)?;
                }
            }
            observer.observe(Event::Resumed { step: *step, changes: &run.changes() })?;
            state
        }
        None => TrainingState::default(),
    };
    let version = PolicyVersion(trainer.n_updates() as i64);
    // engines with weights of their own were made before a checkpoint's adapters came
    let lacks_adapters = found.is_some() && trainer.policy().has_adapters();
    if lacks_adapters || config.rollout.kind.is_servers() {
        sampling::publish(&mut *sampler, &trainer.published()?, version, &ranks)?;
    }
    let sampled_by = sampling::name(&config);
    observer.observe(Event::TrainingReady {
        n_parameters: trainer.policy().n_parameters(),
        n_prompts: prompts.rows().len(),
        sampler: sampled_by.as_deref(),
        judge: scorer.judge_name(),
        run_dir: run.dir(),
    })?;
    let is_last = prompts.is_exhausted();
    let collector = Collector {
        config: Arc::clone(&config),
        ranks: collecting_ranks,
        seed,
        prompts,
        sampler,
        scorer,
        evaluation,
        stop: stop.clone(),
        abandoned: None,
        version,
        has_sampled: state.num_tokens > 0,
    };
    let source: Box<dyn StepSource> = match config.train.ahead {
        0 => Box::new(collector),
        ahead => Box::new(AheadSource::spawn(collector, ahead, (state.step, n_steps))?),
    };
    Ok(Training {
        stop: stop.clone(),
        ranks,
        observer: (run.metrics_log(), observer),
        n_steps,
        inputs,
        checkpoints: CheckpointClock::new(&config.checkpoint, Instant::now()),
        is_saved: true,
        config,
        run,
        seed,
        tokenizer: files.tokenizer.clone(),
        source,
        trainer,
        is_last,
        state,
        last_groups: Vec::new(),
    })
}

/// A model in files, which the trainer reads.
fn in_files(files: &Rc<ModelFiles>, device: Device) -> Result<FirstWeights, Error> {
    Ok(FirstWeights::of_files(Rc::clone(files), device)?)
}

/// Whether completions are sampled in the number format that training computes in, from the policy
/// that they train; servers compute otherwise in any case. Where `top_p` or `top_k` filter,
/// probabilities differ by more than numbers do, and the formats do not matter.
fn sampler_numbers(config: &TrainRun, policy: &FirstWeights) -> Result<SamplerNumbers, Error> {
    let rollout = &config.rollout;
    let is_filtered = rollout.top_p < 1.0 || rollout.top_k > 0;
    let is_same = !rollout.kind.is_servers()
        && config.train.ahead == 0
        && policy.kind() != Kind::BFloat16
        && sampling::precision(config, policy.device())? == policy.kind().into()
        && config.trainer.learner.compute_kind(policy) == policy.kind()
        && rollout.engine.kv_dtype == KvDType::Auto;
    Ok(if is_same || is_filtered { SamplerNumbers::Same } else { SamplerNumbers::Other })
}
