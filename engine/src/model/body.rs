//! A forward pass for training and the way back through its layers, over trees of sequences.
//!
//! What is kept for the way back is chosen: the inputs and outputs of the products, or the input of
//! each layer alone, from which the layer is computed a second time (Chen et al., "Training Deep
//! Nets with Sublinear Memory Cost", arXiv 1604.06174). It ends at the hidden states: losses are
//! not known here.

use tch::{Kind, Tensor};

use super::decoder::Decoder;
use super::gradients::{self, Parameter};
use super::layer::{rms_norm, rms_norm_backward};
use super::layer_pass::{LayerActivations, PassContext};
use super::tree::{TokenTree, TreeLayout};
use super::tree_attention::TreeAttention;
use crate::error::Error;

/// What is kept of a forward pass for the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptActivations {
    /// Inputs and outputs of products and of attention.
    Products,
    /// The input of each layer.
    LayerInputs,
    /// Nothing: there is no way back.
    None,
}

/// A forward pass on its way through the layers. Each step reads the parameters of its part of the
/// model alone: the embedding, a layer, the final norm.
pub struct BodyForward<'a> {
    steps: BodySteps<'a>,
    kept: KeptActivations,
    n_layers: usize,
    x: Tensor, // [N, H]
}

/// Hidden states after the final norm, and the way back from them to the parameters.
pub struct BodyPass<'a> {
    steps: BodySteps<'a>,
    hidden: Tensor, // [M, H]
    /// The input of the final norm: [N, H].
    last: Tensor,
}

/// The way back through the layers, from the last one to the embedding.
pub struct BodyBackward<'a> {
    steps: BodySteps<'a>,
    /// Of the input of the layer that was last, or of the final norm's: [N, H].
    gradient: Tensor,
}

struct BodySteps<'a> {
    model: &'a Decoder,
    context: PassContext<'a>,
    ids: Tensor,    // [N]
    wanted: Tensor, // [M]
    layers: Vec<KeptLayer>,
}

struct KeptLayer {
    x: Tensor, // [N, H]
    activations: Option<LayerActivations>,
}

impl Decoder {
    /// Runs the layers over trees of sequences with causal attention, without autograd.
    ///
    /// # Shapes
    /// `wanted` `[M]` i64: positions among the N tokens of the trees, which lie tree by tree, the
    /// prefix first, then the branches → [M, H] in `compute`.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`] where a sequence exceeds the model's maximum context.
    pub fn body(
        &self,
        trees: &[TokenTree],
        wanted: &Tensor,
        compute: Kind,
        kept: KeptActivations,
    ) -> Result<BodyPass<'_>, Error> {
        let mut forward = self.begin_body(trees, wanted, compute, kept)?;
        for _ in &self.layers {
            forward.layer()?;
        }
        forward.finish()
    }

    /// Begins [`Decoder::body`] with the embedding.
    ///
    /// # Errors
    /// As [`Decoder::body`].
    pub fn begin_body(
        &self,
        trees: &[TokenTree],
        wanted: &Tensor,
        compute: Kind,
        kept: KeptActivations,
    ) -> Result<BodyForward<'_>, Error> {
        let longest = trees.iter().map(TokenTree::longest).max().unwrap_or(0);
        if longest > self.config.max_position {
            return Err(Error::PromptTooLong { tokens: longest, limit: self.config.max_position });
        }
        let _guard = tch::no_grad_guard();
        let device = self.device();
        let layout = TreeLayout::new(trees);
        let tokens =
            trees.iter().flat_map(|tree| std::iter::once(&tree.prefix).chain(&tree.branches));
        let ids = Tensor::from_slice(&tokens.flatten().copied().collect::<Vec<i64>>());
        let ids = ids.to_device(device);
        let positions = Tensor::from_slice(&layout.positions).to_device(device);
        let context = PassContext {
            config: &self.config,
            rotation: self.rope.at(&positions, compute),
            attention: TreeAttention::new(&layout, self.config.attention_scale(), device),
        };
        let x = self.embed(&ids, compute);
        let wanted = wanted.shallow_clone();
        let steps = BodySteps { model: self, context, ids, wanted, layers: Vec::new() };
        Ok(BodyForward { steps, kept, n_layers: 0, x })
    }

    fn normed(&self, x: &Tensor) -> Tensor {
        rms_norm(x, &self.final_norm, self.config.rms_norm_eps)
    }

    /// Next-token logits without autograd, for a way back by [`Decoder::logits_backward`]: `hidden`
    /// [N, H] → [N, V] f32, or f64 of f64 hidden states.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub fn logits_forward(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        let _guard = tch::no_grad_guard();
        let wide = if hidden.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        Ok(self.head().detach().forward(hidden)?.f_to_kind(wide)?)
    }

    /// Adds the gradient of the output head to `sums`, a model of the same shape, and returns that
    /// of the hidden states [N, H] from that of the logits [N, V], in the kind of the hidden
    /// states.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub fn logits_backward(
        &self,
        hidden: &Tensor,
        gradient: &Tensor,
        sums: &Decoder,
    ) -> Result<Tensor, Error> {
        let _guard = tch::no_grad_guard();
        self.head().backward(hidden, &gradient.f_to_kind(hidden.kind())?, &sums.head())
    }
}

impl<'a> BodyForward<'a> {
    /// Runs the next layer.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    ///
    /// # Panics
    /// After the last layer.
    pub fn layer(&mut self) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        let steps = &mut self.steps;
        let (y, activations) =
            steps.model.layers[self.n_layers].forward_kept(&steps.context, &self.x)?;
        self.n_layers += 1;
        let activations = (self.kept == KeptActivations::Products).then_some(activations);
        let x = std::mem::replace(&mut self.x, y);
        if self.kept != KeptActivations::None {
            steps.layers.push(KeptLayer { x, activations });
        }
        Ok(())
    }

    /// Ends the pass with the final norm.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub fn finish(self) -> Result<BodyPass<'a>, Error> {
        let _guard = tch::no_grad_guard();
        let Self { steps, x, .. } = self;
        let hidden = steps.model.normed(&x).f_index_select(0, &steps.wanted)?;
        Ok(BodyPass { steps, hidden, last: x })
    }
}

impl<'a> BodyPass<'a> {
    /// The hidden states [M, H].
    pub fn hidden(&self) -> &Tensor {
        &self.hidden
    }

    /// Adds the gradients of all parameters before the output head to `sums`, a model of the same
    /// shape, from the gradient of the hidden states [M, H].
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    ///
    /// # Panics
    /// Where nothing was kept.
    pub fn backward(self, gradient: &Tensor, sums: &Decoder) -> Result<(), Error> {
        let mut backward = self.begin_backward(gradient, sums)?;
        for _ in &sums.layers {
            backward.layer(sums)?;
        }
        backward.finish(sums)
    }

    /// Begins [`BodyPass::backward`] with the final norm.
    ///
    /// # Errors
    /// As [`BodyPass::backward`].
    ///
    /// # Panics
    /// Where nothing was kept.
    pub fn begin_backward(
        self,
        gradient: &Tensor,
        sums: &Decoder,
    ) -> Result<BodyBackward<'a>, Error> {
        let _guard = tch::no_grad_guard();
        let Self { steps, last, .. } = self;
        let model = steps.model;
        assert_eq!(steps.layers.len(), model.layers.len(), "Every layer is kept. This is a bug.");
        let mut by_normed = last.zeros_like();
        let _ = by_normed.f_index_add_(0, &steps.wanted, gradient)?;
        let eps = model.config.rms_norm_eps;
        let final_norm = Parameter { value: &model.final_norm, gradient: &sums.final_norm };
        let gradient = rms_norm_backward(&last, final_norm, eps, &by_normed)?;
        Ok(BodyBackward { steps, gradient })
    }
}

impl BodyBackward<'_> {
    /// Adds the gradients of the layer before the last one to `sums`, a model of the same shape.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub fn layer(&mut self, sums: &Decoder) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        let BodySteps { model, context, layers, .. } = &mut self.steps;
        let Some(KeptLayer { x, activations }) = layers.pop() else { return Ok(()) };
        let (layer, sums) = (&model.layers[layers.len()], &sums.layers[layers.len()]);
        let activations = match activations {
            Some(activations) => activations,
            None => layer.forward_kept(context, &x)?.1,
        };
        self.gradient = layer.backward(context, &x, activations, &self.gradient, sums)?;
        Ok(())
    }

    /// Adds the gradient of the embedding to `sums`, a model of the same shape.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub fn finish(self, sums: &Decoder) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        match self.steps.model.embedding.requires_grad() {
            true => gradients::add_rows(&sums.embedding, &self.steps.ids, &self.gradient),
            false => Ok(()),
        }
    }
}
