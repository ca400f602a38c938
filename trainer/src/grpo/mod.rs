//! Group-relative policy optimisation: scored rollouts in, one or more updates of the policy out.
//!
//! Input: the `rollouts` and `rewards` tables of one step as Arrow batches, read in place. Output:
//! the column of advantages, and the metrics of the updates. It does not know where rewards come
//! from.

pub(crate) mod config;
mod metrics;
pub(crate) mod online_dpo;
mod rows;
pub(crate) mod step;

use std::sync::Arc;
use std::time::Instant;

use arrow::array::Float64Array;
use joust_dist::Collectives;
use joust_engine::{Decoder, Precision};
use tch::Kind;

use crate::advantage::{advantages, mean, negative_reward, token_advantages};
use crate::error::Error;
use crate::learner::Learner;
use crate::metrics::Metrics;
use crate::objective::pairs::PairObjective;
use crate::objective::policy::{PolicyObjective, SampledStep};
use crate::objective::{Objective, PolicyLoss, Preset, SamplerNumbers};
use crate::reference::Reference;
use crate::sample::TrainingSample;
use crate::seconds::TrainSeconds;
use crate::weights::first::FirstWeights;
use config::GrpoConfig;
use metrics::UpdateSums;
use online_dpo::{OnlineDpo, sides};
use rows::ScoredColumns;
use step::{ScoredTables, StepInfo, StepOutcome};

/// The policy in training.
pub struct GrpoTrainer {
    pub(crate) learner: Learner,
    config: GrpoConfig,
    loss: PolicyLoss,
    pub(crate) reference: Option<Reference>,
}

impl GrpoTrainer {
    /// Takes the policy with f32 master weights, and the reference where the loss needs one.
    /// `sampler`: whether completions are sampled in the number format of training. `ranks`: the
    /// processes that train together; each is given the same tables, and computes its share.
    ///
    /// # Errors
    /// [`Error::Config`] with the first thing that is wrong with the settings.
    pub fn new(
        policy: impl Into<FirstWeights>,
        reference: Option<FirstWeights>,
        config: &GrpoConfig,
        steps: u64,
        sampler: SamplerNumbers,
        ranks: Arc<Collectives>,
    ) -> Result<Self, Error> {
        if let Some(problem) = config.validate().into_iter().next() {
            return Err(Error::Config(problem));
        }
        if config.has_reference() && reference.is_none() {
            let text = "loss.kl.weight is above 0 or online_dpo is set, which needs a reference";
            return Err(Error::Config(text.to_owned()));
        }
        let policy = policy.into();
        let compute = config.learner.compute_kind(&policy);
        let learner = Learner::new(policy, &config.learner, config.n_updates(steps), ranks)?;
        let loss = config.loss.loss(sampler);
        let frozen = |first| learner.weights.frozen(first, compute, &learner.ranks);
        let reference = reference.map(frozen).transpose()?;
        let reference = reference.map(|model| Reference::new(model, config.sync_ref_model));
        Ok(Self { learner, config: config.clone(), loss, reference })
    }

    /// The policy with the weights that passes compute with. With weights in parts
    /// ([`crate::ShardStage::Zero3`]) it has constants and shapes alone: see
    /// [`GrpoTrainer::published`].
    pub fn policy(&self) -> &Decoder {
        self.learner.model()
    }

    /// The policy with all its weights, for samplers that compute in `precision`: that of
    /// [`GrpoTrainer::policy`], or, where its weights are in parts, a copy, whose memory
    /// [`GrpoTrainer::published`] writes to. All ranks call it together.
    ///
    /// # Errors
    /// [`Error::Engine`] for lack of memory, [`Error::Ranks`].
    pub fn publish_in(&mut self, precision: Precision) -> Result<Decoder, Error> {
        self.learner.weights.publish_in(precision, &self.learner.ranks)
    }

    /// The policy of [`GrpoTrainer::publish_in`] with the weights of now. All ranks call it
    /// together.
    ///
    /// # Errors
    /// [`Error::Engine`] for weights that cannot be quantised, [`Error::Ranks`].
    pub fn published(&self) -> Result<Decoder, Error> {
        self.learner.weights.published(&self.learner.ranks)
    }

    /// Number of updates made so far.
    pub fn n_updates(&self) -> u64 {
        self.learner.optimizer.n_updates()
    }

    /// Number format of the activations.
    pub fn compute_kind(&self) -> Kind {
        self.learner.plan.compute
    }

    /// Seconds spent so far, by part.
    pub fn seconds(&self) -> TrainSeconds {
        self.learner.seconds
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
        let (mut advantages, metrics) = match self.config.online_dpo {
            Some(online_dpo) => self.learn_from_pairs(online_dpo, &columns, &masked, info)?,
            None => self.learn_from_advantages(&columns, &masked, info)?,
        };
        if let Some(reference) = &self.reference {
            reference.refresh(|| self.learner.own_values(&reference.model), info.step)?;
        }
        let unused = advantages.iter_mut().zip(masked).filter(|(_, is_masked)| *is_masked);
        unused.for_each(|(advantage, _)| *advantage = None);
        Ok(StepOutcome { advantages: Arc::new(Float64Array::from(advantages)), metrics })
    }

    /// Row by row, whether the completion is taken out of the loss because it was truncated. Its
    /// reward counts in its group's mean all the same, and the row in the number of rows.
    fn masked(&self, columns: &ScoredColumns<'_>) -> Vec<bool> {
        let is_on = self.config.mask_truncated_completions;
        columns.ended().into_iter().map(|ended| is_on && !ended).collect()
    }

    /// The updates of the policy loss: advantages row by row, and metrics.
    fn learn_from_advantages(
        &mut self,
        columns: &ScoredColumns<'_>,
        masked: &[bool],
        info: &StepInfo,
    ) -> Result<(Vec<Option<f64>>, Metrics), Error> {
        let needs_behaviour = self.loss.correction.is_some();
        let mut samples = columns.samples(masked, needs_behaviour)?;
        let n_updates = self.config.updates_per_pass.min(samples.len());
        let n_updates_of_step = self.config.num_iterations * n_updates;
        if self.loss.kl.is_in_reward() {
            self.fix_numbers(&mut samples, n_updates_of_step, info)?;
        }
        let advantages = self.set_advantages(&mut samples, columns)?;
        let has_advantage = samples.iter().any(TrainingSample::has_advantage);
        if !has_advantage && !self.loss.learns_without_advantage() {
            return Ok((advantages, UpdateSums::default().metrics()));
        }
        if !self.loss.kl.is_in_reward() {
            self.fix_numbers(&mut samples, n_updates_of_step, info)?;
        }
        let n_trained: usize = samples.iter().map(TrainingSample::n_trained).sum();
        let step = SampledStep {
            temperature: info.temperature,
            max_completion_length: info.max_completion_length,
            n_tokens_per_update: n_trained as f64 / n_updates.max(1) as f64,
        };
        let mut objective = PolicyObjective::new(self.loss, step);
        let units: Vec<&[TrainingSample]> = samples.chunks(1).collect();
        let sums = self.make_updates(&units, &mut objective, info)?;
        let mut metrics = sums.metrics();
        if sums.has_updates() {
            objective.reduce(&self.learner.ranks)?;
            metrics.extend(objective.metrics(self.config.has_reference()));
        }
        if self.loss.kl.is_in_reward() {
            // what was taken out of the rewards, of all tokens
            let penalties = self.penalties(&samples);
            let sum: f64 = penalties.iter().flatten().sum();
            let n_tokens = penalties.iter().map(Vec::len).sum::<usize>().max(1) as f64;
            metrics.insert("kl".to_owned(), sum / n_tokens / self.loss.kl.weight);
        }
        Ok((advantages, metrics))
    }

    /// What is taken out of the reward at each trained token.
    fn penalties(&self, samples: &[TrainingSample]) -> Vec<Vec<f64>> {
        let of_sample = |sample: &TrainingSample| match (&sample.old, &sample.reference) {
            (Some(old), Some(reference)) => self.loss.kl.penalties(old, reference),
            _ => Vec::new(),
        };
        samples.iter().map(of_sample).collect()
    }

    /// Makes advantages of rewards, and returns them row by row; of a row whose tokens have their
    /// own, it is their mean.
    fn set_advantages(
        &self,
        samples: &mut [TrainingSample],
        columns: &ScoredColumns<'_>,
    ) -> Result<Vec<Option<f64>>, Error> {
        let rule = self.config.advantage_rule();
        let mut rewards = columns.rewards();
        if let Some(reward) = negative_reward(&rewards, rule) {
            let text = format!(
                "a reward is {reward}, wanted at least 0 for trainer.scale_rewards = \"mean\" \
                 (max_rl): a mean around 0 is no divisor"
            );
            return Err(Error::Batch(text));
        }
        if self.loss.kl.is_in_reward() {
            let penalties = self.penalties(samples);
            if rule == Preset::ReinforcePlusPlus.advantage_rule() {
                let of_tokens = token_advantages(&rewards, &penalties);
                return Ok(set_token_advantages(samples, of_tokens));
            }
            let rows = rewards.iter_mut().zip(penalties);
            rows.for_each(|(reward, penalties)| {
                *reward = reward.map(|reward| reward - penalties.iter().sum::<f64>());
            });
        }
        let n_trained: Vec<usize> = samples.iter().map(TrainingSample::n_trained).collect();
        let advantages = advantages(&rewards, &n_trained, columns.groups, rule);
        let rows = samples.iter_mut().zip(&advantages);
        rows.for_each(|(sample, advantage)| sample.advantage = advantage.unwrap_or(0.0));
        Ok(advantages)
    }

    /// The updates of online preference optimisation: the side of each completion of a pair as an
    /// advantage of 1 or −1, and metrics.
    fn learn_from_pairs(
        &mut self,
        online_dpo: OnlineDpo,
        columns: &ScoredColumns<'_>,
        masked: &[bool],
        info: &StepInfo,
    ) -> Result<(Vec<Option<f64>>, Metrics), Error> {
        let rewards = columns.rewards().into_iter().zip(masked);
        let rewards: Vec<Option<f64>> =
            rewards.map(|(reward, is_masked)| reward.filter(|_| !is_masked)).collect();
        let sides = sides(&rewards, columns.groups);
        let mut samples = columns.samples(masked, false)?;
        let rows = samples.iter_mut().zip(&sides);
        rows.for_each(|(sample, side)| sample.advantage = side.unwrap_or(0.0));
        samples.retain(|sample| sample.advantage != 0.0);
        if samples.is_empty() {
            return Ok((sides, UpdateSums::default().metrics()));
        }
        self.fix_reference(&mut samples, 1.0)?;
        let mut objective = PairObjective::new(online_dpo.pair_loss());
        let units: Vec<&[TrainingSample]> = samples.chunks(2).collect();
        let sums = self.make_updates(&units, &mut objective, info)?;
        objective.reduce(&self.learner.ranks)?;
        let mut metrics = sums.metrics();
        metrics.extend(objective.metrics());
        Ok((sides, metrics))
    }

    /// All passes over the samples of a step, of which those of a unit are in the same update.
    fn make_updates(
        &mut self,
        units: &[&[TrainingSample]],
        objective: &mut dyn Objective,
        info: &StepInfo,
    ) -> Result<UpdateSums, Error> {
        let n_updates = self.config.updates_per_pass.min(units.len());
        let mut sums = UpdateSums::default();
        let first = self.config.n_updates(info.step.saturating_sub(1));
        for pass in 0..self.config.num_iterations {
            let order = match n_updates {
                1 => (0..units.len()).collect(),
                _ => info.seed.child("pass", pass as u64).permutation(units.len()),
            };
            let start = |update: usize| update * order.len() / n_updates;
            for update in 0..n_updates {
                let selected = &order[start(update)..start(update + 1)];
                let selected: Vec<_> = selected.iter().flat_map(|&unit| units[unit]).collect();
                // none where no gradient can come of the samples
                let Some(loss) = self.learner.pass(&selected, objective)? else { continue };
                // by step: an earlier step without an update does not delay the schedule
                let place = first + (pass * self.config.updates_per_pass + update) as u64;
                let (lr, grad_norm) = self.learner.update(place)?;
                objective.policy_has_moved();
                sums.add(loss, grad_norm, lr);
            }
        }
        Ok(sums)
    }

    /// Computes what stays fixed while the policy moves: the log-probabilities of the policy before
    /// the step's first update, if there are several or its rewards need them, those of the
    /// reference, and the choice of tokens by their entropy.
    fn fix_numbers(
        &mut self,
        samples: &mut [TrainingSample],
        n_updates: usize,
        info: &StepInfo,
    ) -> Result<(), Error> {
        let started = Instant::now();
        let learner = &self.learner;
        if n_updates > 1 || self.loss.kl.is_in_reward() {
            let old = learner.logprobs(samples, info.temperature)?;
            let rows = samples.iter_mut().zip(old);
            rows.for_each(|(sample, logprobs)| sample.old = Some(logprobs));
        }
        if self.loss.entropy.selects() {
            let kept = self.loss.entropy.kept(&learner.entropies(samples, info.temperature)?);
            samples.iter_mut().zip(kept).for_each(|(sample, kept)| sample.kept = Some(kept));
        }
        self.learner.seconds.fixed_s += started.elapsed().as_secs_f64();
        self.fix_reference(samples, info.temperature)
    }

    /// Computes the log-probabilities of the reference, where there is one.
    fn fix_reference(
        &mut self,
        samples: &mut [TrainingSample],
        temperature: f64,
    ) -> Result<(), Error> {
        let Some(reference) = &self.reference else { return Ok(()) };
        let started = Instant::now();
        let logprobs = self.learner.reference_logprobs(&reference.model, samples, temperature)?;
        let rows = samples.iter_mut().zip(logprobs);
        rows.for_each(|(sample, logprobs)| sample.reference = Some(logprobs));
        self.learner.seconds.fixed_s += started.elapsed().as_secs_f64();
        Ok(())
    }
}

/// Gives each token its advantage, and returns the mean of each row.
fn set_token_advantages(
    samples: &mut [TrainingSample],
    of_tokens: Vec<Option<Vec<f64>>>,
) -> Vec<Option<f64>> {
    let row = |(sample, of_tokens): (&mut TrainingSample, Option<Vec<f64>>)| {
        let known = of_tokens.as_deref().unwrap_or_default();
        let of_sample = match known.is_empty() {
            true => vec![0.0; sample.n_trained()],
            false => known.iter().map(|advantage| *advantage as f32).collect(),
        };
        sample.token_advantages = Some(of_sample);
        of_tokens.map(|of_tokens| mean(&of_tokens))
    };
    samples.iter_mut().zip(of_tokens).map(row).collect()
}

#[cfg(test)]
mod tests;
