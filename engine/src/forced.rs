//! Teacher forcing: log-probabilities of given tokens. It samples nothing.

use tch::{Kind, Tensor};

use crate::error::Error;
use crate::model::Decoder;

/// Log-probability of each token of `completion` after `prompt`, under the untempered softmax over
/// the whole vocabulary: element t belongs to `completion[t]`.
///
/// # Errors
/// [`Error::EmptyPrompt`]; [`Error::BadRequest`] for tokens outside the vocabulary; as
/// [`Decoder::hidden`] where both together are longer than the model's maximum context.
pub fn logprobs(model: &Decoder, prompt: &[u32], completion: &[u32]) -> Result<Vec<f32>, Error> {
    let _guard = tch::no_grad_guard();
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
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = prompt.iter().chain(completion).map(|&id| i64::from(id)).collect();
    let ids = Tensor::from_slice(&ids).to_device(model.device());
    let n_completion = completion.len() as i64;
    // the hidden state of each token predicts the next one
    let first = prompt.len() as i64 - 1;
    let hidden = model.hidden(&ids.unsqueeze(0), model.kind())?.squeeze_dim(0); // [T, H]
    let logits = model.logits(&hidden.narrow(0, first, n_completion))?; // [C, V]
    let targets = ids.narrow(0, first + 1, n_completion).unsqueeze(1);
    let logprobs = logits.log_softmax(-1, Kind::Float).gather(1, &targets, false).squeeze_dim(1);
    let mut values = vec![0f32; completion.len()];
    logprobs.f_copy_data(&mut values, completion.len())?;
    Ok(values)
}
