//! Between a checkpoint's tensors and the decoder's fused ones, in both directions.

use joust_schema::seed::Seed;
use rand::Rng as _;
use tch::{Device, Kind, Tensor};

use super::decoder::Decoder;
use super::layer::Layer;
use super::rope::Rope;
use crate::config::ModelConfig;
use crate::error::Error;
use crate::weights::WeightMap;

/// Standard deviation of freshly drawn weights, as in the Qwen2 and Llama recipes.
const INIT_STD: f64 = 0.02;

impl Decoder {
    /// Builds the model from a checkpoint's tensors, moved to `device` and cast to `kind`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] and [`Error::Shape`] name the first tensor that does not fit.
    pub fn from_weights(
        config: &ModelConfig,
        weights: &WeightMap,
        device: Device,
        kind: Kind,
    ) -> Result<Self, Error> {
        let take = |name: &str, wanted: &[usize]| -> Result<Tensor, Error> {
            let tensor = weights.get(name).ok_or_else(|| Error::MissingTensor {
                name: name.to_owned(),
                path: Default::default(),
            })?;
            let wanted: Vec<i64> = wanted.iter().map(|&dim| dim as i64).collect();
            if tensor.size() != wanted {
                return Err(Error::Shape { name: name.to_owned(), seen: tensor.size(), wanted });
            }
            Ok(tensor.f_to_device(device)?.f_to_kind(kind)?)
        };
        Self::build(config, device, take)
    }

    /// Draws a fresh model: matrices from N(0, 0.02²), norms 1, biases 0, keyed by `seed` and name.
    pub fn random(config: &ModelConfig, seed: Seed, device: Device, kind: Kind) -> Self {
        let take = |name: &str, shape: &[usize]| -> Result<Tensor, Error> {
            let dims: Vec<i64> = shape.iter().map(|&dim| dim as i64).collect();
            let tensor = if name.ends_with("norm.weight") {
                Tensor::ones(&dims, (Kind::Float, Device::Cpu))
            } else if name.ends_with("bias") {
                Tensor::zeros(&dims, (Kind::Float, Device::Cpu))
            } else {
                let n_values = shape.iter().product();
                Tensor::from_slice(&normal_values(seed.child_str("init", name), n_values))
                    .view(&dims[..])
            };
            Ok(tensor.to_device(device).to_kind(kind))
        };
        Self::build(config, device, take)
            .expect("freshly drawn tensors have the shapes that were asked for. This is a bug.")
    }

    fn build(
        config: &ModelConfig,
        device: Device,
        take: impl Fn(&str, &[usize]) -> Result<Tensor, Error>,
    ) -> Result<Self, Error> {
        let hidden = config.hidden_size;
        let (q_rows, kv_rows) =
            (config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim);
        let mut layers = Vec::new();
        for layer_idx in 0..config.n_layers {
            let at = |rest: &str| format!("model.layers.{layer_idx}.{rest}");
            let qkv = ["q", "k", "v"].iter().zip([q_rows, kv_rows, kv_rows]);
            let mut matrices = Vec::new();
            let mut biases = Vec::new();
            for (which, rows) in qkv {
                matrices
                    .push(take(&at(&format!("self_attn.{which}_proj.weight")), &[rows, hidden])?);
                if config.attention_bias {
                    biases.push(take(&at(&format!("self_attn.{which}_proj.bias")), &[rows])?);
                }
            }
            let output_bias = match config.has_output_bias() {
                true => Some(take(&at("self_attn.o_proj.bias"), &[hidden])?),
                false => None,
            };
            let gate = take(&at("mlp.gate_proj.weight"), &[config.intermediate_size, hidden])?;
            let up = take(&at("mlp.up_proj.weight"), &[config.intermediate_size, hidden])?;
            layers.push(Layer {
                input_norm: take(&at("input_layernorm.weight"), &[hidden])?,
                qkv: Tensor::cat(&matrices, 0),
                qkv_bias: (!biases.is_empty()).then(|| Tensor::cat(&biases, 0)),
                output: take(&at("self_attn.o_proj.weight"), &[hidden, q_rows])?.contiguous(),
                output_bias,
                post_norm: take(&at("post_attention_layernorm.weight"), &[hidden])?,
                gate_up: Tensor::cat(&[gate, up], 0),
                down: take(&at("mlp.down_proj.weight"), &[hidden, config.intermediate_size])?,
            });
        }
        let head = match config.tie_word_embeddings {
            true => None,
            false => Some(take("lm_head.weight", &[config.vocab_size, hidden])?),
        };
        let decoder = Self {
            embedding: take("model.embed_tokens.weight", &[config.vocab_size, hidden])?,
            layers,
            final_norm: take("model.norm.weight", &[hidden])?,
            head,
            rope: Rope::new(config, device),
            config: config.clone(),
        };
        Ok(decoder)
    }

    /// The leaf tensors in a stable order, as shallow clones. Names are the checkpoint's, but for
    /// the fused `qkv_proj` and `gate_up_proj`. One-dimensional ones are norms and biases.
    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        let mut named = vec![("model.embed_tokens.weight".to_owned(), &self.embedding)];
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            let at = |rest: &str| format!("model.layers.{layer_idx}.{rest}");
            named.push((at("input_layernorm.weight"), &layer.input_norm));
            named.push((at("self_attn.qkv_proj.weight"), &layer.qkv));
            if let Some(bias) = &layer.qkv_bias {
                named.push((at("self_attn.qkv_proj.bias"), bias));
            }
            named.push((at("self_attn.o_proj.weight"), &layer.output));
            if let Some(bias) = &layer.output_bias {
                named.push((at("self_attn.o_proj.bias"), bias));
            }
            named.push((at("post_attention_layernorm.weight"), &layer.post_norm));
            named.push((at("mlp.gate_up_proj.weight"), &layer.gate_up));
            named.push((at("mlp.down_proj.weight"), &layer.down));
        }
        named.push(("model.norm.weight".to_owned(), &self.final_norm));
        if let Some(head) = &self.head {
            named.push(("lm_head.weight".to_owned(), head));
        }
        named.into_iter().map(|(name, tensor)| (name, tensor.shallow_clone())).collect()
    }

    /// The checkpoint's tensors on the CPU in `kind`, fused ones taken apart again. They share no
    /// storage with the model.
    pub fn to_weights(&self, kind: Kind) -> WeightMap {
        let _guard = tch::no_grad_guard();
        let q_rows = (self.config.n_heads * self.config.head_dim) as i64;
        let kv_rows = (self.config.n_kv_heads * self.config.head_dim) as i64;
        let mut weights = WeightMap::new();
        for (name, tensor) in self.named_parameters() {
            let tensor = tensor.detach().to_device(Device::Cpu).to_kind(kind);
            let mut split = |fused: &str, parts: &[(&str, i64)]| {
                let mut start = 0;
                for (part, rows) in parts {
                    let rows_of_part = tensor.narrow(0, start, *rows).copy();
                    weights.insert(name.replace(fused, part), rows_of_part);
                    start += rows;
                }
            };
            if name.contains("qkv_proj") {
                split("qkv_proj", &[("q_proj", q_rows), ("k_proj", kv_rows), ("v_proj", kv_rows)]);
            } else if name.contains("gate_up_proj") {
                let rows = self.config.intermediate_size as i64;
                split("gate_up_proj", &[("gate_proj", rows), ("up_proj", rows)]);
            } else {
                weights.insert(name, tensor.copy());
            }
        }
        weights
    }

    /// The same model a second time: both use the same memory, so that a change of one is a change of
    /// the other.
    pub fn shared(&self) -> Decoder {
        let layers = self.layers.iter().map(Layer::shallow_clone).collect();
        Decoder {
            config: self.config.clone(),
            embedding: self.embedding.shallow_clone(),
            layers,
            final_norm: self.final_norm.shallow_clone(),
            head: self.head.as_ref().map(Tensor::shallow_clone),
            rope: self.rope.shallow_clone(),
        }
    }

    /// A copy of the model on `device` in `kind` that shares no storage with it.
    pub fn duplicate(&self, device: Device, kind: Kind) -> Decoder {
        Self::from_weights(&self.config, &self.to_weights(kind), device, kind)
            .expect("a model's own tensors fit its configuration. This is a bug.")
    }

    /// Bytes of the weights.
    pub fn n_bytes(&self) -> usize {
        let bytes = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
        self.named_parameters().iter().map(|(_, tensor)| bytes(tensor)).sum()
    }

    /// Number of trainable values.
    pub fn n_parameters(&self) -> usize {
        self.named_parameters().iter().map(|(_, tensor)| tensor.numel()).sum()
    }
}

/// `n_values` draws of N(0, 0.02²) by the Box–Muller transform.
fn normal_values(seed: Seed, n_values: usize) -> Vec<f32> {
    let mut rng = seed.rng();
    let mut unit = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut values = Vec::with_capacity(n_values + 1);
    while values.len() < n_values {
        let radius = (-2.0 * (1.0 - unit()).ln()).sqrt() * INIT_STD;
        let angle = 2.0 * std::f64::consts::PI * unit();
        values.push((radius * angle.cos()) as f32);
        values.push((radius * angle.sin()) as f32);
    }
    values.truncate(n_values);
    values
}
