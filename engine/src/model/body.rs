//! A forward pass for training and the way back through its layers: with libtorch's whole graph, or
//! with the input of each layer alone, from which the layer is computed a second time (Chen et al.,
//! "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174).
//!
//! It ends at the hidden states: what is computed from them, and its loss, are not known here.

use tch::{Kind, Tensor};

use super::attention::Causal;
use super::decoder::Decoder;
use super::layer::rms_norm;
use super::rope::Rotation;
use crate::error::Error;

/// What is kept of a forward pass for the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptActivations {
    /// Every activation.
    All,
    /// The input of each layer.
    LayerInputs,
}

/// Hidden states after the final norm, and the way back from them to the parameters.
pub struct BodyPass<'a> {
    model: &'a Decoder,
    hidden: Tensor, // [M, H]
    /// None where the hidden states carry the whole graph.
    layers: Option<LayerInputs>,
}

/// What the layers are computed from again.
struct LayerInputs {
    ids: Tensor, // [N]
    rotation: Rotation,
    causal: Causal,
    /// The input of each layer, then that of the final norm: [N, H] each.
    inputs: Vec<Tensor>,
    wanted: Tensor, // [M]
    compute: Kind,
}

impl Decoder {
    /// Runs the layers over a right-padded batch with causal attention, for training.
    ///
    /// # Shapes
    /// `ids` [B, T] i64, `wanted` `[M]` i64 (flat positions row · T + t) → [M, H] in `compute`.
    ///
    /// # Errors
    /// As [`Decoder::hidden`].
    pub fn body(
        &self,
        ids: &Tensor,
        wanted: &Tensor,
        compute: Kind,
        kept: KeptActivations,
    ) -> Result<BodyPass<'_>, Error> {
        if kept == KeptActivations::All {
            let hidden = self.hidden(ids, compute)?; // [B, T, H]
            let width = hidden.size()[2];
            let hidden = hidden.reshape([-1, width]).index_select(0, wanted);
            return Ok(BodyPass { model: self, hidden, layers: None });
        }
        let _guard = tch::no_grad_guard();
        let (positions, mut causal) = self.causal_batch(ids)?;
        let ids = ids.reshape([-1]);
        let rotation = self.rope.at(&positions, compute);
        let mut inputs = vec![self.embed(&ids, compute)];
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            let x = &inputs[layer_idx];
            inputs.push(layer.forward(&self.config, layer_idx, x, &rotation, &mut causal)?);
        }
        let last = &inputs[self.layers.len()];
        let hidden = self.normed(last).index_select(0, wanted);
        let wanted = wanted.shallow_clone();
        let layers = Some(LayerInputs { ids, rotation, causal, inputs, wanted, compute });
        Ok(BodyPass { model: self, hidden, layers })
    }

    fn normed(&self, x: &Tensor) -> Tensor {
        rms_norm(x, &self.final_norm, self.config.rms_norm_eps)
    }
}

impl BodyPass<'_> {
    /// The hidden states [M, H]. They carry a graph where all activations are kept.
    pub fn hidden(&self) -> &Tensor {
        &self.hidden
    }

    /// Adds the gradients of all parameters before the output head to those that are there, from
    /// the gradient of the hidden states [M, H].
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub fn backward(self, gradient: &Tensor) -> Result<(), Error> {
        match self.layers {
            None => take_back(&self.hidden, gradient),
            Some(layers) => layers.backward(self.model, gradient),
        }
    }
}

impl LayerInputs {
    fn backward(mut self, model: &Decoder, gradient: &Tensor) -> Result<(), Error> {
        let mut next_input = || {
            let input = self.inputs.pop().expect("every layer has an input. This is a bug.");
            input.set_requires_grad(true)
        };
        let x = next_input();
        take_back(&model.normed(&x).index_select(0, &self.wanted), gradient)?;
        let mut gradient = x.grad(); // [N, H]
        for (layer_idx, layer) in model.layers.iter().enumerate().rev() {
            let x = next_input();
            let (rotation, causal) = (&self.rotation, &mut self.causal);
            let y = layer.forward(&model.config, layer_idx, &x, rotation, causal)?;
            take_back(&y, &gradient)?;
            gradient = x.grad();
        }
        // the first layer's input again, this time with its graph; adapters have none before it
        let embedded = model.embed(&self.ids, self.compute);
        if embedded.requires_grad() { take_back(&embedded, &gradient) } else { Ok(()) }
    }
}

/// Runs the graph of `output` backwards from its gradient, of the same shape.
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub fn take_back(output: &Tensor, gradient: &Tensor) -> Result<(), Error> {
    // the derivative of this sum by `output` is `gradient`, bit for bit
    Ok((output * gradient).sum(None::<Kind>).f_backward()?)
}
