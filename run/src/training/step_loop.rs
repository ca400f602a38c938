//! The loop of `joust train`: prompts → rollouts → rewards → updates → new weights, step by step.
//!
//! It connects the stages and keeps their records. The work inside a stage is not known here.

use std::sync::Arc;
use std::time::Instant;

use joust_dist::Collectives;
use joust_engine::Tokenizer;
use joust_schema::ids::PolicyVersion;
use joust_schema::seed::Seed;
use joust_trainer::checkpoint::{self, Retention, Trainer};
use joust_trainer::{GrpoTrainer, Metrics, ScoredTables, StepInfo, StepOutcome};

use super::collector::{Collected, CollectedStep, Measured};
use super::idle::why_nothing_is_learned;
use super::records;
use super::scored::{ScoredGroup, ScoredStep};
use super::state::{FinishedRun, RunEnd, TrainingState};
use super::step_clock::StepClock;
use super::step_metrics::scored_metrics;
use super::step_source::StepSource;
use super::tables::StepTables;
use crate::checkpoints::CheckpointClock;
use crate::config::train::TrainRun;
use crate::error::Error;
use crate::export::Export;
use crate::inputs::InputPath;
use crate::observer::{Event, Observer};
use crate::ranks;
use crate::run_folder::{MetricsLog, RunFolder};
use crate::stop::StopSwitch;

/// A run in progress: the stages, their state, and the folder of the run.
pub struct Training<'a> {
    pub(super) config: Arc<TrainRun>,
    pub(super) run: RunFolder,
    /// The processes of the run.
    pub(super) ranks: Arc<Collectives>,
    pub(super) seed: Seed,
    pub(super) tokenizer: Tokenizer,
    pub(super) source: Box<dyn StepSource>,
    pub(super) trainer: GrpoTrainer,
    pub(super) state: TrainingState,
    /// Whether no prompts are left after those of the last step.
    pub(super) is_last: bool,
    /// The files and folders that the run reads.
    pub(super) inputs: Vec<InputPath>,
    /// Number of steps of the whole run.
    pub(super) n_steps: u64,
    pub(super) checkpoints: CheckpointClock,
    /// Whether the newest checkpoint, or the start without one, has the state.
    pub(super) is_saved: bool,
    /// The groups of the last step, for the closing summary.
    pub(super) last_groups: Vec<ScoredGroup>,
    pub(super) stop: StopSwitch,
    /// None but on the rank that writes the run.
    pub(super) observer: (Option<MetricsLog>, Option<&'a mut dyn Observer>),
}

/// How a step has ended.
enum StepEnd {
    /// It is made: these are its metrics.
    Made(Metrics),
    /// No prompts are left for it.
    NoPrompts,
    /// It would have needed further groups after the run was asked to stop.
    GivenUp,
    /// It is made and saved; no server took its policy before the run was asked to stop.
    Untold,
}

impl Training<'_> {
    /// Runs to the last step, or to the end of the step in which it is asked to stop. A stop breaks
    /// off an evaluation, and a step that needs further groups in place of those without spread; a
    /// later start repeats them.
    ///
    /// # Errors
    /// The first failure of a stage, of a record, of an observer or of the export; a later start
    /// resumes from the newest checkpoint. Where sampling or judging fails, the state before the
    /// step is saved. [`Error::NothingLearned`] where the whole run made no update; its model is
    /// not exported then.
    pub fn run(self) -> Result<FinishedRun, Error> {
        let ranks = Arc::clone(&self.ranks);
        self.run_to_end().map_err(|error| ranks::tell(&ranks, error))
    }

    fn run_to_end(mut self) -> Result<FinishedRun, Error> {
        let started = Instant::now();
        let end = self.run_steps();
        let told = self.observer.observe(Event::LoopFinished);
        let end = end?;
        told?;
        if end == RunEnd::Finished {
            self.check_learned()?;
            let (section, run_dir) = (&self.config.export, self.run.dir());
            let export = Export { section, run_dir, inputs: &self.inputs };
            let model = self.trainer.master()?;
            if self.ranks.world().is_first() {
                export.write(&model, &self.tokenizer, &mut self.observer)?;
            }
        }
        let run = FinishedRun {
            end,
            dir: self.run.dir().to_owned(),
            steps: self.state.step,
            n_updates: self.trainer.n_updates(),
            seconds: started.elapsed().as_secs_f64(),
            accuracy_before: self.state.accuracy_before,
            accuracy: self.state.accuracy,
            last_groups: self.last_groups,
        };
        if end == RunEnd::Finished {
            self.observer.observe(Event::TrainingFinished { run: &run })?;
        }
        // what the first rank has failed to write is the end of all
        self.ranks.barrier()?;
        Ok(run)
    }

    /// Fails where a whole run has made no update: its model is the one that it began with.
    fn check_learned(&self) -> Result<(), Error> {
        let steps = self.state.step;
        if self.trainer.n_updates() > 0 || steps == 0 {
            return Ok(());
        }
        let last = why_nothing_is_learned(&self.last_groups);
        let reason = last.map_or(String::new(), |reason| format!(" (in the last step, {reason})"));
        let is_exported = self.config.export.path.is_some();
        Err(Error::NothingLearned { steps, reason, is_exported, dir: self.run.dir().to_owned() })
    }

    fn run_steps(&mut self) -> Result<RunEnd, Error> {
        let n_steps = self.n_steps;
        self.observer.observe(Event::LoopStarted { step: self.state.step, n_steps })?;
        if self.state.step == 0 && self.evaluate()?.is_some() {
            self.state.accuracy_before = self.state.accuracy;
        }
        if let Some(metrics) = self.state.unevaluated.clone()
            && !self.finish_step(metrics.into())?
        {
            return Ok(RunEnd::Stopped);
        }
        while self.state.step < n_steps {
            if self.is_stopped()? {
                self.save_interim()?;
                return Ok(RunEnd::Stopped);
            }
            let metrics = match self.step()? {
                StepEnd::Made(metrics) => metrics,
                StepEnd::NoPrompts => break,
                StepEnd::GivenUp => continue,
                StepEnd::Untold => return Ok(RunEnd::Stopped),
            };
            if !self.finish_step(metrics)? {
                return Ok(RunEnd::Stopped);
            }
        }
        if self.state.step < self.config.train.steps {
            self.observer.observe(Event::PromptsExhausted)?;
        }
        Ok(RunEnd::Finished)
    }

    /// Evaluates after a step if that is due, and after the last one; then tells its metrics. False
    /// where a stop broke the evaluation off: the state is saved, and its next start repeats it.
    fn finish_step(&mut self, mut metrics: Metrics) -> Result<bool, Error> {
        let (step, n_steps, every) = (self.state.step, self.n_steps, self.config.eval.every);
        let is_last = step == n_steps || self.is_last;
        let is_repeated = self.state.unevaluated.take().is_some();
        if is_last || is_repeated || (every > 0 && step.is_multiple_of(every)) {
            let measured = match self.evaluate() {
                // of several processes the others do not know
                Err(error) if self.ranks.world().size == 1 => {
                    return Err(self.save_untold_after(metrics, error));
                }
                measured => measured?,
            };
            let Some(measured) = measured else {
                self.observer.observe(Event::EvaluationBrokenOff { step })?;
                self.save_untold(metrics)?;
                return Ok(false);
            };
            metrics.extend(measured);
        }
        self.is_saved &= !is_repeated;
        self.observer.observe(Event::StepFinished { step, n_steps, metrics: &metrics })?;
        let due = self.checkpoints.due(step, is_last, Instant::now());
        if let Some(retention) = ranks::due(&self.ranks, due)? {
            self.save(retention)?;
        }
        Ok(true)
    }

    /// One step: sample, score, train, record.
    fn step(&mut self) -> Result<StepEnd, Error> {
        let step = self.state.step + 1;
        let mut clock = StepClock::start();
        let collected = self.source.next(step, &mut self.observer);
        let waited = clock.elapsed();
        let collected = match collected {
            Ok(Collected::Step(collected)) => *collected,
            Ok(Collected::NoPrompts) => return Ok(StepEnd::NoPrompts),
            Ok(Collected::GivenUp) => return Ok(StepEnd::GivenUp),
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
        let CollectedStep { groups, rounds, metrics: sampling_metrics, .. } = collected;
        rounds.iter().for_each(|times| clock.add_round(times));
        let n_updates_behind = self.trainer.n_updates() as i64 - collected.version.0;
        let began = Instant::now();
        let mut tables = StepTables::pack(&groups.batch, &groups.results)?;
        let mut metrics = groups.metrics();
        metrics.extend(self.train(step, &mut tables, groups.trained().as_deref())?);
        // a step counts although nobody takes its policy
        let published = self.publish();
        clock.add_training(began.elapsed());
        let scored = ScoredStep::new(groups.batch, groups.results);
        self.run.check()?;
        if self.ranks.world().is_first() {
            records::write(&self.run, step, &scored, &tables)?;
        }

        self.is_saved = false;
        self.state.step = step;
        self.state.cursor = collected.cursor;
        self.is_last = collected.is_last;
        self.state.num_tokens += scored.n_tokens as u64;
        metrics.extend(scored_metrics(&scored));
        metrics.extend(sampling_metrics);
        metrics.insert("num_tokens".to_owned(), self.state.num_tokens as f64);
        let n_judge_tokens = metrics.get("judge/tokens").copied().unwrap_or(0.0);
        metrics.extend(clock.metrics(scored.n_tokens as f64 + n_judge_tokens));
        if self.config.train.ahead > 0 {
            metrics.insert("sampling/updates_behind".to_owned(), n_updates_behind as f64);
            metrics.insert("time/wait_s".to_owned(), waited.as_secs_f64());
        }
        self.last_groups = scored.groups;
        match published {
            Ok(()) => Ok(StepEnd::Made(metrics)),
            Err(Error::Rollout(joust_rollout::Error::Cancelled)) => {
                self.observer.observe(Event::EvaluationBrokenOff { step })?;
                self.save_untold(metrics)?;
                Ok(StepEnd::Untold)
            }
            Err(error) => Err(self.save_untold_after(metrics, error)),
        }
    }

    /// Updates the policy. The advantages go into the tables.
    /// Of the groups, those of `trained` are trained on, or all.
    fn train(
        &mut self,
        step: u64,
        tables: &mut StepTables,
        trained: Option<&[usize]>,
    ) -> Result<Metrics, Error> {
        let info = StepInfo {
            step,
            seed: self.seed.child("train", step),
            temperature: self.config.rollout.temperature,
            max_completion_length: self.config.rollout.max_completion_length,
        };
        let selected = trained.map(|trained| tables.select(trained)).transpose()?;
        let StepTables { rollouts, rewards, groups } = selected.as_ref().unwrap_or(tables);
        let scored = ScoredTables { rollouts, rewards, groups };
        self.source.before_update(&mut self.observer)?;
        let StepOutcome { advantages, metrics } = self.trainer.step(&scored, &info)?;
        match trained {
            None => tables.set_advantages(advantages)?,
            Some(trained) => tables.set_advantages_of(trained, &advantages)?,
        }
        Ok(metrics)
    }

    /// Has all that samples take the policy.
    fn publish(&mut self) -> Result<(), Error> {
        let version = PolicyVersion(self.trainer.n_updates() as i64);
        let policy = self.trainer.published()?;
        self.source.publish(policy, version)
    }

    /// Saves a step that is made, whose line of metrics is still to come: the next start has it
    /// measured and told.
    fn save_untold(&mut self, metrics: Metrics) -> Result<(), Error> {
        self.state.unevaluated = Some(metrics.into());
        self.save_interim()
    }

    /// As [`Training::save_untold`] after a failure, which goes on.
    fn save_untold_after(&mut self, metrics: Metrics, error: Error) -> Error {
        if let Err(unsaved) = self.save_untold(metrics) {
            let event = Event::StateNotSaved { error: &unsaved.to_string() };
            let _ = self.observer.observe(event);
        }
        error
    }

    /// Measures the policy: no metrics if the config has no held-out prompts, `None` where a stop
    /// broke it off.
    fn evaluate(&mut self) -> Result<Option<Metrics>, Error> {
        match self.source.evaluate(&mut self.observer)? {
            Measured::Nothing => Ok(Some(Metrics::new())),
            Measured::BrokenOff => Ok(None),
            Measured::Policy(measured) => {
                measured.tell(self.state.step, &mut self.observer)?;
                self.state.accuracy = Some(measured.accuracy);
                Ok(Some(measured.metrics))
            }
        }
    }

    /// Whether any of the ranks was asked to stop.
    fn is_stopped(&self) -> Result<bool, Error> {
        Ok(self.ranks.any(self.stop.is_asked())?)
    }

    fn save(&mut self, retention: Retention) -> Result<(), Error> {
        self.run.check()?;
        let began = Instant::now();
        let step = self.state.step;
        checkpoint::save(
            &mut self.trainer,
            &self.tokenizer,
            self.run.dir(),
            step,
            &self.state,
            retention,
            &self.config.policy.path,
        )?;
        self.is_saved = true;
        self.checkpoints.written(began, Instant::now());
        self.observer.observe(Event::CheckpointSaved { step })
    }

    /// Saves the state after the last complete step, unless it is saved already.
    fn save_interim(&mut self) -> Result<(), Error> {
        match self.is_saved {
            true => Ok(()),
            false => self.save(self.checkpoints.interim()),
        }
    }
}
