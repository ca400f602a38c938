//! The model's log-probabilities of trained tokens, with or without gradients.

use joust_engine::Decoder;
use tch::{Kind, Tensor};

use crate::batch::MicroBatch;
use crate::error::Error;

/// What an objective needs to know of each trained token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenNeeds {
    /// Divisor of the logits.
    pub temperature: f64,
    /// Whether entropies are needed.
    pub entropies: bool,
    /// Whether it is needed which tokens are the most probable ones.
    pub is_top: bool,
}

/// The model's numbers of a micro-batch's trained tokens.
#[derive(Debug)]
pub struct TokenNumbers {
    /// Log-probabilities: `[M]` f32, with gradients where they are on.
    pub logprobs: Tensor,
    /// Entropy of the distribution that each token was drawn from, where it is needed: `[M]` f32,
    /// no gradients.
    pub entropies: Option<Tensor>,
    /// Whether each token is the most probable one, where that is needed: `[M]` bool.
    pub is_top: Option<Tensor>,
}

/// Computes in `compute`; the softmax is in f32 over logits divided by the temperature.
pub(crate) fn token_numbers(
    model: &Decoder,
    batch: &MicroBatch<'_>,
    compute: Kind,
    needs: TokenNeeds,
) -> Result<TokenNumbers, Error> {
    let hidden = model.hidden(&batch.ids, compute)?; // [B, T, H]
    let width = hidden.size()[2];
    let hidden = hidden.reshape([-1, width]).index_select(0, &batch.sources); // [M, H]
    let logits = model.logits(&hidden)?; // [M, V] f32
    let logits = if needs.temperature == 1.0 { logits } else { logits / needs.temperature };
    let all = logits.log_softmax(-1, Kind::Float); // [M, V]
    let targets = batch.targets.unsqueeze(1);
    let logprobs = all.gather(1, &targets, false).squeeze_dim(1); // [M]
    let _guard = tch::no_grad_guard();
    let all = all.detach();
    let entropies = needs
        .entropies
        .then(|| -(all.exp() * &all).sum_dim_intlist([-1i64].as_slice(), false, None));
    let is_top = needs.is_top.then(|| all.argmax(-1, false).eq_tensor(&batch.targets));
    Ok(TokenNumbers { logprobs, entropies, is_top })
}
