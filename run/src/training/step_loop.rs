//! The loop of `joust train`: prompts → rollouts → rewards → updates → new weights, step by step.
//!
//! It connects the stages and keeps their records. The work inside a stage is not known here.

use std::time::Instant;

use joust_engine::Tokenizer;
use joust_reward::{GroupRequest, GroupResult, Scorer};
use joust_rollout::{
    DroppedPrompt, GenerateRequest, PromptRow, PromptSource, RolloutBatch, RolloutWorkers,
};
use joust_schema::ids::PolicyVersion;
use joust_schema::seed::Seed;
use joust_trainer::{GrpoTrainer, Metrics, ScoredTables, StepInfo, StepOutcome, checkpoint};

use super::evaluation::Evaluation;
use super::records;
use super::scored::{ScoredGroup, ScoredStep};
use super::state::{FinishedRun, TrainingState};
use super::step_metrics::{StepClock, scored_metrics};
use super::tables::StepTables;
use crate::config::train::TrainRun;
use crate::error::Error;
use crate::export;
use crate::observer::{Event, Observer};
use crate::run_folder::RunFolder;

/// A run in progress: the stages, their state, and the folder of the run.
pub struct Training {
    pub(super) config: TrainRun,
    pub(super) run: RunFolder,
    pub(super) seed: Seed,
    pub(super) tokenizer: Tokenizer,
    pub(super) prompts: PromptSource,
    pub(super) workers: RolloutWorkers,
    pub(super) scorer: Scorer,
    pub(super) trainer: GrpoTrainer,
    pub(super) evaluation: Option<Evaluation>,
    pub(super) state: TrainingState,
    /// The groups of the last step, for the closing summary.
    pub(super) last_groups: Vec<ScoredGroup>,
}

impl Training {
    /// Runs to the last step.
    ///
    /// # Errors
    /// The first failure of a stage, of a record or of the export; a later start resumes from the
    /// newest checkpoint.
    pub fn run(mut self, observer: &mut dyn Observer) -> Result<FinishedRun, Error> {
        let n_steps = self.config.train.steps;
        let started = Instant::now();
        observer.observe(Event::LoopStarted { step: self.state.step, n_steps });
        if self.state.step == 0 {
            let mut metrics = Metrics::new();
            self.state.accuracy_before = self.evaluate(&mut metrics)?;
            self.state.accuracy = self.state.accuracy_before;
            if !metrics.is_empty() {
                self.run.log(0, &metrics)?;
            }
        }
        while self.state.step < n_steps {
            let Some(mut metrics) = self.step(observer)? else {
                observer.observe(Event::PromptsExhausted);
                break;
            };
            let step = self.state.step;
            let is_last = step == n_steps || self.prompts.is_exhausted();
            let every = self.config.eval.every;
            if is_last || (every > 0 && step.is_multiple_of(every)) {
                self.state.accuracy = self.evaluate(&mut metrics)?.or(self.state.accuracy);
            }
            self.run.log(step, &metrics)?;
            let eval_accuracy = self.state.accuracy;
            observer.observe(Event::StepFinished {
                step,
                n_steps,
                metrics: &metrics,
                eval_accuracy,
            });
            let every = self.config.checkpoint.every as u64;
            if is_last || (every > 0 && step.is_multiple_of(every)) {
                self.save()?;
            }
        }
        observer.observe(Event::LoopFinished);
        export::write(&self.config.export, self.trainer.model(), &self.tokenizer)?;
        Ok(FinishedRun {
            dir: self.run.dir().to_owned(),
            steps: self.state.step,
            seconds: started.elapsed().as_secs_f64(),
            accuracy_before: self.state.accuracy_before,
            accuracy: self.state.accuracy,
            last_groups: self.last_groups,
        })
    }

    /// One step: sample, score, train, record. `None` if no prompts are left.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<Option<Metrics>, Error> {
        let prompts = self.prompts.next(self.config.train.prompts_per_step);
        if prompts.is_empty() {
            return Ok(None);
        }
        let step = self.state.step + 1;
        let mut clock = StepClock::start();
        let batch = self.sample(step, &prompts, observer)?;
        clock.end_part("rollout_s");
        let results = self.score(step, &batch, observer)?;
        clock.end_part("reward_s");
        let mut tables = StepTables::pack(&batch, &results)?;
        let mut metrics = self.train(step, &mut tables)?;
        clock.end_part("train_s");
        let scored = ScoredStep::new(batch, results);
        records::write(&self.run, step, &scored, &tables)?;

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

    /// Scores all groups; the results are in their order.
    fn score(
        &mut self,
        step: u64,
        batch: &RolloutBatch,
        observer: &mut dyn Observer,
    ) -> Result<Vec<GroupResult>, Error> {
        let seed = self.seed.child("reward", step);
        let requests = batch.groups.iter().map(|group| GroupRequest {
            step: step as i64,
            group_id: group.group_id.clone(),
            question: group.question.clone(),
            completions: group.completions.iter().map(|row| row.completion.clone()).collect(),
            reference: group.answer.clone(),
            seed: seed.child_str("prompt", &group.prompt_id.0),
            tournament: None,
        });
        let progress = &mut || observer.observe(Event::Progressed);
        Ok(self.scorer.score_all(requests.collect(), progress)?)
    }

    /// Updates the policy, and publishes it to the workers. The advantages go into the tables.
    fn train(&mut self, step: u64, tables: &mut StepTables) -> Result<Metrics, Error> {
        let info = StepInfo {
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

    fn evaluate(&mut self, metrics: &mut Metrics) -> Result<Option<f64>, Error> {
        let Some(evaluation) = &self.evaluation else {
            return Ok(None);
        };
        let began = Instant::now();
        let measured = evaluation.run(&mut self.workers, self.seed)?;
        metrics.insert("eval/accuracy".to_owned(), measured.accuracy);
        metrics.insert("eval/completions/mean_length".to_owned(), measured.mean_length);
        metrics.insert("time/eval_s".to_owned(), began.elapsed().as_secs_f64());
        Ok(Some(measured.accuracy))
    }

    fn save(&mut self) -> Result<(), Error> {
        let keep_last = self.config.checkpoint.keep_last;
        let step = self.state.step;
        checkpoint::save(
            &mut self.trainer,
            &self.tokenizer,
            self.run.dir(),
            step,
            &self.state,
            keep_last,
        )?;
        Ok(())
    }
}
