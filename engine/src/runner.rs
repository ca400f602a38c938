//! Turns token ids into logits: the only part of the engine that runs the model.
//!
//! It keeps the model and the key/value memory; it knows nothing of requests, seeds or stops.

use tch::{Kind, Tensor};

use crate::error::Error;
use crate::kv::KvCache;
use crate::model::Decoder;

/// The model with the key/value memory of the samples it is running.
pub(crate) struct Runner {
    pub(crate) model: Decoder,
    cache: KvCache,
}

impl Runner {
    pub(crate) fn new(model: Decoder) -> Self {
        let cache = KvCache::new(model.config(), model.kind(), model.device());
        Self { model, cache }
    }

    /// Computes prompts into rows `first_row..`, prompt `i` into `n_copies[i]` rows of its own.
    ///
    /// Returns the logits of the last prompt token, one row a copy: [Σ n_copies, V] f32.
    pub(crate) fn prefill(
        &mut self,
        prompts: &[&[u32]],
        n_copies: &[usize],
        first_row: usize,
    ) -> Result<Tensor, Error> {
        let _guard = tch::no_grad_guard();
        let device = self.model.device();
        let n_time = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(prompts.len() * n_time);
        let mut last = Vec::with_capacity(prompts.len());
        for (prompt_idx, prompt) in prompts.iter().enumerate() {
            ids.extend(prompt.iter().map(|&id| i64::from(id)));
            ids.resize((prompt_idx + 1) * n_time, 0);
            last.push((prompt_idx * n_time + prompt.len() - 1) as i64);
        }
        let prompt_of_row: Vec<i64> = n_copies
            .iter()
            .enumerate()
            .flat_map(|(prompt_idx, &copies)| std::iter::repeat_n(prompt_idx as i64, copies))
            .collect();
        let ids = Tensor::from_slice(&ids).to_device(device);
        let positions =
            Tensor::arange(n_time as i64, (Kind::Int64, device)).repeat([prompts.len() as i64]); // [P·T]
        let mut attend = self.cache.prefill(prompts.len(), n_time, first_row, &prompt_of_row);
        let hidden = self.model.forward(&ids, &positions, self.model.kind(), &mut attend);
        let last = hidden.index_select(0, &Tensor::from_slice(&last).to_device(device)); // [P, H]
        let logits = self.model.logits(&last)?; // [P, V]
        Ok(logits.index_select(0, &Tensor::from_slice(&prompt_of_row).to_device(device)))
    }

    /// Appends `tokens[i]` to row `i`, which holds `lengths[i]` tokens, and returns the logits that
    /// follow: [B, V] f32.
    pub(crate) fn decode(&mut self, tokens: &[u32], lengths: &[usize]) -> Result<Tensor, Error> {
        let _guard = tch::no_grad_guard();
        let device = self.model.device();
        let to_tensor = |values: Vec<i64>| Tensor::from_slice(&values).to_device(device);
        let ids = to_tensor(tokens.iter().map(|&id| i64::from(id)).collect());
        let positions = to_tensor(lengths.iter().map(|&length| length as i64).collect());
        let mut attend = self.cache.decode(lengths);
        let hidden = self.model.forward(&ids, &positions, self.model.kind(), &mut attend);
        self.model.logits(&hidden)
    }

    /// Frees row `row` by moving the last row's `n_tokens` tokens into it.
    pub(crate) fn replace_row(&mut self, row: usize, last_row: usize, n_tokens: usize) {
        if row != last_row {
            let _guard = tch::no_grad_guard();
            self.cache.move_row(last_row, row, n_tokens);
        }
    }
}
