//! The model's log-probabilities of trained tokens, and the way back from a loss of them.
//!
//! The only place that sees the vocabulary: the head runs over chunks of tokens, so that no tensor
//! of logits is larger than a bound, however many tokens a micro-batch has. A loss is
//! differentiated by numbers per token; each chunk of logits is computed again (a sole one is kept)
//! and takes their gradients back to its hidden states, and these take theirs back through the
//! layers.

use joust_engine::Decoder;
use joust_engine::model::{BodyBackward, BodyForward, BodyPass, KeptActivations, Section};
use tch::{Kind, Tensor};

use crate::batch::MicroBatch;
use crate::error::Error;
use crate::weights::sections::Sections;

/// What an objective needs to know of each trained token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenNeeds {
    /// Divisor of the logits.
    pub temperature: f64,
    /// Whether entropies are needed.
    pub entropies: Entropies,
    /// Whether it is needed which tokens are the most probable ones.
    pub is_top: bool,
}

/// Whether entropies are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entropies {
    /// Not at all.
    None,
    /// As numbers, for metrics and masks.
    Numbers,
    /// With gradients, as a part of the loss.
    Gradients,
}

/// The model's numbers of a micro-batch's trained tokens.
#[derive(Debug)]
pub struct TokenNumbers {
    /// Log-probabilities: `[M]` f32, with gradients where they are on.
    pub logprobs: Tensor,
    /// Entropy of the distribution that each token was drawn from, where it is needed: `[M]` f32.
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

/// The layers over a micro-batch, section by section; a rank without one opens the same sections.
fn body<'a>(
    model: &'a Decoder,
    batch: Option<&MicroBatch<'_>>,
    plan: ForwardPlan,
    sections: &mut Sections<'_>,
) -> Result<Option<BodyPass<'a>>, Error> {
    let n_layers = model.config().n_layers;
    let after = |layer_idx: usize| match layer_idx + 1 < n_layers {
        true => Section::Layer(layer_idx + 1),
        false => Section::Head,
    };
    sections.open(Section::Embedding, Some(Section::Layer(0)))?;
    let begin = |batch: &MicroBatch<'_>| {
        model.begin_body(&batch.trees, &batch.sources, plan.compute, plan.kept)
    };
    let mut body = batch.map(begin).transpose()?;
    for layer_idx in 0..n_layers {
        sections.open(Section::Layer(layer_idx), Some(after(layer_idx)))?;
        body.as_mut().map_or(Ok(()), BodyForward::layer)?;
    }
    sections.open(Section::Head, None)?;
    Ok(body.map(BodyForward::finish).transpose()?)
}

/// Computes the numbers without a way back; none where there is no micro-batch.
pub(crate) fn token_numbers(
    model: &Decoder,
    batch: Option<&MicroBatch<'_>>,
    plan: ForwardPlan,
    needs: TokenNeeds,
    sections: &mut Sections<'_>,
) -> Result<Option<TokenNumbers>, Error> {
    let _guard = tch::no_grad_guard();
    let plan = ForwardPlan { kept: KeptActivations::None, ..plan };
    let body = body(model, batch, plan, sections)?;
    let (Some(batch), Some(body)) = (batch, body) else { return Ok(None) };
    let (predictions, _) = Head { model, batch, plan, needs }.predictions(body.hidden())?;
    Ok(Some(predictions.of_tokens(batch)))
}

/// The forward pass of a micro-batch with its way back.
pub(crate) struct TokenPass<'a> {
    head: Head<'a>,
    body: BodyPass<'a>,
    predictions: TokenNumbers,
    numbers: TokenNumbers,
    /// The log-probabilities of the whole vocabulary, where all predictions fit one chunk.
    sole_chunk: Option<Tensor>,
}

impl<'a> TokenPass<'a> {
    /// Runs the model over a micro-batch, if there is one.
    pub(crate) fn forward(
        model: &'a Decoder,
        batch: Option<&'a MicroBatch<'_>>,
        plan: ForwardPlan,
        needs: TokenNeeds,
        sections: &mut Sections<'_>,
    ) -> Result<Option<Self>, Error> {
        let body = body(model, batch, plan, sections)?;
        let (Some(batch), Some(body)) = (batch, body) else { return Ok(None) };
        let head = Head { model, batch, plan, needs };
        let (predictions, sole_chunk) = tch::no_grad(|| head.predictions(body.hidden()))?;
        let predictions = predictions.with_gradients(needs);
        let numbers = predictions.of_tokens(batch);
        Ok(Some(Self { head, body, predictions, numbers, sole_chunk }))
    }

    /// The numbers; gradients of the log-probabilities find the way back.
    pub(crate) fn numbers(&self) -> &TokenNumbers {
        &self.numbers
    }

    /// Takes the gradients of a loss of the numbers back to the hidden states: the output head's
    /// own are added to `sums`.
    fn begin_backward(self, loss: &Tensor, sums: &Decoder) -> Result<BodyBackward<'a>, Error> {
        loss.f_backward()?;
        let _guard = tch::no_grad_guard();
        let Self { head, body, predictions, sole_chunk, .. } = self;
        let gradient = head.backward(body.hidden(), &predictions, sole_chunk, sums)?;
        Ok(body.begin_backward(&gradient, sums)?)
    }
}

/// Adds the gradients of a pass's loss to `sums`, a model of the same shape, section by section; a
/// rank without a pass goes through the same sections.
pub(crate) fn backward(
    pass: Option<(TokenPass<'_>, &Tensor)>,
    sums: &Decoder,
    sections: &mut Sections<'_>,
) -> Result<(), Error> {
    // the gradient of an output head that is the embedding is one of the embedding
    let is_tied = sums.config().tie_word_embeddings;
    if is_tied {
        sections.begin_sums(Section::Embedding)?;
    }
    sections.begin_sums(Section::Head)?;
    let mut body = pass.map(|(pass, loss)| pass.begin_backward(loss, sums)).transpose()?;
    sections.end_sums(Section::Head)?;
    for layer_idx in (0..sums.config().n_layers).rev() {
        sections.open(Section::Layer(layer_idx), layer_idx.checked_sub(1).map(Section::Layer))?;
        sections.begin_sums(Section::Layer(layer_idx))?;
        body.as_mut().map_or(Ok(()), |body| body.layer(sums))?;
        sections.end_sums(Section::Layer(layer_idx))?;
    }
    if !is_tied {
        sections.begin_sums(Section::Embedding)?;
    }
    body.map_or(Ok(()), |body| body.finish(sums))?;
    sections.end_sums(Section::Embedding)
}

impl TokenNumbers {
    /// The same numbers as leaves of a graph.
    fn with_gradients(self, needs: TokenNeeds) -> Self {
        let has_gradients = needs.entropies == Entropies::Gradients;
        Self {
            logprobs: self.logprobs.set_requires_grad(true),
            entropies: self.entropies.map(|numbers| numbers.set_requires_grad(has_gradients)),
            is_top: self.is_top,
        }
    }

    /// The numbers of trained tokens `[M]` from those of predictions `[Q]`.
    fn of_tokens(&self, batch: &MicroBatch<'_>) -> Self {
        let of = |numbers: &Tensor| numbers.index_select(0, &batch.predictions);
        Self {
            logprobs: of(&self.logprobs),
            entropies: self.entropies.as_ref().map(of),
            is_top: self.is_top.as_ref().map(of),
        }
    }
}

/// The output head over the predictions of a micro-batch.
struct Head<'a> {
    model: &'a Decoder,
    batch: &'a MicroBatch<'a>,
    plan: ForwardPlan,
    needs: TokenNeeds,
}

impl Head<'_> {
    /// First prediction and number of predictions of each chunk.
    fn chunks(&self) -> Vec<(i64, i64)> {
        let n_predictions = self.batch.targets.size()[0];
        let most = self.plan.chunk_tokens.max(1) as i64;
        let starts = (0..n_predictions.max(1)).step_by(most as usize);
        starts.map(|start| (start, most.min(n_predictions - start))).collect()
    }

    /// The numbers of all predictions from their hidden states [Q, H], chunk by chunk, and the
    /// log-probabilities of the chunk where there is a single one.
    fn predictions(&self, hidden: &Tensor) -> Result<(TokenNumbers, Option<Tensor>), Error> {
        let chunks = self.chunks();
        if let [_] = chunks[..] {
            let all = self.vocabulary(hidden)?;
            let numbers = self.chunk_numbers(&all, &self.batch.targets);
            return Ok((numbers, Some(all)));
        }
        let numbers = chunks.into_iter().map(|(start, n)| {
            let all = self.vocabulary(&hidden.narrow(0, start, n))?;
            Ok(self.chunk_numbers(&all, &self.batch.targets.narrow(0, start, n)))
        });
        let numbers: Vec<TokenNumbers> = numbers.collect::<Result<_, Error>>()?;
        let joined = |part: fn(&TokenNumbers) -> Option<&Tensor>| {
            let parts: Option<Vec<&Tensor>> = numbers.iter().map(part).collect();
            parts.map(|parts| Tensor::cat(&parts, 0))
        };
        let logprobs = joined(|numbers| Some(&numbers.logprobs));
        let numbers = TokenNumbers {
            logprobs: logprobs.expect("every chunk has log-probabilities. This is a bug."),
            entropies: joined(|numbers| numbers.entropies.as_ref()),
            is_top: joined(|numbers| numbers.is_top.as_ref()),
        };
        Ok((numbers, None))
    }

    /// Log-probabilities of the whole vocabulary: `hidden` [m, H] → [m, V] f32 (f64 of f64 hidden
    /// states), of the logits divided by the temperature.
    fn vocabulary(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        let mut logits = self.model.logits_forward(hidden)?; // [m, V]
        if self.needs.temperature != 1.0 {
            logits /= self.needs.temperature;
        }
        Ok(logits.log_softmax(-1, logits.kind()))
    }

    /// The numbers of m predictions: `all` [m, V], `targets` `[m]`.
    fn chunk_numbers(&self, all: &Tensor, targets: &Tensor) -> TokenNumbers {
        let entropies = (self.needs.entropies != Entropies::None)
            .then(|| -(all.exp() * all).sum_dim_intlist([-1i64].as_slice(), false, None));
        TokenNumbers {
            logprobs: all.gather(1, &targets.unsqueeze(1), false).squeeze_dim(1), // [m]
            entropies,
            is_top: self.needs.is_top.then(|| all.argmax(-1, false).eq_tensor(targets)),
        }
    }

    /// Takes the gradients by the numbers of the predictions back to the hidden states [Q, H]. The
    /// head's own gradient is added to `sums`.
    ///
    /// With p = softmax(logits / T), H its entropy, and the gradients a by the log-probability of
    /// token t and b by H, the gradient by logit v is (a·(1[v = t] − p_v) − b·p_v·(ln p_v + H))/T.
    fn backward(
        &self,
        hidden: &Tensor,
        predictions: &TokenNumbers,
        mut sole_chunk: Option<Tensor>,
        sums: &Decoder,
    ) -> Result<Tensor, Error> {
        let by_logprobs = predictions.logprobs.grad().unsqueeze(1); // [Q, 1]
        let entropies = predictions.entropies.as_ref().filter(|it| it.requires_grad());
        let mut gradients = Vec::new();
        for (start, n) in self.chunks() {
            let hidden = hidden.narrow(0, start, n);
            let all = match sole_chunk.take() {
                Some(all) => all,
                None => self.vocabulary(&hidden)?,
            };
            let part = |column: &Tensor| column.narrow(0, start, n);
            let by_logprobs = part(&by_logprobs);
            let probabilities = all.exp();
            let mut by_logits = match entropies {
                None => probabilities * -&by_logprobs,
                Some(entropies) => {
                    let column = part(&entropies.detach().unsqueeze(1));
                    let by_entropies = part(&entropies.grad().unsqueeze(1));
                    probabilities * -((all + column) * by_entropies + &by_logprobs)
                }
            }; // [m, V]
            let targets = part(&self.batch.targets).unsqueeze(1);
            let _ = by_logits.f_scatter_add_(1, &targets, &by_logprobs)?;
            if self.needs.temperature != 1.0 {
                by_logits /= self.needs.temperature;
            }
            gradients.push(self.model.logits_backward(&hidden, &by_logits, sums)?); // [m, H]
        }
        Ok(Tensor::cat(&gradients, 0))
    }
}
