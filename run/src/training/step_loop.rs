//! The loop of `joust train`: prompts → rollouts → rewards → updates → new weights, step by step.
//!
//! It connects the stages and keeps their records. The work inside a stage is not known here.

use std::time::Instant;

use joust_engine::Tokenizer;
use joust_reward::{GroupResult, PartScorer};
use joust_rollout::{
    DroppedPrompt, GenerateRequest, PromptRow, PromptSource, RolloutBatch, RolloutWorkers,
};
use joust_schema::ids::PolicyVersion;
use joust_schema::seed::Seed;
use joust_schema::tables::FinishReason;
use joust_trainer::checkpoint::{self, Retention};
use joust_trainer::{GrpoTrainer, Metrics, ScoredTables, StepInfo, StepOutcome};

use super::evaluation::Evaluation;
use super::failures::Failures;
use super::idle::why_nothing_is_learned;
use super::part_groups::part_group;
use super::records;
use super::scored::{ScoredGroup, ScoredStep};
use super::state::{FinishedRun, RunEnd, TrainingState};
use super::step_metrics::{StepClock, scored_metrics};
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
            export.write(self.trainer.model(), &self.tokenizer)?;
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
            if self.evaluate(&mut metrics, stop)? {
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
                self.save_interim()?;
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
        if (is_last || is_evaluation_due) && !self.evaluate(&mut metrics, stop)? {
            tracing::info!(step, "The evaluation is broken off; the next start repeats it.");
            self.state.unevaluated = Some(metrics.into());
            self.save_interim()?;
            return Ok(false);
        }
        if self.state.unevaluated.take().is_some() {
            self.is_saved = false;
        }
        self.run.log(step, &metrics)?;
        let eval_accuracy = self.state.accuracy;
        observer.observe(Event::StepFinished { step, n_steps, metrics: &metrics, eval_accuracy });
        if let Some(retention) = self.checkpoints.due(step, is_last, Instant::now()) {
            self.save(retention)?;
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
        let judged = self.sample_and_score(step, &prompts, &mut clock, observer);
        let (batch, results) = match judged {
            Ok(judged) => judged,
            Err(error) => {
                // a later start repeats this step and none before it
                if let Err(unsaved) = self.save_interim() {
                    tracing::error!(error = %unsaved, "The state before the step is not saved.");
                }
                return Err(error);
            }
        };
        let mut tables = StepTables::pack(&batch, &results)?;
        let mut metrics = self.train(step, &mut tables)?;
        clock.end_part("train_s");
        let scored = ScoredStep::new(batch, results);
        self.run.check()?;
        records::write(&self.run, step, &scored, &tables)?;

        self.is_saved = false;
        self.state.step = step;
        self.state.cursor = self.prompts.cursor();
        self.state.num_tokens += scored.n_tokens as u64;
        metrics.extend(scored_metrics(&scored));
        metrics.insert("num_tokens".to_owned(), self.state.num_tokens as f64);
        let n_judge_tokens = metrics.get("judge/tokens").copied().unwrap_or(0.0);
        metrics.extend(clock.metrics(scored.n_tokens as f64 + n_judge_tokens));
        self.last_groups = scored.groups;
        Ok(Some(metrics))
    }

    /// The part of a step that leaves the weights as they are.
    fn sample_and_score(
        &mut self,
        step: u64,
        prompts: &[PromptRow],
        clock: &mut StepClock,
        observer: &mut dyn Observer,
    ) -> Result<(RolloutBatch, Vec<GroupResult>), Error> {
        let batch = self.sample(step, prompts, observer)?;
        self.check_lengths(step, &batch)?;
        clock.end_part("rollout_s");
        let seed = self.seed.child("reward", step);
        let groups = batch.groups.iter().map(|group| part_group(step, group, seed));
        let progress = &mut || observer.observe(Event::Progressed);
        let results = self.scorer.score_all(groups.collect(), progress)?;
        Failures::of(&results).check(step, self.config.reward.max_failed)?;
        clock.end_part("reward_s");
        Ok((batch, results))
    }

    /// Samples a group of completions per prompt.
    fn sample(
        &mut self,
        step: u64,
        prompts: &[PromptRow],
        observer: &mut dyn Observer,
    ) -> Result<RolloutBatch, Error> {
        let request = GenerateRequest {
            step: step as i64,
            policy_version: PolicyVersion(self.trainer.n_updates() as i64),
            prompts,
            seed: self.seed,
            group_size: None,
            temperature: None,
            cancelled: None,
        };
        let batch =
            self.workers.generate(&request, &mut |_| observer.observe(Event::Progressed))?;
        for DroppedPrompt { prompt_id, reason } in &batch.dropped {
            tracing::warn!(%prompt_id, %reason, "A prompt was dropped.");
        }
        // later in a run, a step of prompts that are too long does not stop it
        let is_new = self.state.num_tokens == 0;
        match batch.dropped.first() {
            Some(first) if is_new && batch.groups.is_empty() => Err(Error::input(format!(
                "step {step}: none of {} prompts can be sampled from; prompt {}: {}",
                batch.dropped.len(),
                first.prompt_id,
                first.reason
            ))),
            _ => Ok(batch),
        }
    }

    /// Fails where no completion can be learned from, before they are judged. A run that has
    /// learned already goes on: the step counts, without an update.
    fn check_lengths(&self, step: u64, batch: &RolloutBatch) -> Result<(), Error> {
        let completions = || batch.groups.iter().flat_map(|group| &group.completions);
        let are_truncated =
            completions().all(|completion| completion.finish_reason == FinishReason::Length);
        let n_completions = completions().count();
        let is_masked = self.config.trainer.mask_truncated_completions;
        if !(is_masked && are_truncated && n_completions > 0) {
            return Ok(());
        }
        let max_tokens = self.config.rollout.max_completion_length;
        if self.trainer.n_updates() == 0 {
            return Err(Error::AllTruncated { step, n_completions, max_tokens });
        }
        tracing::warn!(
            step,
            n_completions,
            max_tokens,
            "All completions were truncated and are left out of the loss: the step has no update."
        );
        Ok(())
    }

    /// Updates the policy, and publishes it to the workers. The advantages go into the tables.
    fn train(&mut self, step: u64, tables: &mut StepTables) -> Result<Metrics, Error> {
        let info = StepInfo {
            step,
            seed: self.seed.child("train", step),
            temperature: self.config.rollout.temperature,
            max_completion_length: self.config.rollout.max_completion_length,
        };
        let scored = ScoredTables {
            rollouts: &tables.rollouts,
            rewards: &tables.rewards,
            groups: &tables.groups,
        };
        let StepOutcome { advantages, metrics } = self.trainer.step(&scored, &info)?;
        tables.set_advantages(advantages)?;
        self.workers.publish(self.trainer.model())?;
        Ok(metrics)
    }

    /// Measures the policy if the config has held-out prompts. False where a stop broke it off.
    fn evaluate(&mut self, metrics: &mut Metrics, stop: &StopSwitch) -> Result<bool, Error> {
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
            tracing::warn!(n_dropped, %prompt_id, %reason, "Held-out prompts cannot be sampled \
                from and count as wrong; the first is named.");
        }
        metrics.insert("eval/dropped_prompts".to_owned(), measured.dropped.len() as f64);
        self.state.accuracy = Some(measured.accuracy);
        metrics.insert("eval/accuracy".to_owned(), measured.accuracy);
        metrics.insert("eval/completions/mean_length".to_owned(), measured.mean_length);
        metrics.insert("time/eval_s".to_owned(), began.elapsed().as_secs_f64());
        Ok(true)
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
        Ok(())
    }

    /// Saves the state after the last complete step, unless it is saved already.
    fn save_interim(&mut self) -> Result<(), Error> {
        match self.is_saved {
            true => Ok(()),
            false => self.save(self.checkpoints.interim()),
        }
    }
}
