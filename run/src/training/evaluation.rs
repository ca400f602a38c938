//! Measurement of a policy: completions of held-out prompts against their known answers.

use std::time::Instant;

use joust_dist::Collectives;
use joust_reward::rule;
use joust_rollout::{
    DroppedPrompt, GenerateRequest, PromptRow, PromptSource, PromptsConfig, Sampler,
};
use joust_schema::ids::PolicyVersion;
use joust_schema::prompt::PromptUse;
use joust_schema::seed::Seed;
use joust_trainer::Metrics;

use super::exchange::{self, own_prompts};
use super::scored::answer_text;
use crate::config::train::TrainRun;
use crate::error::Error;
use crate::observer::{Event, Observer};
use crate::stop::StopSwitch;

/// Held-out prompts, and the settings of sampling.
pub(crate) struct Evaluation {
    prompts: Vec<PromptRow>,
    samples: u32,
    temperature: f64,
}

/// The result of a measurement.
pub(crate) struct EvaluationResult {
    /// Share of correct completions.
    pub(crate) accuracy: f64,
    pub(crate) metrics: Metrics,
    n_prompts: usize,
    /// Prompts that could not be sampled from. They count as wrong.
    dropped: Vec<DroppedPrompt>,
}

impl EvaluationResult {
    /// Tells what was measured after `step`.
    ///
    /// # Errors
    /// [`Error::Input`] where not one prompt can be sampled from at the start of the run: later
    /// measurements would say nothing either.
    pub(crate) fn tell(&self, step: u64, observer: &mut dyn Observer) -> Result<(), Error> {
        if let Some(DroppedPrompt { prompt_id, reason }) = self.dropped.first() {
            let n_dropped = self.dropped.len();
            if step == 0 && n_dropped == self.n_prompts {
                return Err(Error::input(format!(
                    "eval.path: none of {n_dropped} held-out prompts can be sampled from; prompt \
                     {prompt_id}: {reason}"
                )));
            }
            observer.observe(Event::HeldOutPromptsDropped { n_dropped, prompt_id, reason })?;
        }
        observer.observe(Event::Evaluated { step, metrics: &self.metrics })
    }
}

/// Refuses a file of prompts that lack known answers.
pub(super) fn check_answers(config: &PromptsConfig, rows: &[PromptRow]) -> Result<(), Error> {
    let mut without = rows.iter().filter(|row| row.answer.is_none());
    let Some(first) = without.next() else { return Ok(()) };
    Err(Error::input(format!(
        "{}: {} of {} prompts have no answer, first prompt {}; wanted a text or a number in column \
         `{}` (prompts.answer_column)",
        config.path.display(),
        1 + without.count(),
        rows.len(),
        first.prompt_id,
        config.answer_column
    )))
}

impl Evaluation {
    /// Reads the held-out prompts; `None` if the config names no file.
    pub(crate) fn open(config: &TrainRun) -> Result<Option<Self>, Error> {
        let Some(path) = &config.eval.path else {
            return Ok(None);
        };
        let prompts = PromptsConfig {
            path: path.clone(),
            prompt_column: config.prompts.prompt_column.clone(),
            answer_column: config.prompts.answer_column.clone(),
            id_column: config.prompts.id_column.clone(),
            shuffle: false,
            epochs: 1,
            max_prompts: config.eval.max_prompts,
        };
        let source = PromptSource::open(&prompts, PromptUse::Answers, Seed::new(0))
            .map_err(|error| Error::in_prompts_of("eval.path", error))?;
        let rows = source.rows().to_vec();
        check_answers(&prompts, &rows)?;
        let prompts = rows;
        let temperature = config.eval.temperature.unwrap_or(config.rollout.temperature);
        Ok(Some(Self { prompts, samples: config.eval.samples, temperature }))
    }

    /// Samples completions of every prompt, each rank of its part. The draws are the same at every
    /// step. `None` where a stop broke it off on any rank.
    pub(crate) fn run(
        &self,
        sampler: &mut dyn Sampler,
        seed: Seed,
        stop: &StopSwitch,
        ranks: &Collectives,
    ) -> Result<Option<EvaluationResult>, Error> {
        let began = Instant::now();
        let prompts = own_prompts(ranks, &self.prompts);
        let request = GenerateRequest {
            step: 0,
            policy_version: PolicyVersion(0),
            prompts: &prompts,
            n_groups_before: ranks.world().rank,
            group_stride: ranks.world().size,
            seed: seed.child("eval", 0),
            group_size: Some(self.samples),
            temperature: Some(self.temperature),
            cancelled: Some(stop.flag()),
            stop: None,
        };
        let own = match sampler.generate(&request, &mut |_| {}) {
            Err(joust_rollout::Error::Cancelled) => None,
            batch => Some(batch?),
        };
        if ranks.any(own.is_none())? {
            return Ok(None);
        }
        let batch = exchange::of_all_ranks(ranks, &prompts, own.unwrap_or_default())?;
        // prompts that were dropped count as wrong
        let n_wanted = self.prompts.len() * self.samples as usize;
        let n_correct = batch
            .groups
            .iter()
            .flat_map(|group| {
                let answer = group.answer.as_deref().unwrap_or_default();
                group.completions.iter().filter(|row| rule::is_correct(&answer_text(row), answer))
            })
            .count();
        let accuracy = n_correct as f64 / n_wanted as f64;
        let metrics = [
            ("eval/accuracy", accuracy),
            ("eval/completions/mean_length", batch.n_tokens as f64 / n_wanted as f64),
            ("eval/dropped_prompts", batch.dropped.len() as f64),
            ("time/eval_s", began.elapsed().as_secs_f64()),
        ];
        Ok(Some(EvaluationResult {
            accuracy,
            metrics: metrics.map(|(name, value)| (name.to_owned(), value)).into(),
            n_prompts: self.prompts.len(),
            dropped: batch.dropped,
        }))
    }
}
