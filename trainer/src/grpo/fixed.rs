//! Log-probabilities that stay fixed while the policy moves: those of the policy before the step's
//! first update, and those of the reference.

use joust_engine::Decoder;
use tch::Tensor;

use super::rows::TrainingRow;
use crate::batch::TokenBatch;
use crate::error::Error;
use crate::forward::token_logprobs;
use crate::learner::Learner;

/// Log-probabilities of every row's completion: [completion length] per row.
#[derive(Default)]
pub(super) struct FixedLogprobs {
    /// Under the policy before the first update; not needed for a single update.
    pub(super) old: Option<Vec<Tensor>>,
    /// Under the reference, where there is one.
    pub(super) reference: Option<Vec<Tensor>>,
}

/// Log-probabilities of every row's completion under `model`, without gradients.
pub(super) fn row_logprobs(
    learner: &Learner,
    model: &Decoder,
    rows: &[TrainingRow<'_>],
    temperature: f64,
) -> Result<Vec<Tensor>, Error> {
    let _guard = tch::no_grad_guard();
    let lengths: Vec<usize> = rows.iter().map(|row| row.tokens.n_tokens()).collect();
    let mut logprobs: Vec<Option<Tensor>> = rows.iter().map(|_| None).collect();
    for micro_batch in learner.micro_batches(&lengths) {
        let tokens: Vec<_> = micro_batch.iter().map(|&row| rows[row].tokens).collect();
        let batch = TokenBatch::new(&tokens, model.device());
        let all = token_logprobs(model, &batch, learner.compute, temperature)?.logprobs;
        let sizes: Vec<i64> = tokens.iter().map(|row| row.completion.len() as i64).collect();
        for (row, part) in micro_batch.into_iter().zip(all.split_with_sizes(&sizes[..], 0)) {
            logprobs[row] = Some(part);
        }
    }
    let every_row = "micro-batches hold every row once. This is a bug.";
    Ok(logprobs.into_iter().map(|logprobs| logprobs.expect(every_row)).collect())
}
