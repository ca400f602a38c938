//! Teacher forcing: log-probabilities of given tokens. It samples nothing.

use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::ffi::tensors;
use crate::model::Decoder;
use crate::sampler::{self, RowSampling};
use crate::settings::SamplingParams;

/// Log-probability of each token of `completion` after `prompt`, under the untempered softmax over
/// the whole vocabulary: element t belongs to `completion[t]`.
///
/// # Errors
/// [`Error::EmptyPrompt`]; [`Error::BadRequest`] for tokens outside the vocabulary; as
/// [`Decoder::hidden`] where both together are longer than the model's maximum context.
pub fn logprobs(model: &Decoder, prompt: &[u32], completion: &[u32]) -> Result<Vec<f32>, Error> {
    let _guard = tch::no_grad_guard();
    let Some(logits) = logits(model, prompt, completion)? else { return Ok(Vec::new()) };
    let targets: Vec<i64> = completion.iter().map(|&id| i64::from(id)).collect();
    let targets = Tensor::from_slice(&targets).to_device(model.device()).unsqueeze(1); // [C, 1]
    let logprobs = logits.log_softmax(-1, Kind::Float).gather(1, &targets, false).squeeze_dim(1);
    let mut values = vec![0f32; completion.len()];
    logprobs.f_copy_data(&mut values, completion.len())?;
    Ok(values)
}

/// As [`logprobs`], under the distribution that tokens are drawn from with these settings:
/// tempered, and renormalised over the tokens that top-k and top-p keep.
///
/// # Errors
/// As [`logprobs`].
pub fn drawn_logprobs(
    model: &Decoder,
    prompt: &[u32],
    completion: &[u32],
    params: &SamplingParams,
) -> Result<Vec<f32>, Error> {
    let _guard = tch::no_grad_guard();
    let Some(logits) = logits(model, prompt, completion)? else { return Ok(Vec::new()) };
    let vocab_size = model.config().vocab_size;
    let logits = logits.f_to_device(Device::Cpu)?.f_contiguous()?;
    let rows = tensors::slice::<f32>(&logits).chunks_exact(vocab_size);
    let SamplingParams { temperature, top_p, top_k, .. } = *params;
    let draw = RowSampling { row: 0, temperature, top_p, top_k, uniform: 0.0 };
    let of_row = |(row, &token): (&[f32], &u32)| sampler::drawn_logprob(row, token, &draw);
    Ok(rows.zip(completion).map(of_row).collect())
}

/// Logits of the tokens of `completion`: [C, V] f32; none for an empty one.
fn logits(model: &Decoder, prompt: &[u32], completion: &[u32]) -> Result<Option<Tensor>, Error> {
    if prompt.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    let vocab_size = model.config().vocab_size as u32;
    if let Some(id) = prompt.iter().chain(completion).find(|&&id| id >= vocab_size) {
        return Err(Error::BadRequest(format!(
            "token {id} is outside the model's vocabulary of {vocab_size}"
        )));
    }
    if completion.is_empty() {
        return Ok(None);
    }
    let ids: Vec<i64> = prompt.iter().chain(completion).map(|&id| i64::from(id)).collect();
    let ids = Tensor::from_slice(&ids).to_device(model.device());
    // the hidden state of each token predicts the next one
    let first = prompt.len() as i64 - 1;
    let hidden = model.hidden(&ids.unsqueeze(0), model.kind())?.squeeze_dim(0); // [T, H]
    Ok(Some(model.logits(&hidden.narrow(0, first, completion.len() as i64))?)) // [C, V]
}
