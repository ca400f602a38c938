//! One update of the policy: rows are selected, micro-batches add up the gradient of the loss, and
//! the optimiser makes its step.

use tch::Tensor;

use super::fixed::FixedLogprobs;
use super::metrics::UpdateSums;
use super::rows::TrainingRow;
use super::step::StepInfo;
use crate::batch::TokenBatch;
use crate::error::Error;
use crate::forward::token_logprobs;
use crate::learner::Learner;
use crate::objective::{MicroBatchLoss, Normalizer, PolicyLoss, PolicyTerms};

/// Makes the updates of one step.
pub(super) struct PolicyUpdater<'a> {
    learner: &'a mut Learner,
    loss: PolicyLoss,
    rows: &'a [TrainingRow<'a>],
    fixed: FixedLogprobs,
    info: &'a StepInfo,
    n_tokens_per_update: f64,
    sums: UpdateSums,
    /// True until the first update is over: the policy is the one that sampled.
    is_unmoved: bool,
}

impl<'a> PolicyUpdater<'a> {
    pub(super) fn new(
        learner: &'a mut Learner,
        loss: PolicyLoss,
        rows: &'a [TrainingRow<'a>],
        fixed: FixedLogprobs,
        info: &'a StepInfo,
        n_updates_per_pass: usize,
    ) -> Self {
        let n_tokens: usize = rows.iter().map(TrainingRow::n_loss_tokens).sum();
        let n_tokens_per_update = n_tokens as f64 / n_updates_per_pass.max(1) as f64;
        let sums = UpdateSums::default();
        Self { learner, loss, rows, fixed, info, n_tokens_per_update, sums, is_unmoved: true }
    }

    /// One update on the rows `selected`, at a place of the schedule; none where no gradient can
    /// come of them.
    pub(super) fn update(&mut self, selected: &[usize], place: u64) -> Result<(), Error> {
        let normalizer = self.normalizer(selected);
        let needed = self.rows_with_gradient(selected);
        if !needed.is_empty() {
            let lengths: Vec<usize> =
                needed.iter().map(|&row| self.rows[row].tokens.n_tokens()).collect();
            for micro_batch in self.learner.micro_batches(&lengths) {
                let rows: Vec<usize> = micro_batch.into_iter().map(|idx| needed[idx]).collect();
                self.accumulate(&rows, &normalizer)?;
            }
            self.step_optimizer(place)?;
            self.is_unmoved = false;
        }
        Ok(())
    }

    /// The sums over all updates.
    pub(super) fn into_sums(self) -> UpdateSums {
        self.sums
    }

    fn normalizer(&self, selected: &[usize]) -> Normalizer {
        let n_tokens = selected.iter().map(|&row| self.rows[row].n_loss_tokens()).sum();
        Normalizer {
            n_rows: selected.len(),
            n_tokens,
            n_tokens_per_update: self.n_tokens_per_update,
            max_completion_length: self.info.max_completion_length,
        }
    }

    /// The rows that have to be computed. A masked completion, and with most losses one with
    /// advantage 0, has gradient 0: it counts in the denominators only.
    fn rows_with_gradient(&self, selected: &[usize]) -> Vec<usize> {
        let is_needed = |row: &usize| {
            let row = &self.rows[*row];
            !row.is_masked && (row.advantage != 0.0 || self.loss.learns_without_advantage())
        };
        selected.iter().copied().filter(is_needed).collect()
    }

    /// Adds the gradient of one micro-batch.
    fn accumulate(&mut self, rows: &[usize], normalizer: &Normalizer) -> Result<(), Error> {
        let tokens: Vec<_> = rows.iter().map(|&row| self.rows[row].tokens).collect();
        let batch = TokenBatch::new(&tokens, self.learner.model.device());
        let temperature = self.info.temperature;
        let tokens =
            token_logprobs(&self.learner.model, &batch, self.learner.compute, temperature)?;
        let loss = self.micro_batch_loss(rows, &batch, &tokens.logprobs, normalizer);
        self.sums.loss += self.learner.accumulate(&loss.loss)?;
        self.sums.add_tokens(&tokens, &loss);
        if self.is_unmoved
            && let Some(behaviour) = self.behaviour(rows)
        {
            self.sums.mismatch.add(&tokens.logprobs, &behaviour);
        }
        Ok(())
    }

    fn micro_batch_loss(
        &self,
        rows: &[usize],
        batch: &TokenBatch,
        logprobs: &Tensor,
        normalizer: &Normalizer,
    ) -> MicroBatchLoss {
        let spread = |values: &Option<Vec<Tensor>>| {
            let values = values.as_ref()?;
            let of_rows: Vec<&Tensor> = rows.iter().map(|&row| &values[row]).collect();
            Some(batch.spread(&Tensor::cat(&of_rows, 0)))
        };
        let advantages: Vec<f32> =
            rows.iter().map(|&row| self.rows[row].advantage as f32).collect();
        let advantages = Tensor::from_slice(&advantages).to_device(logprobs.device());
        let (old, reference) = (spread(&self.fixed.old), spread(&self.fixed.reference));
        let correction = self.loss.correction.as_ref();
        let behaviour = correction.and_then(|_| self.behaviour(rows));
        let behaviour = behaviour.map(|behaviour| {
            batch.spread(&Tensor::from_slice(&behaviour).to_device(logprobs.device()))
        });
        let terms = PolicyTerms {
            logprobs: &batch.spread(logprobs),
            old: old.as_ref(),
            behaviour: behaviour.as_ref(),
            reference: reference.as_ref(),
            mask: &batch.mask,
            advantages: &advantages.unsqueeze(1),
        };
        self.loss.micro_batch(&terms, normalizer)
    }

    /// The sampler's log-probabilities of some rows' tokens, where all are known.
    fn behaviour(&self, rows: &[usize]) -> Option<Vec<f32>> {
        let lists: Option<Vec<&[f32]>> = rows.iter().map(|&row| self.rows[row].behaviour).collect();
        lists.map(|lists| lists.concat())
    }

    /// Moves the weights along the accumulated gradient.
    fn step_optimizer(&mut self, place: u64) -> Result<(), Error> {
        let (lr, grad_norm) = self.learner.update(place)?;
        self.sums.lr = lr;
        self.sums.grad_norm += grad_norm;
        self.sums.n_updates += 1.0;
        Ok(())
    }
}
