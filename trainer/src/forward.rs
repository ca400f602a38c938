//! The model's log-probabilities of given completions, with or without gradients.

use joust_engine::Decoder;
use tch::{Kind, Tensor};

use crate::batch::TokenBatch;
use crate::error::Error;

/// Log-probabilities and entropies of a batch's completion tokens.
pub(crate) struct TokenLogprobs {
    /// `[M]` f32, with gradients where they are on.
    pub(crate) logprobs: Tensor,
    /// Entropy of the distribution that each token was drawn from: `[M]` f32, no gradients.
    pub(crate) entropies: Tensor,
    /// Whether each token is the most probable one: `[M]` bool.
    pub(crate) is_top: Tensor,
}

/// Computes in `compute`; the softmax is in f32 over logits divided by `temperature`.
pub(crate) fn token_logprobs(
    model: &Decoder,
    batch: &TokenBatch,
    compute: Kind,
    temperature: f64,
) -> Result<TokenLogprobs, Error> {
    let hidden = model.hidden(&batch.ids, compute)?; // [B, T, H]
    let width = hidden.size()[2];
    let hidden = hidden.reshape([-1, width]).index_select(0, &batch.sources); // [M, H]
    let logits = model.logits(&hidden)?; // [M, V] f32
    let logits = if temperature == 1.0 { logits } else { logits / temperature };
    let all = logits.log_softmax(-1, Kind::Float); // [M, V]
    let targets = batch.targets.unsqueeze(1);
    let logprobs = all.gather(1, &targets, false).squeeze_dim(1); // [M]
    let _guard = tch::no_grad_guard();
    let all = all.detach();
    let entropies = -(all.exp() * &all).sum_dim_intlist([-1i64].as_slice(), false, None);
    let is_top = all.argmax(-1, false).eq_tensor(&batch.targets);
    Ok(TokenLogprobs { logprobs, entropies, is_top })
}
