//! The loop of `joust train`: prompts → rollouts → rewards → updates → new weights, step by step.
//!
//! It connects the stages and keeps their records. The work inside a stage is not known here.

use std::time::Instant;

use joust_engine::Tokenizer;
use joust_reward::PartScorer;
use joust_rollout::{GenerateRequest, PromptRow, PromptSource, RolloutWorkers};
use joust_schema::ids::PolicyVersion;
use joust_schema::seed::Seed;
use joust_trainer::checkpoint::{self, Retention, Trainer};
use joust_trainer::{GrpoTrainer, Metrics, ScoredTables, StepInfo, StepOutcome};

use super::evaluation::Evaluation;
use super::failures::Failures;
use super::idle::why_nothing_is_learned;
use super::records;
use super::refill::StepGroups;
use super::round::{Round, RoundChecks, RoundStages};
use super::scored::{ScoredGroup, ScoredStep};
use super::state::{FinishedRun, RunEnd, TrainingState};
use super::step_clock::StepClock;
use super::step_metrics::scored_metrics;
use super::tables::StepTables;
use crate::checkpoints::CheckpointClock;
use crate::config::train::TrainRun;
use crate::error::Error;
use crate::export::Export;
use crate::inputs::InputPath;
use crate::observer::{Event, Observer};
use crate::run_folder::RunFolder;
use crate::stop::StopSwitch;

/// A run in progress: the stages, their state, and the folder of the run.
pub struct Training {
    pub(super) config: TrainRun,
    pub(super) run: RunFolder,
    pub(super) seed: Seed,
    pub(super) tokenizer: Tokenizer,
    pub(super) prompts: PromptSource,
    pub(super) workers: RolloutWorkers,
    pub(super) scorer: PartScorer,
    pub(super) trainer: GrpoTrainer,
    pub(super) evaluation: Option<Evaluation>,
    pub(super) state: TrainingState,
    /// The files and folders that the run reads.
    pub(super) inputs: Vec<InputPath>,
    /// Number of steps of the whole run.
    pub(super) n_steps: u64,
    pub(super) checkpoints: CheckpointClock,
    /// Whether the newest checkpoint, or the start without one, has the state.
    pub(super) is_saved: bool,
    /// The groups of the last step, for the closing summary.
    pub(super) last_groups: Vec<ScoredGroup>,
}

impl Training {
    /// Runs to the last step, or to the end of the step in which it is asked to stop. A stop breaks
    /// off an evaluation, which a later start repeats.
    ///
    /// # Errors
    /// The first failure of a stage, of a record or of the export; a later start resumes from the
    /// newest checkpoint. Where sampling or judging fails, the state before the step is saved.
    /// [`Error::NothingLearned`] where the whole run made no update; nothing is exported then.
    pub fn run(
        mut self,
        stop: &StopSwitch,
        observer: &mut dyn Observer,
    ) -> Result<FinishedRun, Error> {
        let started = Instant::now();
        let end = self.run_steps(stop, observer);
        observer.observe(Event::LoopFinished);
        let end = end?;
        if end == RunEnd::Finished {
            self.check_learned()?;
            let run_dir = self.run.dir();
            let export = Export { section: &self.config.export, run_dir, inputs: &self.inputs };
            export.write(self.trainer.master(), &self.tokenizer)?;
            if let Some(path) = &self.config.export.path {
                observer.observe(Event::ModelExported { path });
            }
        }
        Ok(FinishedRun {
            end,
            dir: self.run.dir().to_owned(),
            steps: self.state.step,
            n_updates: self.trainer.n_updates(),
            seconds: started.elapsed().as_secs_f64(),
            accuracy_before: self.state.accuracy_before,
            accuracy: self.state.accuracy,
            last_groups: self.last_groups,
        })
    }

    /// Fails where a whole run has made no update: its model is the one that it began with.
    fn check_learned(&self) -> Result<(), Error> {
        let steps = self.state.step;
        if self.trainer.n_updates() > 0 || steps == 0 {
            return Ok(());
        }
        let last = why_nothing_is_learned(&self.last_groups);
        let reason = last.map_or(String::new(), |reason| format!(" (in the last step, {reason})"));
        Err(Error::NothingLearned { steps, reason, dir: self.run.dir().to_owned() })
    }

    fn run_steps(
        &mut self,
        stop: &StopSwitch,
        observer: &mut dyn Observer,
    ) -> Result<RunEnd, Error> {
        let n_steps = self.n_steps;
        observer.observe(Event::LoopStarted { step: self.state.step, n_steps });
        if self.state.step == 0 {
            let mut metrics = Metrics::new();
            if self.evaluate(&mut metrics, stop, observer)? {
                self.state.accuracy_before = self.state.accuracy;
            }
            if !metrics.is_empty() {
                self.run.log(0, &metrics)?;
            }
        }
        if let Some(metrics) = self.state.unevaluated.clone() {
            // a start before this one may have come further
            self.run.forget_metrics_from(self.state.step)?;
            if !self.finish_step(metrics.into(), true, stop, observer)? {
                return Ok(RunEnd::Stopped);
            }
        }
        while self.state.step < n_steps {
            if stop.is_asked() {
                self.save_interim(observer)?;
                return Ok(RunEnd::Stopped);
            }
            let Some(metrics) = self.step(observer)? else {
                break;
            };
            let every = self.config.eval.every;
            let is_due = every > 0 && self.state.step.is_multiple_of(every);
            if !self.finish_step(metrics, is_due, stop, observer)? {
                return Ok(RunEnd::Stopped);
            }
        }
        if self.state.step < self.config.train.steps {
            observer.observe(Event::PromptsExhausted);
        }
        Ok(RunEnd::Finished)
    }

    /// Evaluates after a step if that is due, and after the last one; then logs its metrics. False
    /// where a stop broke the evaluation off: the state is saved, and its next start repeats it.
    fn finish_step(
        &mut self,
        mut metrics: Metrics,
        is_evaluation_due: bool,
        stop: &StopSwitch,
        observer: &mut dyn Observer,
    ) -> Result<bool, Error> {
        let (step, n_steps) = (self.state.step, self.n_steps);
        let is_last = step == n_steps || self.prompts.is_exhausted();
        if (is_last || is_evaluation_due) && !self.evaluate(&mut metrics, stop, observer)? {
            observer.observe(Event::EvaluationBrokenOff { step });
            self.state.unevaluated = Some(metrics.into());
            self.save_interim(observer)?;
            return Ok(false);
        }
        if self.state.unevaluated.take().is_some() {
            self.is_saved = false;
        }
        self.run.log(step, &metrics)?;
        let eval_accuracy = self.state.accuracy;
        observer.observe(Event::StepFinished { step, n_steps, metrics: &metrics, eval_accuracy });
        if let Some(retention) = self.checkpoints.due(step, is_last, Instant::now()) {
            self.save(retention, observer)?;
        }
        Ok(true)
    }

    /// One step: sample, score, train, record. `None` if no prompts are left.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<Option<Metrics>, Error> {
        let prompts = self.prompts.next(self.config.train.prompts_per_step);
        if prompts.is_empty() {
            return Ok(None);
        }
        let step = self.state.step + 1;
        let mut clock = StepClock::start();
        let groups = match self.sample_and_score(step, prompts, &mut clock, observer) {
            Ok(groups) => groups,
            Err(error) => {
                // a later start repeats this step and none before it
                if let Err(unsaved) = self.save_interim(observer) {
                    observer.observe(Event::StateNotSaved { error: &unsaved.to_string() });
                }
                return Err(error);
            }
        };
        let began = Instant::now();
        let mut tables = StepTables::pack(&groups.batch, &groups.results)?;
        let refills = (self.config.train.max_refills > 0).then(|| groups.metrics());
        let trained = refills.as_ref().and_then(|_| groups.trained());
        let mut metrics = self.train(step, &mut tables, trained.as_deref())?;
        clock.add_training(began.elapsed());
        let scored = ScoredStep::new(groups.batch, groups.results);
        self.run.check()?;
        records::write(&self.run, step, &scored, &tables)?;

        self.is_saved = false;
        self.state.step = step;
        self.state.cursor = self.prompts.cursor();
        self.state.num_tokens += scored.n_tokens as u64;
        metrics.extend(scored_metrics(&scored));
        metrics.extend(refills.into_iter().flatten());
        metrics.insert("num_tokens".to_owned(), self.state.num_tokens as f64);
        let n_judge_tokens = metrics.get("judge/tokens").copied().unwrap_or(0.0);
        metrics.extend(clock.metrics(scored.n_tokens as f64 + n_judge_tokens));
        self.last_groups = scored.groups;
        Ok(Some(metrics))
    }

    /// The part of a step that leaves the weights as they are: a round for these prompts, and
    /// further ones that replace groups without spread.
    fn sample_and_score(
        &mut self,
        step: u64,
        mut prompts: Vec<PromptRow>,
        clock: &mut StepClock,
        observer: &mut dyn Observer,
    ) -> Result<StepGroups, Error> {
        let mut groups = StepGroups::default();
        while !prompts.is_empty() {
            let Round { batch, results, times } =
                self.round(step, groups.n_prompts(), &prompts, observer)?;
            clock.add_round(&times);
            groups.add_round(prompts.len(), batch, results);
            Failures::of(&groups.results).check(step, &self.config.reward)?;
            prompts = self.prompts.next(groups.n_refill(self.config.train.max_refills));
            if !prompts.is_empty() {
                observer.observe(Event::GroupsRefilled { step, n_groups: prompts.len() });
            }
        }
        Ok(groups)
    }

    /// Samples a group of completions per prompt, and scores the groups meanwhile.
    fn round(
        &mut self,
        step: u64,
        n_groups_before: usize,
        prompts: &[PromptRow],
        observer: &mut dyn Observer,
    ) -> Result<Round, Error> {
        let n_updates = self.trainer.n_updates();
        let rollout = &self.config.rollout;
        let request = GenerateRequest {
            step: step as i64,
            policy_version: PolicyVersion(n_updates as i64),
            prompts,
            n_groups_before,
            seed: self.seed,
            group_size: None,
            temperature: None,
            cancelled: None,
        };
        let checks = RoundChecks {
            step,
            is_new: self.state.num_tokens == 0 && n_groups_before == 0,
            has_learned: n_updates > 0,
            is_masked: self.config.trainer.mask_truncated_completions && n_groups_before == 0,
            max_tokens: rollout.max_completion_length,
        };
        let stages = RoundStages {
            workers: &mut self.workers,
            scorer: &mut self.scorer,
            checks,
            group_size: rollout.group_size as usize,
            reward_seed: self.seed.child("reward", step),
        };
        stages.run(&request, observer)
    }

    /// Updates the policy, and publishes it to the workers. The advantages go into the tables.
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
        // nothing is sampled before the next weights
        self.workers.release()?;
        let StepOutcome { advantages, metrics } = self.trainer.step(&scored, &info)?;
        match trained {
            None => tables.set_advantages(advantages)?,
            Some(trained) => tables.set_advantages_of(trained, &advantages)?,
        }
        self.workers.publish(self.trainer.policy())?;
        Ok(metrics)
    }

    /// Measures the policy if the config has held-out prompts. False where a stop broke it off.
    fn evaluate(
        &mut self,
        metrics: &mut Metrics,
        stop: &StopSwitch,
        observer: &mut dyn Observer,
    ) -> Result<bool, Error> {
        let Some(evaluation) = &self.evaluation else {
            return Ok(true);
        };
        let began = Instant::now();
        let Some(measured) = evaluation.run(&mut self.workers, self.seed, stop)? else {
            return Ok(false);
        };
        if let Some(first) = measured.dropped.first() {
            let n_dropped = measured.dropped.len();
            let (prompt_id, reason) = (&first.prompt_id, &first.reason);
            // without one measured prompt, later measurements would say nothing either
            if self.state.step == 0 && n_dropped == evaluation.n_prompts() {
                return Err(Error::input(format!(
                    "eval.path: none of {n_dropped} held-out prompts can be sampled from; prompt \
                     {prompt_id}: {reason}"
                )));
            }
            observer.observe(Event::HeldOutPromptsDropped { n_dropped, prompt_id, reason });
        }
        metrics.insert("eval/dropped_prompts".to_owned(), measured.dropped.len() as f64);
        self.state.accuracy = Some(measured.accuracy);
        metrics.insert("eval/accuracy".to_owned(), measured.accuracy);
        metrics.insert("eval/completions/mean_length".to_owned(), measured.mean_length);
        metrics.insert("time/eval_s".to_owned(), began.elapsed().as_secs_f64());
        let (step, accuracy) = (self.state.step, measured.accuracy);
        observer.observe(Event::Evaluated { step, accuracy });
        Ok(true)
    }

    fn save(&mut self, retention: Retention, observer: &mut dyn Observer) -> Result<(), Error> {
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
        observer.observe(Event::CheckpointSaved { step });
        Ok(())
    }

    /// Saves the state after the last complete step, unless it is saved already.
    fn save_interim(&mut self, observer: &mut dyn Observer) -> Result<(), Error> {
        match self.is_saved {
            true => Ok(()),
            false => self.save(self.checkpoints.interim(), observer),
        }
    }
}
