//! Runs that learn from given texts: the loop that `joust sft` and `joust dpo` share.
//!
//! What an example is, and how a model learns from it, is not known here: that is a [`Course`] and
//! its [`Lessons`].

mod course;
pub(crate) mod finished;
mod opened;
mod settings;

use std::sync::Arc;
use std::time::Instant;

use joust_dist::Collectives;
use joust_schema::seed::Seed;
use joust_trainer::checkpoint::{self, Retention, Trainer as _};
use joust_trainer::{FirstWeights, Metrics, TrainedModel};
use serde::{Deserialize, Serialize};

use crate::checkpoints::CheckpointClock;
use crate::config::refuse;
use crate::counted::counted;
use crate::error::Error;
use crate::examples::Encoder;
use crate::export::Export;
use crate::memory;
use crate::observer::{Event, Observer};
use crate::places;
use crate::ranks;
use crate::run_folder::{ExistingRun, MetricsLog, RunFolder, RunStart};
use crate::stop::StopSwitch;
use crate::training::RunEnd;

use finished::FinishedTuning;
use opened::Opened;

pub(crate) use course::{Course, FirstModel, Lessons};
pub(crate) use opened::open_model;
pub(crate) use settings::{TuningConfig, TuningSettings};

/// The state that a checkpoint holds beside weights and optimiser.
#[derive(Serialize, Deserialize)]
struct TuningState {
    step: u64,
    num_tokens: f64,
}

/// A run in progress.
struct Tuning<'a, L: Lessons> {
    settings: TuningSettings<'a>,
    /// Number of steps of the whole run.
    n_steps: u64,
    /// Number of examples after which they repeat, if they do.
    n_examples: Option<u64>,
    lessons: L,
    /// Examples that are measured and not learned from.
    held_out: Vec<L::Example>,
    run: RunFolder,
    seed: Seed,
    encoder: Encoder,
    trainer: L::Trainer,
    state: TuningState,
    /// The step of the newest checkpoint.
    saved: u64,
    checkpoints: CheckpointClock,
    /// Number of examples since the last update, none of which fits.
    n_skipped_in_a_row: u64,
    /// The first and the newest loss on held-out examples.
    eval_losses: Option<[f64; 2]>,
    ranks: Arc<Collectives>,
    /// None but on the rank that writes the run.
    observer: (Option<MetricsLog>, Option<&'a mut dyn Observer>),
}

/// Runs to the last step, or to the end of the step in which it is asked to stop. `course` opens
/// what the run learns from.
///
/// # Errors
/// [`Error::Input`] for unusable configs or data; the trainer's errors.
pub(crate) fn run<'a, T: TuningConfig, C: Course>(
    config: &'a T,
    course: impl FnOnce() -> Result<C, Error>,
    existing: ExistingRun,
    stop: &StopSwitch,
    observer: &'a mut dyn Observer,
) -> Result<FinishedTuning, Error> {
    refuse(config.problems())?;
    let settings = config.settings();
    settings.run.set_threads();
    let (_, ranks) = ranks::join(settings.device, &settings.run.ranks, stop)?;
    let run = run_among(config, course, existing, stop, observer, &ranks);
    run.map_err(|error| ranks::tell(&ranks, error))
}

/// The run as one of its ranks.
fn run_among<'a, T: TuningConfig, C: Course>(
    config: &'a T,
    course: impl FnOnce() -> Result<C, Error>,
    existing: ExistingRun,
    stop: &StopSwitch,
    observer: &'a mut dyn Observer,
    ranks: &Arc<Collectives>,
) -> Result<FinishedTuning, Error> {
    let settings = config.settings();
    let inputs = config.inputs();
    let run_dir = settings.run.dir();
    let export = Export { section: settings.export, run_dir: &run_dir, inputs: &inputs };
    let start = RunStart::new(settings.run, config, &inputs, existing)?;
    start.check(ranks)?;
    places::check_inputs(&run_dir, &inputs)?;
    export.check()?;
    let observer = ranks.world().is_first().then_some(observer);
    let mut tuning = Tuning::open(config, course()?, &start, (Arc::clone(ranks), observer))?;
    let began = Instant::now();
    let end = tuning.run_steps(stop);
    let seconds = began.elapsed().as_secs_f64();
    let told = tuning.observer.observe(Event::LoopFinished);
    let end = end?;
    told?;
    if end == RunEnd::Finished {
        tuning.check_learned()?;
        let (model, tokenizer) = (tuning.trainer.master()?, tuning.encoder.tokenizer());
        if ranks.world().is_first() {
            export.write(&model, tokenizer, &mut tuning.observer)?;
        }
    }
    let (steps, eval_losses) = (tuning.state.step, tuning.eval_losses);
    let run = FinishedTuning { end, steps, seconds, eval_losses, dir: run_dir };
    if end == RunEnd::Finished {
        tuning.observer.observe(Event::TuningFinished { run: &run })?;
    }
    // what the first rank has failed to write is the end of all
    ranks.barrier()?;
    Ok(run)
}

impl<'a, L: Lessons> Tuning<'a, L> {
    /// Opens all that the run needs: a fresh run, or the newest checkpoint.
    fn open<T: TuningConfig, C: Course<Lessons = L>>(
        config: &'a T,
        course: C,
        start: &RunStart<'_, T>,
        (ranks, mut observer): (Arc<Collectives>, Option<&'a mut dyn Observer>),
    ) -> Result<Self, Error> {
        let settings = config.settings();
        let seed = Seed::new(settings.run.seed);
        let n_examples = course.n_examples();
        let n_steps = settings.n_steps(n_examples)?;
        if let Some(step) = start.newest_step(&ranks)?.filter(|step| *step > n_steps) {
            return Err(Error::input(format!(
                "config: the run has {} (trainer.steps, trainer.epochs), and has made {step} \
                 already; wanted at least as many",
                counted(n_steps, "step")
            )));
        }
        let Opened { mut model, lessons, encoder, run, newest } = match start.resumes() {
            true => Opened::resumed(&settings, course, start, (seed, &ranks))?,
            false => Opened::fresh(course, start, (seed, &ranks))?,
        };
        if let FirstWeights::Loaded(model) = &mut model {
            settings.learner.attach_adapters(model, seed.child("adapters", 0));
        }
        if lessons.has_chats() {
            match encoder.end_of_turn() {
                // who samples from the model has to know its end
                Some(end_id) if !encoder.tokenizer().eos_ids().contains(&end_id) => {
                    model.add_end_token(end_id);
                }
                Some(_) => {}
                None => observer.observe(Event::TurnsWithoutEnd)?,
            }
        }
        let TuningSettings { learner, batch_size, .. } = settings;
        let (constants, n_ranks) = (model.config(), ranks.world().size);
        let trained = TrainedModel {
            model: constants,
            formats: learner.number_formats(model.device()),
            has_reference: L::HAS_REFERENCE,
            n_ranks,
            shard: learner.shard,
            n_sequences: batch_size.div_ceil(n_ranks) * L::SEQUENCES,
            longest: constants.max_position,
        };
        let shard = memory::shard_of(trained, learner, model.device(), &ranks)?;
        let mut trainer = lessons.trainer(model, n_steps, (Arc::clone(&ranks), shard))?;
        let held_out = lessons.held_out(&encoder)?;
        if !held_out.is_empty() && !held_out.iter().any(|it| L::fits(&trainer, it)) {
            let (none, wanted) = (none_fits("the file's", held_out.len() as u64), L::WANTED);
            return Err(Error::input(format!("eval.path: {none}: {wanted}")));
        }
        let state = match &newest {
            Some((step, path)) => {
                let state = checkpoint::restore(&mut trainer, path)
                    .map_err(|error| run.bad_checkpoint(error.into()))?;
                observer.observe(Event::Resumed { step: *step, changes: &run.changes() })?;
                state
            }
            None => TuningState { step: 0, num_tokens: 0.0 },
        };
        observer.observe(Event::TuningReady {
            n_parameters: trainer.n_parameters(),
            n_steps,
            run_dir: run.dir(),
        })?;
        Ok(Self {
            observer: (run.metrics_log(), observer),
            ranks,
            checkpoints: CheckpointClock::new(settings.checkpoint, Instant::now()),
            settings,
            n_steps,
            n_examples,
            lessons,
            held_out,
            run,
            seed,
            encoder,
            trainer,
            saved: state.step,
            state,
            n_skipped_in_a_row: 0,
            eval_losses: None,
        })
    }

    /// All steps that are left.
    fn run_steps(&mut self, stop: &StopSwitch) -> Result<RunEnd, Error> {
        let n_steps = self.n_steps;
        self.observer.observe(Event::LoopStarted { step: self.state.step, n_steps })?;
        while self.state.step < n_steps {
            if self.ranks.any(stop.is_asked())? {
                self.save_interim()?;
                return Ok(RunEnd::Stopped);
            }
            let started = Instant::now();
            let examples = match self.examples_of_all_ranks() {
                Ok(examples) => examples,
                Err(error) => {
                    let error = ranks::tell(&self.ranks, error);
                    // a later start repeats this step and none before it
                    if error.leaves_ranks()
                        && let Err(unsaved) = self.save_interim()
                    {
                        let unsaved = ranks::tell(&self.ranks, unsaved).to_string();
                        let _ = self.observer.observe(Event::StateNotSaved { error: &unsaved });
                    }
                    return Err(error);
                }
            };
            let mut metrics = self.step(&examples, started)?;
            let step = self.state.step;
            if self.settings.eval.is_due(step, n_steps) {
                metrics.extend(self.evaluate()?);
            }
            self.run.check()?;
            self.observer.observe(Event::StepFinished { step, n_steps, metrics: &metrics })?;
            let due = self.checkpoints.due(step, step == n_steps, Instant::now());
            if let Some(retention) = ranks::due(&self.ranks, due)? {
                self.save(retention)?;
            }
        }
        Ok(RunEnd::Finished)
    }

    /// The examples of the next step, once all ranks have them.
    fn examples_of_all_ranks(&self) -> Result<Vec<L::Example>, Error> {
        let examples = self.examples()?;
        self.ranks.barrier()?;
        Ok(examples)
    }

    /// The examples of the next step.
    fn examples(&self) -> Result<Vec<L::Example>, Error> {
        let batch_size = self.settings.batch_size as u64;
        let first = self.state.step * batch_size;
        let numbers = first..first + batch_size;
        numbers.map(|idx| self.lessons.example(&self.encoder, self.seed, idx)).collect()
    }

    /// Learns from the examples of a step, whose making has begun at `started`.
    fn step(&mut self, examples: &[L::Example], started: Instant) -> Result<Metrics, Error> {
        let data_seconds = started.elapsed().as_secs_f64();
        let mut metrics = L::learn(&mut self.trainer, examples, self.state.step)?;
        self.state.step += 1;
        self.check_learning(&metrics, examples.len() as u64)?;
        self.state.num_tokens += metrics["step_tokens"];
        let seconds = started.elapsed().as_secs_f64();
        metrics.insert("num_tokens".to_owned(), self.state.num_tokens);
        metrics.insert("step_time".to_owned(), seconds);
        metrics.insert("data_time".to_owned(), data_seconds);
        metrics.insert("tokens_per_second".to_owned(), metrics["step_tokens"] / seconds);
        Ok(metrics)
    }

    /// The metrics of the held-out examples, if there are any.
    fn evaluate(&mut self) -> Result<Metrics, Error> {
        if self.held_out.is_empty() {
            return Ok(Metrics::new());
        }
        let started = Instant::now();
        let mut metrics = L::evaluate(&self.trainer, &self.held_out)?;
        metrics.insert("time/eval_s".to_owned(), started.elapsed().as_secs_f64());
        if let Some(&loss) = metrics.get("eval/loss") {
            let first = self.eval_losses.map_or(loss, |[first, _]| first);
            self.eval_losses = Some([first, loss]);
        }
        Ok(metrics)
    }

    /// Refuses data of which nothing fits: no example of a whole epoch, or of 1,000 of a task.
    fn check_learning(&mut self, metrics: &Metrics, n_examples: u64) -> Result<(), Error> {
        if metrics.contains_key("loss") {
            self.n_skipped_in_a_row = 0;
            return Ok(());
        }
        self.n_skipped_in_a_row += n_examples;
        // each epoch has another order: so many in a row hold a whole epoch
        let n_of_file = self.n_examples.map(|n| 2 * n - 1);
        if self.n_skipped_in_a_row < n_of_file.unwrap_or(1_000) {
            return Ok(());
        }
        let wanted = L::WANTED;
        Err(Error::input(match self.n_examples {
            Some(n_examples) => {
                format!("data.path: {}: {wanted}", none_fits("the file's", n_examples))
            }
            None => format!("none of the last {} examples fits: {wanted}", self.n_skipped_in_a_row),
        }))
    }

    /// Refuses to end a run that has learned nothing in all of its steps.
    fn check_learned(&self) -> Result<(), Error> {
        if self.trainer.n_updates() > 0 {
            return Ok(());
        }
        let n_used = self.n_steps * self.settings.batch_size as u64;
        // an epoch has each example of a file once
        let n_examples = self.n_examples.map_or(n_used, |n_examples| n_examples.min(n_used));
        let is_exported = self.settings.export.path.is_some();
        let not_exported = if is_exported { " and the model is not exported" } else { "" };
        let none = none_fits("the run's", n_examples);
        Err(Error::input(format!(
            "{none}, so that nothing was learned{not_exported}: {}",
            L::WANTED
        )))
    }

    /// Saves the state after the last step, unless it is saved already.
    fn save_interim(&mut self) -> Result<(), Error> {
        match self.state.step == self.saved {
            true => Ok(()),
            false => self.save(self.checkpoints.interim()),
        }
    }

    fn save(&mut self, retention: Retention) -> Result<(), Error> {
        let began = Instant::now();
        let (step, dir) = (self.state.step, self.run.dir());
        let (trainer, tokenizer) = (&mut self.trainer, self.encoder.tokenizer());
        let base = self.settings.base;
        checkpoint::save(trainer, tokenizer, dir, step, &self.state, retention, base)?;
        self.saved = step;
        self.checkpoints.written(began, Instant::now());
        self.observer.observe(Event::CheckpointSaved { step })
    }
}

/// Says that no example fits: "none of the run's 2 examples fits" of `whose` "the run's".
fn none_fits(whose: &str, n_examples: u64) -> String {
    match n_examples {
        1 => format!("{whose} only example does not fit"),
        n_examples => format!("none of {whose} {n_examples} examples fits"),
    }
}
