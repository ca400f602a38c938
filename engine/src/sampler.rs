//! Draws the next token of each row from its logits.
//!
//! The order is temperature, top-k, then top-p over the remaining tokens, as in transformers and
//! vLLM. One uniform number per token selects it by inversion of the cumulative distribution. The
//! vocabulary is never sorted as a whole. The sampler knows nothing of requests and stop strings.

use std::borrow::Cow;

use half::bf16;
use tch::{Device, Kind, Tensor};

use crate::cpu::{exp, highest};
use crate::error::Error;
use crate::ffi::simd::vectorized;
use crate::ffi::tensors::Plain;
use crate::ffi::{tensors, threads};

/// Sampling settings of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowSampling {
    /// Index of the row in the logits.
    pub(crate) row: usize,
    /// Temperature; 0 takes the most probable token.
    pub(crate) temperature: f64,
    /// Probability mass of the most probable tokens that are kept; 1 keeps all.
    pub(crate) top_p: f64,
    /// Number of the most probable tokens that are kept; 0 keeps all.
    pub(crate) top_k: usize,
    /// Uniform random number in [0, 1) that selects the token.
    pub(crate) uniform: f64,
}

/// Temperatures below this value count as 0: logits divided by them would overflow f32.
const MIN_TEMPERATURE: f64 = 1e-5;

/// Number of tokens whose probabilities are summed in f32; the sums are added in f64.
const CHUNK: usize = 1_024;

impl RowSampling {
    fn is_greedy(&self) -> bool {
        self.temperature < MIN_TEMPERATURE
    }

    fn keeps_all(&self, vocab_size: usize) -> bool {
        (self.top_k == 0 || self.top_k >= vocab_size) && self.top_p >= 1.0
    }
}

/// A token with its log-probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) token: u32,
    /// Under the untempered softmax over the whole vocabulary.
    pub(crate) logprob: f32,
    /// Under the distribution that it was drawn from: tempered, and renormalised over the tokens
    /// that top-k and top-p keep. 0 where the most probable token is taken.
    pub(crate) behaviour_logprob: f32,
}

/// Draws one token for each of `draws` from rows of `logits` [B, V].
///
/// # Errors
/// [`Error::NotFinite`] where the model's output is NaN or infinite.
pub(crate) fn sample(logits: &Tensor, draws: &[RowSampling]) -> Result<Vec<Drawn>, Error> {
    let vocab_size = logits.size()[1] as usize;
    let logits = logits.f_to_device(Device::Cpu)?.f_contiguous()?;
    let logits = match logits.kind() {
        Kind::Float | Kind::BFloat16 => logits,
        _ => logits.f_to_kind(Kind::Float)?,
    };
    match logits.kind() {
        Kind::BFloat16 => sample_rows(tensors::slice::<bf16>(&logits), vocab_size, draws),
        _ => sample_rows(tensors::slice::<f32>(&logits), vocab_size, draws),
    }
}

/// A number format of logits.
trait Number: Plain {
    /// The row in f32, copied only where it has another format.
    fn wide(row: &[Self]) -> Cow<'_, [f32]>;
}

impl Number for f32 {
    fn wide(row: &[Self]) -> Cow<'_, [f32]> {
        Cow::Borrowed(row)
    }
}

impl Number for bf16 {
    fn wide(row: &[Self]) -> Cow<'_, [f32]> {
        let mut wide = vec![0f32; row.len()];
        widen(row, &mut wide);
        Cow::Owned(wide)
    }
}

fn sample_rows<T: Number>(
    logits: &[T],
    vocab_size: usize,
    draws: &[RowSampling],
) -> Result<Vec<Drawn>, Error> {
    let mut drawn: Vec<Option<Result<Drawn, Error>>> = draws.iter().map(|_| None).collect();
    let items: Vec<_> = draws.iter().zip(drawn.iter_mut()).collect();
    let is_small = draws.len() * vocab_size < 32_768;
    threads::for_each(items, is_small, |(draw, drawn)| {
        let row = &logits[draw.row * vocab_size..][..vocab_size];
        *drawn = Some(sample_row(&T::wide(row), draw));
    });
    let results = drawn.into_iter().map(|drawn| drawn.expect("every draw is made. This is a bug."));
    results.collect()
}

fn sample_row(logits: &[f32], draw: &RowSampling) -> Result<Drawn, Error> {
    let peak = highest(logits);
    // `highest` ignores NaN, but the sums become NaN and give a log-probability that is refused
    let best = logits.iter().position(|&logit| logit == peak).unwrap_or(0);
    let plain = chunk_sums(logits, peak, 1.0);
    let total: f64 = plain.iter().sum();
    let (token, behaviour_logprob) = if draw.is_greedy() {
        (best, 0.0)
    } else {
        let inverse = 1.0 / draw.temperature as f32;
        let (token, kept) = if draw.keeps_all(logits.len()) {
            let sums = match inverse == 1.0 {
                true => plain,
                false => chunk_sums(logits, peak, inverse),
            };
            let token = invert_in_chunks(logits, peak, inverse, &sums, draw.uniform);
            (token, sums.iter().sum::<f64>())
        } else {
            let mut weights = vec![0f32; logits.len()];
            weigh(logits, peak, inverse, &mut weights);
            let kept = kept_candidates(&weights, draw);
            (invert(&kept, draw.uniform), total_weight(&kept))
        };
        (token, (logits[token] - peak) * inverse - kept.ln() as f32)
    };
    match logits[token] - peak - total.ln() as f32 {
        logprob if logprob.is_finite() => {
            Ok(Drawn { token: token as u32, logprob, behaviour_logprob })
        }
        logprob => Err(Error::NotFinite { logprob }),
    }
}

/// Log-probability of a token under the distribution that tokens are drawn from: tempered, and
/// renormalised over the tokens that top-k and top-p keep. 0 where the most probable token is
/// taken.
pub(crate) fn drawn_logprob(logits: &[f32], token: u32, draw: &RowSampling) -> f32 {
    if draw.is_greedy() {
        return 0.0;
    }
    let (peak, inverse) = (highest(logits), 1.0 / draw.temperature as f32);
    let kept = if draw.keeps_all(logits.len()) {
        chunk_sums(logits, peak, inverse).iter().sum()
    } else {
        let mut weights = vec![0f32; logits.len()];
        weigh(logits, peak, inverse, &mut weights);
        total_weight(&kept_candidates(&weights, draw))
    };
    (logits[token as usize] - peak) * inverse - kept.ln() as f32
}

vectorized! {
    fn widen(row: &[bf16], wide: &mut [f32]) {
        for (wide, &value) in wide.iter_mut().zip(row) {
            *wide = value.into();
        }
    }
}

vectorized! {
    /// `weights[i] = exp((logits[i] − peak) · inverse)`.
    fn weigh(logits: &[f32], peak: f32, inverse: f32, weights: &mut [f32]) {
        for (weight, &logit) in weights.iter_mut().zip(logits) {
            *weight = exp((logit - peak) * inverse);
        }
    }
}

vectorized! {
    /// Σ exp((x − peak) · inverse) over each chunk of the vocabulary.
    fn chunk_sums(logits: &[f32], peak: f32, inverse: f32) -> Vec<f64> {
        let mut all = Vec::with_capacity(logits.len().div_ceil(CHUNK));
        for chunk in logits.chunks(CHUNK) {
            let mut sums = [0f32; 16];
            let parts = chunk.chunks_exact(16);
            let mut rest = 0.0;
            for &x in parts.remainder() {
                rest += exp((x - peak) * inverse);
            }
            for part in parts {
                for (sum, &x) in sums.iter_mut().zip(part) {
                    *sum += exp((x - peak) * inverse);
                }
            }
            all.push(f64::from(sums.iter().sum::<f32>() + rest));
        }
        all
    }
}

/// The first token whose cumulative sum exceeds `uniform` times the total. Finds the chunk first,
/// then the token in the chunk.
fn invert_in_chunks(logits: &[f32], peak: f32, inverse: f32, sums: &[f64], uniform: f64) -> usize {
    let mut wanted = uniform * sums.iter().sum::<f64>();
    let mut chunk = 0;
    while chunk + 1 < sums.len() && wanted >= sums[chunk] {
        wanted -= sums[chunk];
        chunk += 1;
    }
    let start = chunk * CHUNK;
    let members = &logits[start..logits.len().min(start + CHUNK)];
    let weights = members.iter().map(|&x| exp((x - peak) * inverse));
    let candidates: Vec<(usize, f32)> = (start..).zip(weights).collect();
    first_above(&candidates, wanted)
}

/// The first candidate whose cumulative sum exceeds `uniform` times the total.
fn invert(candidates: &[(usize, f32)], uniform: f64) -> usize {
    first_above(candidates, uniform * total_weight(candidates))
}

fn total_weight(candidates: &[(usize, f32)]) -> f64 {
    candidates.iter().map(|&(_, weight)| f64::from(weight)).sum()
}

/// The first candidate whose cumulative sum exceeds `wanted`; otherwise the last candidate with a
/// weight above 0.
fn first_above(candidates: &[(usize, f32)], wanted: f64) -> usize {
    let mut sum = 0.0;
    let mut last = candidates.first().map_or(0, |&(token, _)| token);
    for &(token, weight) in candidates {
        if weight > 0.0 {
            sum += f64::from(weight);
            last = token;
            if sum > wanted {
                break;
            }
        }
    }
    last
}

/// The tokens that top-k and top-p keep, most probable first. Sorts only as many candidates as are
/// needed.
fn kept_candidates(weights: &[f32], row: &RowSampling) -> Vec<(usize, f32)> {
    let by_weight =
        |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0));
    let mut candidates: Vec<(usize, f32)> = weights.iter().copied().enumerate().collect();
    if row.top_k > 0 && row.top_k < candidates.len() {
        candidates.select_nth_unstable_by(row.top_k - 1, by_weight);
        candidates.truncate(row.top_k);
    }
    let wanted = row.top_p * total_weight(&candidates);
    let mut n_sorted = 64.min(candidates.len());
    loop {
        if n_sorted < candidates.len() {
            candidates.select_nth_unstable_by(n_sorted - 1, by_weight);
        }
        candidates[..n_sorted].sort_unstable_by(by_weight);
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
