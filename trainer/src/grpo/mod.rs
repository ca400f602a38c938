//! Group-relative policy optimisation: scored rollouts in, one or more updates of the policy out.
//!
//! Input: the `rollouts` and `rewards` tables of one step as Arrow batches, read in place. Output:
//! the column of advantages, and the step's metrics. It does not know where rewards come from.

pub(crate) mod config;
mod fixed;
mod metrics;
mod mismatch;
mod rows;
pub(crate) mod step;
mod update;

use std::sync::Arc;

use arrow::array::Float64Array;
use joust_engine::Decoder;

use crate::advantage::advantages;
use crate::error::Error;
use crate::learner::Learner;
use crate::objective::{PolicyLoss, SamplerNumbers};
use config::GrpoConfig;
use fixed::{FixedLogprobs, row_logprobs};
use metrics::{UpdateSums, reward_metrics};
use rows::{ScoredColumns, TrainingRow};
use step::{ScoredTables, StepInfo, StepOutcome};
use update::PolicyUpdater;

/// The policy in training.
pub struct GrpoTrainer {
    pub(crate) learner: Learner,
    config: GrpoConfig,
    loss: PolicyLoss,
    reference: Option<Decoder>,
}

impl GrpoTrainer {
    /// Takes the policy with f32 master weights, and the reference where the loss needs one.
    /// `sampler`: whether completions are sampled in the number format of training.
    ///
    /// # Errors
    /// [`Error::Config`] with the first thing that is wrong with the settings.
    pub fn new(
        policy: Decoder,
        reference: Option<Decoder>,
        config: &GrpoConfig,
        steps: u64,
        sampler: SamplerNumbers,
    ) -> Result<Self, Error> {
        if let Some(problem) = config.validate().into_iter().next() {
            return Err(Error::Config(problem));
        }
        if config.has_reference() && reference.is_none() {
            let text = "loss.kl.weight is above 0, which needs a reference model";
            return Err(Error::Config(text.to_owned()));
        }
        let learner = Learner::new(policy, &config.learner, config.n_updates(steps));
        let loss = config.loss.loss(sampler);
        Ok(Self { learner, config: config.clone(), loss, reference })
    }

    /// The policy.
    pub fn model(&self) -> &Decoder {
        &self.learner.model
    }

    /// Number of updates made so far.
    pub fn n_updates(&self) -> u64 {
        self.learner.optimizer.n_updates()
    }

    /// Learns from one step's scored rollouts.
    ///
    /// A completion without a reward has the advantage 0, as in TRL: it counts in the denominators
    /// of the loss and in the divergence from the reference. Where no group prefers one completion
    /// to another there is nothing to learn: no update is made, and the schedule goes on.
    ///
    /// # Errors
    /// [`Error::Batch`] where the tables do not fit together, [`Error::NotFinite`],
    /// [`Error::BadWeights`].
    pub fn step(
        &mut self,
        tables: &ScoredTables<'_>,
        info: &StepInfo,
    ) -> Result<StepOutcome, Error> {
        let columns = ScoredColumns::open(tables)?;
        let masked = self.masked(&columns);
        let GrpoConfig { baseline, scale_rewards, .. } = self.config;
        let mut advantages =
            advantages(&columns.rewards(), columns.groups, baseline, scale_rewards);
        let needs_behaviour = self.loss.correction.is_some();
        let rows = columns.training_rows(&advantages, &masked, needs_behaviour)?;
        let sums = self.make_updates(&rows, info)?;
        let unused = advantages.iter_mut().zip(masked).filter(|(_, is_masked)| *is_masked);
        unused.for_each(|(advantage, _)| *advantage = None);
        let mut metrics = reward_metrics(&columns);
        metrics.extend(sums.metrics(self.config.has_reference()));
        Ok(StepOutcome { advantages: Arc::new(Float64Array::from(advantages)), metrics })
    }

    /// Row by row, whether the completion is taken out of the loss because it was truncated. Its
    /// reward counts in its group's mean all the same, and the row in the number of rows.
    fn masked(&self, columns: &ScoredColumns<'_>) -> Vec<bool> {
        let is_on = self.config.mask_truncated_completions;
        columns.ended().into_iter().map(|ended| is_on && !ended).collect()
    }

    /// All passes over the rows of a step.
    fn make_updates(
        &mut self,
        rows: &[TrainingRow<'_>],
        info: &StepInfo,
    ) -> Result<UpdateSums, Error> {
        let loss = self.loss;
        if rows.iter().all(|row| row.advantage == 0.0) && !loss.learns_without_advantage() {
            return Ok(UpdateSums::default());
        }
        let n_passes = self.config.num_iterations;
        let n_updates = self.config.updates_per_pass.min(rows.len());
        let fixed = self.fixed_logprobs(rows, n_passes * n_updates, info)?;
        let first = self.config.n_updates(info.step.saturating_sub(1));
        let mut updater = PolicyUpdater::new(&mut self.learner, loss, rows, fixed, info, n_updates);
        for pass in 0..n_passes {
            let order = match n_updates {
                1 => (0..rows.len()).collect(),
                _ => info.seed.child("pass", pass as u64).permutation(rows.len()),
            };
            let start = |update: usize| update * order.len() / n_updates;
            for update in 0..n_updates {
                // by step: an earlier step without an update does not delay the schedule
                let place = first + (pass * self.config.updates_per_pass + update) as u64;
                updater.update(&order[start(update)..start(update + 1)], place)?;
            }
        }
        Ok(updater.into_sums())
    }

    fn fixed_logprobs(
        &self,
        rows: &[TrainingRow<'_>],
        n_updates: usize,
        info: &StepInfo,
    ) -> Result<FixedLogprobs, Error> {
        let under = |model: &Decoder| row_logprobs(&self.learner, model, rows, info.temperature);
        let mut fixed = FixedLogprobs::default();
        if n_updates > 1 {
            fixed.old = Some(under(&self.learner.model)?);
        }
        if let Some(reference) = &self.reference {
            fixed.reference = Some(under(reference)?);
        }
        Ok(fixed)
    }
}

#[cfg(test)]
mod tests;
