//! Group-relative policy optimisation: scored rollouts in, one or more updates of the policy out.
//!
//! Input: the `rollouts` and `rewards` tables of one step as Arrow batches. Output: the `rewards`
//! table with advantages, and the step's figures. It does not know where rewards come from.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use joust_engine::Decoder;
use joust_schema::ids::{GroupId, Member};
use joust_schema::seed::Seed;
use joust_schema::table::Table as _;
use joust_schema::tables::{FinishReason, Reward, Rollout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::Metrics;
use crate::advantage::{ScaleRewards, advantages, deviation};
use crate::batch::{Batch, Row};
use crate::error::Error;
use crate::forward::token_logprobs;
use crate::learner::{Learner, LearnerConfig};
use crate::loss::{LossConfig, LossInputs, LossType, Normalizer, policy_loss};
use crate::pack::micro_batches;

/// Settings of GRPO; names and meanings are those of TRL's `GRPOConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpoConfig {
    /// How token losses become one number.
    pub loss_type: LossType,
    /// What the centred rewards of a group are divided by.
    pub scale_rewards: ScaleRewards,
    /// How far below 1 the probability ratio counts.
    pub epsilon: f64,
    /// How far above 1 the probability ratio counts; as `epsilon` if left out.
    pub epsilon_high: Option<f64>,
    /// Weight of the divergence from the reference, which is the policy that the run began with; 0
    /// needs no reference.
    pub beta: f64,
    /// Corrects the divergence's bias where completions come from an older policy.
    pub kl_bias_correction: bool,
    /// Passes over the completions of a step.
    pub num_iterations: usize,
    /// Updates that one pass is split into.
    pub updates_per_pass: usize,
    /// Leaves completions that were cut off at the length limit out of the loss; their rewards count
    /// in their group's mean all the same.
    pub mask_truncated_completions: bool,
    /// How the model is trained.
    pub learner: LearnerConfig,
}

impl Default for GrpoConfig {
    fn default() -> Self {
        Self {
            loss_type: LossType::Dapo,
            scale_rewards: ScaleRewards::Group,
            epsilon: 0.2,
            epsilon_high: None,
            beta: 0.0,
            kl_bias_correction: true,
            num_iterations: 1,
            updates_per_pass: 1,
            mask_truncated_completions: false,
            learner: LearnerConfig::default(),
        }
    }
}

impl GrpoConfig {
    /// All that is wrong, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        let learner = self.learner.validate().into_iter();
        let mut problems: Vec<String> = learner.map(|p| format!("learner.{p}")).collect();
        if !(0.0..1.0).contains(&self.epsilon) {
            problems.push(format!("epsilon is {}, wanted 0 ≤ epsilon < 1", self.epsilon));
        }
        let others = [("epsilon_high", self.epsilon_high.unwrap_or(0.0)), ("beta", self.beta)];
        for (key, value) in others {
            if value.is_nan() || value < 0.0 {
                problems.push(format!("{key} is {value}, wanted ≥ 0"));
            }
        }
        let counts =
            [("num_iterations", self.num_iterations), ("updates_per_pass", self.updates_per_pass)];
        for (key, value) in counts {
            if value == 0 {
                problems.push(format!("{key} is 0, wanted at least 1"));
            }
        }
        problems
    }

    /// Updates that a run of `steps` steps makes, for the schedule.
    pub fn n_updates(&self, steps: u64) -> u64 {
        steps * (self.num_iterations * self.updates_per_pass) as u64
    }

    fn loss(&self) -> LossConfig {
        LossConfig {
            loss_type: self.loss_type,
            epsilon: self.epsilon,
            epsilon_high: self.epsilon_high.unwrap_or(self.epsilon),
            beta: self.beta,
            kl_bias_correction: self.kl_bias_correction,
        }
    }
}

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

/// One completion that takes part in the updates.
struct Trainee {
    row: Row,
    advantage: f64,
    sampled_logprobs: Vec<f32>,
}

/// Log-probabilities that stay fixed while the policy moves, a trainee each.
#[derive(Default)]
struct Fixed {
    old: Option<Vec<Tensor>>,
    reference: Option<Vec<Tensor>>,
}

/// Sums over a step for its figures.
#[derive(Default)]
struct Sums {
    loss: f64,
    grad_norm: f64,
    lr: f64,
    n_updates: f64,
    n_tokens: f64,
    entropy: f64,
    kl: f64,
    clipped_low: f64,
    clipped_high: f64,
    logprob_difference: f64,
    logprob_difference_max: f64,
    n_compared: f64,
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

impl Sums {
    /// How far the trainer's log-probabilities are from those recorded at sampling time.
    fn compare(&mut self, logprobs: &Tensor, sampled: &[f32]) {
        let sampled = Tensor::from_slice(sampled).to_device(logprobs.device());
        let difference = (logprobs.detach() - sampled).abs();
        self.logprob_difference += difference.sum(Kind::Double).double_value(&[]);
        self.logprob_difference_max =
            self.logprob_difference_max.max(difference.max().double_value(&[]));
        self.n_compared += difference.numel() as f64;
    }

    fn metrics(&self, has_reference: bool) -> Metrics {
        let n_updates = self.n_updates.max(1.0);
        let mut metrics = Metrics::new();
        let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
        put("updates", self.n_updates);
        put("loss", self.loss / n_updates);
        if self.n_updates > 0.0 {
            let n_tokens = self.n_tokens.max(1.0);
            put("grad_norm", self.grad_norm / n_updates);
            put("learning_rate", self.lr);
            put("entropy", self.entropy / n_tokens);
            put("clip_ratio/low_mean", self.clipped_low / n_tokens);
            put("clip_ratio/high_mean", self.clipped_high / n_tokens);
            put("clip_ratio/region_mean", (self.clipped_low + self.clipped_high) / n_tokens);
            if has_reference {
                put("kl", self.kl / n_tokens);
            }
        }
        if self.n_compared > 0.0 {
            put(
                "sampling/sampling_logp_difference/mean",
                self.logprob_difference / self.n_compared,
            );
            put("sampling/sampling_logp_difference/max", self.logprob_difference_max);
        }
        metrics
    }
}

/// Takes cut-off completions out of the loss. Their rewards count in their group's mean, as in TRL.
fn mask_truncated(rollouts: &[Rollout], rewards: &mut [Reward]) -> Result<(), Error> {
    let by_member = index(rollouts)?;
    for reward in rewards {
        let key = (&reward.group_id, reward.member);
        let is_cut = by_member
            .get(&key)
            .is_some_and(|&row| rollouts[row].finish_reason != FinishReason::Stop);
        if is_cut {
            reward.advantage = None;
        }
    }
    Ok(())
}

fn index(rollouts: &[Rollout]) -> Result<BTreeMap<(&GroupId, Member), usize>, Error> {
    let mut by_member = BTreeMap::new();
    for (row, rollout) in rollouts.iter().enumerate() {
        if by_member.insert((&rollout.group_id, rollout.member), row).is_some() {
            return Err(Error::Batch(format!(
                "group {} has member {} twice in rollouts",
                rollout.group_id, rollout.member
            )));
        }
    }
    Ok(by_member)
}

/// Joins the two tables and takes the completions that have an advantage.
fn trainees(rollouts: &[Rollout], rewards: &[Reward]) -> Result<Vec<Trainee>, Error> {
    let by_member = index(rollouts)?;
    if rollouts.len() != rewards.len() {
        return Err(Error::Batch(format!(
            "rollouts has {} rows, rewards {}",
            rollouts.len(),
            rewards.len()
        )));
    }
    let mut found = Vec::new();
    for reward in rewards {
        let row = by_member.get(&(&reward.group_id, reward.member)).ok_or_else(|| {
            Error::Batch(format!(
                "group {} member {} is in rewards, not in rollouts",
                reward.group_id, reward.member
            ))
        })?;
        let rollout = &rollouts[*row];
        let Some(advantage) = reward.advantage else {
            continue;
        };
        if rollout.completion_logprobs.len() != rollout.completion_token_ids.len() {
            return Err(Error::Batch(format!(
                "group {} member {}: {} log-probabilities for {} tokens",
                reward.group_id,
                reward.member,
                rollout.completion_logprobs.len(),
                rollout.completion_token_ids.len()
            )));
        }
        let ids = |tokens: &[i32]| tokens.iter().map(|&id| id as u32).collect::<Vec<u32>>();
        let row = Row {
            prompt: ids(&rollout.prompt_token_ids),
            completion: ids(&rollout.completion_token_ids),
        };
        if row.prompt.is_empty() || row.completion.is_empty() {
            return Err(Error::Batch(format!(
                "group {} member {} has an empty prompt or completion",
                reward.group_id, reward.member
            )));
        }
        let sampled_logprobs = rollout.completion_logprobs.clone();
        found.push(Trainee { row, advantage, sampled_logprobs });
    }
    Ok(found)
}

/// What is known of a step before any update, under the names that TRL's users know.
fn reward_metrics(rollouts: &[Rollout], rewards: &[Reward]) -> Metrics {
    let scored: Vec<f64> = rewards.iter().filter_map(|reward| reward.reward).collect();
    let mut groups: BTreeMap<&GroupId, Vec<f64>> = BTreeMap::new();
    for reward in rewards {
        groups.entry(&reward.group_id).or_default().extend(reward.reward);
    }
    let n_groups = groups.len().max(1) as f64;
    let deviations: Vec<f64> = groups.values().map(|group| deviation(group)).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let lengths: Vec<f64> =
        rollouts.iter().map(|rollout| rollout.completion_token_ids.len() as f64).collect();
    let ended: Vec<f64> = rollouts
        .iter()
        .filter(|rollout| rollout.finish_reason == FinishReason::Stop)
        .map(|rollout| rollout.completion_token_ids.len() as f64)
        .collect();
    let mut metrics = Metrics::new();
    let mut put = |name: &str, value: f64| metrics.insert(name.to_owned(), value);
    if !scored.is_empty() {
        put("reward", mean(&scored));
        put("reward_std", mean(&deviations));
    }
    let without_spread = deviations.iter().filter(|deviation| **deviation < 1e-8).count();
    put("frac_reward_zero_std", without_spread as f64 / n_groups);
    put("frac_reward_missing", 1.0 - scored.len() as f64 / rewards.len().max(1) as f64);
    put("completions/mean_length", mean(&lengths));
    put("completions/min_length", lengths.iter().copied().fold(f64::INFINITY, f64::min));
    put("completions/max_length", lengths.iter().copied().fold(0.0, f64::max));
    put("completions/clipped_ratio", 1.0 - ended.len() as f64 / rollouts.len().max(1) as f64);
    if !ended.is_empty() {
        put("completions/mean_terminated_length", mean(&ended));
    }
    metrics
}

#[cfg(test)]
mod tests;
