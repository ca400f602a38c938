//! Draws the next token of each row from its logits.
//!
//! Temperature, then top-k, then top-p over what is left, as transformers and vLLM do it; one
//! keyed uniform number a token decides, by inversion of the cumulative distribution. It knows
//! nothing of requests and stops.

use tch::{Kind, Tensor};

use crate::error::Error;

/// How one row is to be sampled.
pub(crate) struct RowSampling {
    /// 0 takes the most probable token.
    pub(crate) temperature: f64,
    /// Mass of the most probable tokens that are kept; 1 keeps all.
    pub(crate) top_p: f64,
    /// Number of the most probable tokens that are kept; 0 keeps all.
    pub(crate) top_k: usize,
    /// The row's draw in [0, 1).
    pub(crate) uniform: f64,
}

/// Temperatures below it are 0: dividing by them would leave the range of f32.
const LEAST_TEMPERATURE: f64 = 1e-5;

impl RowSampling {
    fn is_greedy(&self) -> bool {
        self.temperature < LEAST_TEMPERATURE
    }
}

/// A token and its log-probability under the untempered softmax over the whole vocabulary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) token: u32,
    pub(crate) logprob: f32,
}

/// Draws one token a row: `logits` [B, V] f32.
pub(crate) fn sample(logits: &Tensor, rows: &[RowSampling]) -> Result<Vec<Drawn>, Error> {
    let _guard = tch::no_grad_guard();
    let vocab_size = logits.size()[1] as usize;
    let logprobs = logits.f_log_softmax(-1, Kind::Float)?;
    let best: Vec<i64> = match rows.iter().any(RowSampling::is_greedy) {
        true => logits.f_argmax(-1, false)?.try_into()?, // [B]
        false => Vec::new(),
    };
    let probabilities = match rows.iter().all(RowSampling::is_greedy) {
        true => Vec::new(),
        false => to_vec(&tempered(logits, &logprobs, rows)?)?,
    };
    let logprobs = to_vec(&logprobs)?;
    let drawn = rows.iter().enumerate().map(|(row_idx, row)| {
        let at = row_idx * vocab_size..(row_idx + 1) * vocab_size;
        let token = match row.is_greedy() {
            true => best[row_idx] as usize,
            false => choose(&probabilities[at.clone()], row),
        };
        match logprobs[at][token] {
            logprob if logprob.is_finite() => Ok(Drawn { token: token as u32, logprob }),
            logprob => Err(Error::NotFinite { logprob }),
        }
    });
    drawn.collect()
}

/// Probabilities at each row's temperature: [B, V].
fn tempered(logits: &Tensor, logprobs: &Tensor, rows: &[RowSampling]) -> Result<Tensor, Error> {
    if rows.iter().all(|row| row.temperature == 1.0 || row.is_greedy()) {
        return Ok(logprobs.f_exp()?);
    }
    let inverse = |row: &RowSampling| match row.is_greedy() {
        true => 1.0,
        false => 1.0 / row.temperature as f32,
    };
    let inverse: Vec<f32> = rows.iter().map(inverse).collect();
    let inverse = Tensor::from_slice(&inverse).to_device(logits.device()).unsqueeze(1);
    Ok((logits * inverse).f_softmax(-1, Kind::Float)?)
}

fn to_vec(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    let mut values = vec![0f32; tensor.numel()];
    tensor.f_copy_data(&mut values, tensor.numel())?;
    Ok(values)
}

/// Index of the drawn token among `probabilities`, which need not sum to exactly 1.
fn choose(probabilities: &[f32], row: &RowSampling) -> usize {
    let all = probabilities.len();
    if (row.top_k == 0 || row.top_k >= all) && row.top_p >= 1.0 {
        return invert(probabilities.iter().copied().enumerate(), row.uniform);
    }
    invert(kept(probabilities, row).into_iter(), row.uniform)
}

/// The first token at which the running sum passes `uniform` of the whole.
fn invert(candidates: impl Iterator<Item = (usize, f32)> + Clone, uniform: f64) -> usize {
    let total: f64 = candidates.clone().map(|(_, probability)| f64::from(probability)).sum();
    let wanted = uniform * total;
    let mut sum = 0.0;
    let mut last = 0;
    for (token, probability) in candidates {
        if probability > 0.0 {
            sum += f64::from(probability);
            last = token;
            if sum > wanted {
                break;
            }
        }
    }
    last
}

/// The tokens that top-k and top-p leave, most probable first, without sorting the vocabulary.
fn kept(probabilities: &[f32], row: &RowSampling) -> Vec<(usize, f32)> {
    let by_probability =
        |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0));
    let mut candidates: Vec<(usize, f32)> = probabilities.iter().copied().enumerate().collect();
    if row.top_k > 0 && row.top_k < candidates.len() {
        candidates.select_nth_unstable_by(row.top_k - 1, by_probability);
        candidates.truncate(row.top_k);
    }
    let total: f64 = candidates.iter().map(|&(_, probability)| f64::from(probability)).sum();
    let wanted = row.top_p * total;
    let mut n_sorted = 64.min(candidates.len());
    loop {
        if n_sorted < candidates.len() {
            candidates.select_nth_unstable_by(n_sorted - 1, by_probability);
        }
        candidates[..n_sorted].sort_unstable_by(by_probability);
        let mut sum = 0.0;
        for n_kept in 1..=n_sorted {
            sum += f64::from(candidates[n_kept - 1].1);
            if (row.top_p < 1.0 && sum >= wanted) || n_kept == candidates.len() {
                candidates.truncate(n_kept);
                return candidates;
            }
        }
        n_sorted = (n_sorted * 8).min(candidates.len());
    }
}

#[cfg(test)]
mod tests;
