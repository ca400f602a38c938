//! Group-relative policy optimisation: scored rollouts in, one or more updates of the policy out.
//!
//! Input: the `rollouts` and `rewards` tables of one step as Arrow batches. Output: the `rewards`
//! table with advantages, and the step's figures. It does not know where rewards come from.

mod config;
mod figures;
mod rows;

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use joust_engine::Decoder;
use joust_schema::ids::GroupId;
use joust_schema::seed::Seed;
use joust_schema::table::Table as _;
use joust_schema::tables::{Reward, Rollout};
use tch::{Kind, Tensor};

use crate::Metrics;
use crate::advantage::advantages;
use crate::batch::{Batch, Row};
use crate::error::Error;
use crate::forward::token_logprobs;
use crate::learner::{Learner, LearnerConfig};
use crate::loss::{LossInputs, Normalizer, policy_loss};
use crate::pack::micro_batches;
pub use config::GrpoConfig;
use figures::{Sums, reward_metrics};
use rows::{Trainee, mask_truncated, trainees};

/// What the trainer must know about how a step's completions were sampled.
#[derive(Clone, Copy, Debug)]
pub struct StepInfo {
    /// Key of the step's shuffles.
    pub seed: Seed,
    /// Temperature that completions were sampled with.
    pub temperature: f64,
    /// Limit on their length.
    pub max_completion_length: usize,
}

/// Log-probabilities that stay fixed while the policy moves, a trainee each.
#[derive(Default)]
struct Fixed {
    old: Option<Vec<Tensor>>,
    reference: Option<Vec<Tensor>>,
}

/// The policy in training.
pub struct GrpoTrainer {
    pub(crate) learner: Learner,
    config: GrpoConfig,
    reference: Option<Decoder>,
}

impl GrpoTrainer {
    /// Takes the policy with f32 master weights, and the reference where β > 0 needs one.
    ///
    /// # Errors
    /// [`Error::Config`] with the first thing that is wrong with the settings.
    pub fn new(
        policy: Decoder,
        reference: Option<Decoder>,
        config: &GrpoConfig,
        steps: u64,
    ) -> Result<Self, Error> {
        if let Some(problem) = config.validate().into_iter().next() {
            return Err(Error::Config(problem));
        }
        if config.beta > 0.0 && reference.is_none() {
            return Err(Error::Config("beta is above 0, which needs a reference model".to_owned()));
        }
        let learner = Learner::new(policy, &config.learner, config.n_updates(steps));
        Ok(Self { learner, config: config.clone(), reference })
    }

    /// The policy.
    pub fn model(&self) -> &Decoder {
        &self.learner.model
    }

    /// Updates made so far.
    pub fn n_updates(&self) -> u64 {
        self.learner.optimizer.n_updates()
    }

    /// Learns from one step's scored rollouts. Returns the rewards with their advantages and the
    /// step's figures.
    ///
    /// Completions without a reward take no part. Where no group prefers one completion to another
    /// there is nothing to learn: no update is made.
    ///
    /// # Errors
    /// [`Error::Batch`] where the two tables do not fit together, [`Error::NotFinite`].
    pub fn step(
        &mut self,
        rollouts: &RecordBatch,
        rewards: &RecordBatch,
        info: &StepInfo,
    ) -> Result<(RecordBatch, Metrics), Error> {
        let rollouts = Rollout::from_batch(rollouts)?;
        let mut rewards = Reward::from_batch(rewards)?;
        let mut metrics = reward_metrics(&rollouts, &rewards);
        self.assign_advantages(&mut rewards);
        if self.config.mask_truncated_completions {
            mask_truncated(&rollouts, &mut rewards)?;
        }
        let trainees = trainees(&rollouts, &rewards)?;
        let sums = self.updates(&trainees, info)?;
        metrics.extend(sums.metrics(self.config.beta > 0.0));
        Ok((Reward::to_batch(&rewards)?, metrics))
    }

    fn assign_advantages(&self, rewards: &mut [Reward]) {
        let mut rows_of: BTreeMap<GroupId, Vec<usize>> = BTreeMap::new();
        for (row, reward) in rewards.iter().enumerate() {
            rows_of.entry(reward.group_id.clone()).or_default().push(row);
        }
        let groups: Vec<Vec<Option<f64>>> = rows_of
            .values()
            .map(|rows| rows.iter().map(|&row| rewards[row].reward).collect())
            .collect();
        let found = advantages(&groups, self.config.scale_rewards);
        for (rows, advantages) in rows_of.values().zip(found) {
            for (&row, advantage) in rows.iter().zip(advantages) {
                rewards[row].advantage = advantage;
            }
        }
    }

    fn updates(&mut self, trainees: &[Trainee], info: &StepInfo) -> Result<Sums, Error> {
        let mut sums = Sums::default();
        if trainees.iter().all(|trainee| trainee.advantage == 0.0) && self.config.beta == 0.0 {
            return Ok(sums);
        }
        let n_passes = self.config.num_iterations;
        let n_updates = self.config.updates_per_pass.min(trainees.len());
        let mut fixed = Fixed::default();
        if n_passes * n_updates > 1 {
            let compute = self.learner.compute;
            fixed.old =
                Some(self.without_gradients(&self.learner.model, compute, trainees, info)?);
        }
        if let Some(reference) = &self.reference {
            let compute = self.learner.compute;
            fixed.reference = Some(self.without_gradients(reference, compute, trainees, info)?);
        }
        for pass in 0..n_passes {
            let order = match n_updates {
                1 => (0..trainees.len()).collect(),
                _ => info.seed.child("pass", pass as u64).permutation(trainees.len()),
            };
            for update in 0..n_updates {
                let share = |part: usize| part * order.len() / n_updates;
                let rows = &order[share(update)..share(update + 1)];
                let is_first = pass == 0 && update == 0;
                self.update(trainees, rows, &fixed, info, is_first, &mut sums)?;
            }
        }
        Ok(sums)
    }

    /// One update on the trainees `rows`.
    fn update(
        &mut self,
        trainees: &[Trainee],
        rows: &[usize],
        fixed: &Fixed,
        info: &StepInfo,
        is_first: bool,
        sums: &mut Sums,
    ) -> Result<(), Error> {
        let by = Normalizer {
            n_rows: rows.len(),
            n_tokens: rows.iter().map(|&row| trainees[row].row.completion.len()).sum(),
            max_completion_length: info.max_completion_length,
        };
        // without a reference, a completion with advantage 0 has gradient 0: it counts in the
        // denominators but need not be computed
        let needed: Vec<usize> = rows
            .iter()
            .copied()
            .filter(|&row| trainees[row].advantage != 0.0 || self.reference.is_some())
            .collect();
        if needed.is_empty() {
            return Ok(());
        }
        let lengths: Vec<usize> = needed.iter().map(|&row| trainees[row].row.n_tokens()).collect();
        let LearnerConfig { micro_batch_rows, micro_batch_tokens, .. } = self.learner.config;
        for part in micro_batches(&lengths, micro_batch_rows, micro_batch_tokens) {
            let part: Vec<usize> = part.into_iter().map(|idx| needed[idx]).collect();
            let part_rows: Vec<&Row> = part.iter().map(|&row| &trainees[row].row).collect();
            let device = self.learner.model.device();
            let batch = Batch::new(&part_rows, device);
            let tokens = token_logprobs(
                &self.learner.model,
                &batch,
                self.learner.compute,
                info.temperature,
            )?;
            let spread = |values: &Option<Vec<Tensor>>| {
                let values = values.as_ref()?;
                let flat: Vec<&Tensor> = part.iter().map(|&row| &values[row]).collect();
                Some(batch.spread(&Tensor::cat(&flat, 0)))
            };
            let advantages: Vec<f32> =
                part.iter().map(|&row| trainees[row].advantage as f32).collect();
            let loss = policy_loss(
                &LossInputs {
                    logprobs: &batch.spread(&tokens.logprobs),
                    old_logprobs: spread(&fixed.old).as_ref(),
                    reference_logprobs: spread(&fixed.reference).as_ref(),
                    mask: &batch.mask,
                    advantages: &Tensor::from_slice(&advantages).to_device(device).unsqueeze(1),
                },
                &self.config.loss(),
                &by,
            );
            sums.loss += self.learner.accumulate(&loss.loss)?;
            sums.n_tokens += tokens.entropies.numel() as f64;
            sums.entropy += tokens.entropies.sum(Kind::Double).double_value(&[]);
            sums.kl += loss.kl_sum.unwrap_or(0.0);
            sums.clipped_low += loss.n_clipped_low;
            sums.clipped_high += loss.n_clipped_high;
            if is_first && info.temperature == 1.0 {
                let sampled: Vec<f32> =
                    part.iter().flat_map(|&row| trainees[row].sampled_logprobs.clone()).collect();
                sums.compare(&tokens.logprobs, &sampled);
            }
        }
        let (lr, grad_norm) = self.learner.update()?;
        sums.lr = lr;
        sums.grad_norm += grad_norm;
        sums.n_updates += 1.0;
        Ok(())
    }

    /// Log-probabilities of every trainee's completion under `model`: [completion length] each.
    fn without_gradients(
        &self,
        model: &Decoder,
        compute: Kind,
        trainees: &[Trainee],
        info: &StepInfo,
    ) -> Result<Vec<Tensor>, Error> {
        let _guard = tch::no_grad_guard();
        let lengths: Vec<usize> = trainees.iter().map(|trainee| trainee.row.n_tokens()).collect();
        let LearnerConfig { micro_batch_rows, micro_batch_tokens, .. } = self.learner.config;
        let mut found: Vec<Option<Tensor>> = trainees.iter().map(|_| None).collect();
        for part in micro_batches(&lengths, micro_batch_rows, micro_batch_tokens) {
            let rows: Vec<&Row> = part.iter().map(|&row| &trainees[row].row).collect();
            let batch = Batch::new(&rows, model.device());
            let tokens = token_logprobs(model, &batch, compute, info.temperature)?;
            let sizes: Vec<i64> = rows.iter().map(|row| row.completion.len() as i64).collect();
            let parts = tokens.logprobs.split_with_sizes(&sizes[..], 0);
            for (row, logprobs) in part.into_iter().zip(parts) {
                found[row] = Some(logprobs);
            }
        }
        let all = "micro-batches hold every row once. This is a bug.";
        Ok(found.into_iter().map(|logprobs| logprobs.expect(all)).collect())
    }
}

#[cfg(test)]
mod tests;
