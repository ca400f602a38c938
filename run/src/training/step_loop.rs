//! The loop of `joust train`: prompts → rollouts → rewards → updates → new weights, step by step.
//!
//! It connects the stages and keeps their records; what happens inside a stage is the stage's.

use std::time::Instant;

use joust_engine::Tokenizer;
use joust_reward::{GroupRequest, GroupResult, Scorer};
use joust_rollout::{GenerateRequest, PromptSource, RolloutBatch, RolloutWorkers};
use joust_schema::ids::PolicyVersion;
use joust_schema::seed::Seed;
use joust_schema::table::{Table as _, replace_column};
use joust_schema::tables::Reward;
use joust_trainer::{GrpoTrainer, Metrics, ScoredTables, StepInfo, StepOutcome, checkpoint};

use super::evaluation::Evaluation;
use super::records;
use super::state::{FinishedRun, TrainingState};
use crate::config::train::TrainRun;
use crate::error::Error;
use crate::export;
use crate::observer::{Event, Observer};
use crate::run_folder::RunFolder;

/// Everything a run works with.
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
    /// The last step's groups, for the closing summary.
    pub(super) last: Option<(RolloutBatch, Vec<GroupResult>)>,
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
            last_step: self.last,
        })
    }

    /// One step; `None` where no prompts are left.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<Option<Metrics>, Error> {
        let prompts = self.prompts.next(self.config.train.prompts_per_step);
        if prompts.is_empty() {
            return Ok(None);
        }
        let step = self.state.step + 1;
        let began = Instant::now();
        let request = GenerateRequest {
            step: step as i64,
            policy_version: PolicyVersion(self.trainer.n_updates() as i64),
            prompts: &prompts,
            seed: self.seed,
            group_size: None,
            temperature: None,
        };
        let batch =
            self.workers.generate(&request, &mut |_| observer.observe(Event::Progressed))?;
        let rollout_s = began.elapsed().as_secs_f64();
        for dropped in &batch.dropped {
            tracing::warn!(prompt_id = %dropped.prompt_id, reason = %dropped.reason, "A prompt was dropped.");
        }
        // later in a run, one prompt that is too long must not stop what works
        let is_new = self.state.num_tokens == 0;
        if let (true, true, Some(first)) = (is_new, batch.groups.is_empty(), batch.dropped.first())
        {
            let text = format!(
                "step {step}: none of {} prompts can be sampled from; prompt {}: {}",
                batch.dropped.len(),
                first.prompt_id,
                first.reason
            );
            return Err(Error::input(text));
        }

        let began_reward = Instant::now();
        let groups = batch.groups.iter().map(|group| GroupRequest {
            step: step as i64,
            group_id: group.group_id.clone(),
            question: group.question.clone(),
            completions: group.completions.iter().map(|row| row.completion.clone()).collect(),
            reference: group.answer.clone(),
            seed: self.seed.child("reward", step).child_str("prompt", &group.prompt_id.0),
            tournament: None,
        });
        let results = self
            .scorer
            .score_all(groups.collect(), &mut |_| observer.observe(Event::Progressed))?;
        let reward_s = began_reward.elapsed().as_secs_f64();

        let began_train = Instant::now();
        let rollouts = batch.to_arrow()?;
        let rewards: Vec<&Reward> = results.iter().flat_map(|result| &result.rewards).collect();
        let rewards = Reward::to_batch(&rewards)?;
        let groups = batch.group_rows();
        let tables = ScoredTables { rollouts: &rollouts, rewards: &rewards, groups: &groups };
        let info = StepInfo {
            seed: self.seed.child("train", step),
            temperature: self.config.rollout.temperature,
            max_completion_length: self.config.rollout.max_completion_length,
        };
        let StepOutcome { advantages, mut metrics } = self.trainer.step(&tables, &info)?;
        let rewards = replace_column(&rewards, "advantage", advantages)?;
        self.workers.publish(self.trainer.model())?;
        let train_s = began_train.elapsed().as_secs_f64();

        let rewards = Reward::from_batch(&rewards)?;
        records::write(&self.run, step, &batch, &rewards, &results)?;
        self.state.step = step;
        self.state.cursor = self.prompts.cursor();
        self.state.num_tokens += batch.n_tokens as u64;
        metrics.extend(records::metrics(&batch, &results));
        let times = [("rollout_s", rollout_s), ("reward_s", reward_s), ("train_s", train_s)];
        metrics.extend(times.map(|(name, value)| (format!("time/{name}"), value)));
        let step_time = began.elapsed().as_secs_f64();
        metrics.insert("step_time".to_owned(), step_time);
        metrics.insert("num_tokens".to_owned(), self.state.num_tokens as f64);
        let n_tokens = batch.n_tokens as f64 + metrics.get("judge/tokens").copied().unwrap_or(0.0);
        metrics.insert("tokens_per_second".to_owned(), n_tokens / step_time);
        self.last = Some((batch, results));
        Ok(Some(metrics))
    }

    fn evaluate(&mut self, metrics: &mut Metrics) -> Result<Option<f64>, Error> {
        let Some(evaluation) = &self.evaluation else {
            return Ok(None);
        };
        let began = Instant::now();
        let found = evaluation.run(&mut self.workers, self.seed)?;
        metrics.insert("eval/accuracy".to_owned(), found.accuracy);
        metrics.insert("eval/completions/mean_length".to_owned(), found.mean_length);
        metrics.insert("time/eval_s".to_owned(), began.elapsed().as_secs_f64());
        Ok(Some(found.accuracy))
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
