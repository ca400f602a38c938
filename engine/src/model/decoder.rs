//! The whole model: forward passes, and access to the parameters for training and publishing. It
//! knows nothing of files and requests.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::attention::{Attend, Causal};
use super::layer::{Layer, rms_norm};
use super::linear::{Linear, SCALE};
use super::rope::Rope;
use super::source::Precision;
use crate::config::ModelConfig;
use crate::error::Error;
use crate::fp8;

/// Name of the embedding.
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";

/// A decoder model with its parameters on one device.
pub struct Decoder {
    pub(super) config: ModelConfig,
    pub(super) embedding: Tensor, // [V, H]
    pub(super) layers: Vec<Layer>,
    pub(super) final_norm: Tensor,   // [H]
    pub(super) head: Option<Linear>, // [V, H]; None where it is the embedding
    pub(super) rope: Rope,
}

impl Decoder {
    /// The model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Adds a token that ends a text to the model's configuration.
    pub fn add_end_token(&mut self, id: u32) {
        if !self.config.eos_token_ids.contains(&id) {
            self.config.eos_token_ids.push(id);
        }
    }

    /// Device of the parameters.
    pub fn device(&self) -> Device {
        self.embedding.device()
    }

    /// Number format of all parameters that are not FP8.
    pub fn kind(&self) -> Kind {
        self.embedding.kind()
    }

    /// Hidden states after the final norm of a right-padded batch with causal attention. Gradients
    /// are recorded for parameters that require them.
    ///
    /// # Shapes
    /// `ids` [B, T] i64 → [B, T, H] in `compute`.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where `ids` is not [B, T]; [`Error::PromptTooLong`] where T exceeds
    /// the model's maximum context.
    pub fn hidden(&self, ids: &Tensor, compute: Kind) -> Result<Tensor, Error> {
        let (positions, mut causal) = self.causal_batch(ids)?;
        let hidden = self.forward(&ids.reshape([-1]), &positions, compute, &mut causal)?;
        Ok(hidden.view([causal.n_rows, causal.n_time, self.config.hidden_size as i64]))
    }

    /// Positions `[B·T]` and attention of a right-padded batch.
    pub(super) fn causal_batch(&self, ids: &Tensor) -> Result<(Tensor, Causal), Error> {
        let size = ids.size();
        let [n_rows, n_time] = size[..] else {
            return Err(Error::BadRequest(format!("token ids have shape {size:?}, wanted [B, T]")));
        };
        if n_time > self.config.max_position as i64 {
            return Err(Error::PromptTooLong {
                tokens: n_time as usize,
                limit: self.config.max_position,
            });
        }
        let positions = Tensor::arange(n_time, (Kind::Int64, self.device()));
        let causal = Causal { n_rows, n_time, scale: self.config.attention_scale() };
        Ok((positions.repeat([n_rows]), causal))
    }

    /// Embeddings of flat tokens: `ids` `[N]` i64 → [N, H] in `compute`.
    pub(super) fn embed(&self, ids: &Tensor, compute: Kind) -> Tensor {
        Tensor::embedding(&self.embedding, ids, -1, false, false).to_kind(compute)
    }

    /// Hidden states after the final norm of flat tokens.
    ///
    /// # Shapes
    /// `ids` and `positions` `[N]` i64 → [N, H] in `compute`.
    pub(crate) fn forward(
        &self,
        ids: &Tensor,
        positions: &Tensor,
        compute: Kind,
        attend: &mut dyn Attend,
    ) -> Result<Tensor, Error> {
        let rotation = self.rope.at(positions, compute);
        let mut x = self.embed(ids, compute);
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&self.config, layer_idx, &x, &rotation, attend)?;
        }
        Ok(rms_norm(&x, &self.final_norm, self.config.rms_norm_eps))
    }

    /// Next-token logits: `hidden` [N, H] → [N, V] f32, or f64 of f64 hidden states.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        let wide = if hidden.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        Ok(self.head().forward(hidden)?.f_to_kind(wide)?)
    }

    /// The layers.
    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layers, to give them other adapters.
    pub(crate) fn layers_mut(&mut self) -> &mut [Layer] {
        &mut self.layers
    }

    /// The token embedding [V, H].
    pub(crate) fn embedding(&self) -> &Tensor {
        &self.embedding
    }

    /// The weight of the last norm `[H]`.
    pub(crate) fn final_norm(&self) -> &Tensor {
        &self.final_norm
    }

    /// The output head [V, H].
    pub(crate) fn head(&self) -> Linear {
        match &self.head {
            Some(head) => head.shallow_clone(),
            None => Linear {
                weight: self.embedding.shallow_clone(),
                scale: None,
                bias: None,
                adapters: None,
            },
        }
    }

    /// Number formats of the parameters.
    pub fn precision(&self) -> Precision {
        let is_fp8 = |linear: &Linear| linear.scale.is_some();
        let of_layer = |layer: &Layer| layer.linears().into_iter().any(is_fp8);
        Precision {
            kind: self.kind(),
            fp8_layers: self.layers.iter().any(of_layer),
            fp8_head: self.head.as_ref().is_some_and(is_fp8),
        }
    }

    /// Whether any of the matrices is FP8.
    pub fn is_quantized(&self) -> bool {
        self.precision().is_quantized()
    }

    /// Rotary frequency per pair of dimensions: [D/2] f32.
    pub(crate) fn inv_freq(&self) -> &Tensor {
        self.rope.inv_freq()
    }

    /// Whether both models share memory, so that a change of one changes the other. Adapters are
    /// shared where the weights are.
    pub fn shares_weights_with(&self, other: &Decoder) -> bool {
        self.embedding.data_ptr() == other.embedding.data_ptr()
    }

    /// Switches gradients of every parameter that training changes on or off; of others, which
    /// adapters stand in for, off.
    pub fn set_requires_grad(&self, on: bool) {
        for (_, parameter) in self.named_parameters() {
            let _ = parameter.set_requires_grad(on && !self.has_adapters());
        }
        for (_, matrix) in self.adapter_parameters() {
            let _ = matrix.set_requires_grad(on);
        }
    }

    /// Overwrites this model's parameters with those of `other`, converted to this model's number
    /// formats.
    ///
    /// # Errors
    /// [`Error::Shape`] for another architecture; nothing is written then.
    pub fn copy_from(&self, other: &Decoder) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        let theirs = other.plain_parameters(other.kind());
        let mut mine = self.named_parameters().into_iter().peekable();
        let mut copies = Vec::new();
        for (name, source) in &theirs {
            let Some((my_name, target)) = mine.next() else {
                return Err(other_layout(name, source));
            };
            if my_name != *name || target.size() != source.size() {
                return Err(Error::Shape {
                    name: name.clone(),
                    seen: source.size(),
                    wanted: target.size(),
                });
            }
            let scale = mine.next_if(|(name, _)| name.ends_with(SCALE)).map(|(_, scale)| scale);
            copies.push((name, source, target, scale));
        }
        if let Some((name, target)) = mine.next() {
            return Err(other_layout(&name, &target));
        }
        for (name, source, target, scale) in copies {
            copy_parameter(name, source, (target, scale))?;
        }
        Ok(())
    }

    /// Overwrites the parameters of these names, as [`Decoder::copy_from`] overwrites all; an
    /// output head that is an FP8 copy of the embedding follows it.
    ///
    /// # Errors
    /// [`Error::Shape`] for a parameter that this model has not, or has in another shape.
    pub fn copy_parameters(&self, theirs: &[(String, Tensor)]) -> Result<(), Error> {
        let _guard = tch::no_grad_guard();
        let mine: BTreeMap<String, Tensor> = self.named_parameters().into_iter().collect();
        let mine = |name: &str| mine.get(name).map(Tensor::shallow_clone);
        for (name, source) in theirs {
            let head = "lm_head.weight";
            let follows = name == EMBEDDING && self.config.tie_word_embeddings;
            let head = follows.then_some(head).filter(|head| mine(head).is_some());
            for name in [Some(name.as_str()), head].into_iter().flatten() {
                let target = mine(name).filter(|target| target.size() == source.size());
                let target = target.ok_or_else(|| other_layout(name, source))?;
                copy_parameter(name, source, (target, mine(&format!("{name}_scale"))))?;
            }
        }
        Ok(())
    }
}

/// Copies a parameter to its target, or to its target and its scale where the target is FP8.
fn copy_parameter(
    name: &str,
    source: &Tensor,
    (mut target, scale): (Tensor, Option<Tensor>),
) -> Result<(), Error> {
    match scale {
        Some(mut scale) => {
            let quantized = fp8::quantize(name, &source.f_to_device(target.device())?)?;
            target.f_copy_(&quantized.values)?;
            scale.f_copy_(&quantized.scale)?;
        }
        None => target.f_copy_(source)?,
    }
    Ok(())
}

/// A tensor that only one of two models has.
fn other_layout(name: &str, tensor: &Tensor) -> Error {
    Error::Shape { name: name.to_owned(), seen: tensor.size(), wanted: Vec::new() }
}
