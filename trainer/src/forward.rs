//! The model's log-probabilities of trained tokens, and the way back from a loss of them.
//!
//! The only place that sees the vocabulary: the head runs over chunks of tokens, so that no tensor
//! of logits is larger than a bound, however many tokens a micro-batch has. Where they fit one
//! chunk, libtorch keeps its graph. Otherwise only numbers per token are kept: the loss is
//! differentiated by the log-probabilities, each chunk is computed again and takes its gradient
//! back to its hidden states, and these take theirs back through the layers.

use joust_engine::Decoder;
use joust_engine::model::{BodyPass, KeptActivations, take_back};
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

/// How forward passes are computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForwardPlan {
    /// Number format of the activations.
    pub(crate) compute: Kind,
    /// Maximum number of tokens whose logits are alive at once.
    pub(crate) chunk_tokens: usize,
    /// What the layers keep for the way back.
    pub(crate) kept: KeptActivations,
}

/// Computes the numbers without a way back.
pub(crate) fn token_numbers(
    model: &Decoder,
    batch: &MicroBatch<'_>,
    plan: ForwardPlan,
    needs: TokenNeeds,
) -> Result<TokenNumbers, Error> {
    let _guard = tch::no_grad_guard();
    let body = model.body(&batch.ids, &batch.sources, plan.compute, KeptActivations::All)?;
    Head { model, targets: &batch.targets, plan }.numbers(body.hidden(), needs)
}

/// The forward pass of a micro-batch with its way back.
pub(crate) struct TokenPass<'a> {
    head: Head<'a>,
    needs: TokenNeeds,
    numbers: TokenNumbers,
    /// The layers, where the graph is cut between them and the head.
    cut: Option<BodyPass<'a>>,
}

impl<'a> TokenPass<'a> {
    /// Runs the model over a micro-batch.
    pub(crate) fn forward(
        model: &'a Decoder,
        batch: &'a MicroBatch<'_>,
        plan: ForwardPlan,
        needs: TokenNeeds,
    ) -> Result<Self, Error> {
        let body = model.body(&batch.ids, &batch.sources, plan.compute, plan.kept)?;
        let head = Head { model, targets: &batch.targets, plan };
        if plan.kept == KeptActivations::All && head.chunks().len() == 1 {
            let numbers = head.numbers(body.hidden(), needs)?;
            return Ok(Self { head, needs, numbers, cut: None });
        }
        let mut numbers = tch::no_grad(|| head.numbers(body.hidden(), needs))?;
        numbers.logprobs = numbers.logprobs.set_requires_grad(true);
        Ok(Self { head, needs, numbers, cut: Some(body) })
    }

    /// The numbers; gradients of the log-probabilities find the way back.
    pub(crate) fn numbers(&self) -> &TokenNumbers {
        &self.numbers
    }

    /// Adds the gradients of a loss of the numbers to those of the parameters.
    pub(crate) fn backward(self, loss: &Tensor) -> Result<(), Error> {
        loss.f_backward()?;
        if let Some(body) = self.cut {
            let by_logprobs = self.numbers.logprobs.grad(); // [M]
            let gradient = self.head.backward(body.hidden(), &by_logprobs, self.needs)?;
            body.backward(&gradient)?;
        }
        Ok(())
    }
}

/// The output head over the trained tokens of a micro-batch.
struct Head<'a> {
    model: &'a Decoder,
    targets: &'a Tensor, // [M]
    plan: ForwardPlan,
}

impl Head<'_> {
    /// First token and number of tokens of each chunk.
    fn chunks(&self) -> Vec<(i64, i64)> {
        let (n_tokens, most) = (self.targets.size()[0], self.plan.chunk_tokens.max(1) as i64);
        let starts = (0..n_tokens.max(1)).step_by(most as usize);
        starts.map(|start| (start, most.min(n_tokens - start))).collect()
    }

    /// The numbers of all tokens from their hidden states [M, H], chunk by chunk.
    fn numbers(&self, hidden: &Tensor, needs: TokenNeeds) -> Result<TokenNumbers, Error> {
        let chunks = self.chunks().into_iter();
        let numbers = chunks.map(|(start, n)| {
            self.chunk_numbers(
                &hidden.narrow(0, start, n),
                &self.targets.narrow(0, start, n),
                needs,
            )
        });
        let mut numbers: Vec<TokenNumbers> = numbers.collect::<Result<_, _>>()?;
        if numbers.len() == 1 {
            return Ok(numbers.remove(0));
        }
        let joined = |part: fn(&TokenNumbers) -> Option<&Tensor>| {
            let parts: Option<Vec<&Tensor>> = numbers.iter().map(part).collect();
            parts.map(|parts| Tensor::cat(&parts, 0))
        };
        let logprobs = joined(|numbers| Some(&numbers.logprobs));
        Ok(TokenNumbers {
            logprobs: logprobs.expect("every chunk has log-probabilities. This is a bug."),
            entropies: joined(|numbers| numbers.entropies.as_ref()),
            is_top: joined(|numbers| numbers.is_top.as_ref()),
        })
    }

    /// The numbers of m tokens: `hidden` [m, H], `targets` `[m]`. The softmax is in f32 (f64 of f64
    /// hidden states) over logits divided by the temperature.
    fn chunk_numbers(
        &self,
        hidden: &Tensor,
        targets: &Tensor,
        needs: TokenNeeds,
    ) -> Result<TokenNumbers, Error> {
        let logits = self.model.logits(hidden)?; // [m, V]
        let logits = if needs.temperature == 1.0 { logits } else { logits / needs.temperature };
        let all = logits.log_softmax(-1, logits.kind()); // [m, V]
        drop(logits);
        let logprobs = all.gather(1, &targets.unsqueeze(1), false).squeeze_dim(1); // [m]
        let _guard = tch::no_grad_guard();
        let all = all.detach();
        let entropies = needs
            .entropies
            .then(|| -(all.exp() * &all).sum_dim_intlist([-1i64].as_slice(), false, None));
        let is_top = needs.is_top.then(|| all.argmax(-1, false).eq_tensor(targets));
        Ok(TokenNumbers { logprobs, entropies, is_top })
    }

    /// Computes each chunk again and takes the gradient by the log-probabilities `[M]` back to the
    /// hidden states [M, H]. The head's own gradient is added to its parameter.
    fn backward(
        &self,
        hidden: &Tensor,
        by_logprobs: &Tensor,
        needs: TokenNeeds,
    ) -> Result<Tensor, Error> {
        let needs = TokenNeeds { entropies: false, is_top: false, ..needs };
        let mut gradients = Vec::new();
        for (start, n) in self.chunks() {
            let leaf = hidden.narrow(0, start, n).detach().set_requires_grad(true);
            let targets = self.targets.narrow(0, start, n);
            let numbers = self.chunk_numbers(&leaf, &targets, needs)?;
            take_back(&numbers.logprobs, &by_logprobs.narrow(0, start, n))?;
            gradients.push(leaf.grad()); // [m, H]
        }
        Ok(Tensor::cat(&gradients, 0))
    }
}
