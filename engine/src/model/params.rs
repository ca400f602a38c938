//! Conversion between a checkpoint's tensors and the decoder's fused tensors, in both directions.
//! It knows nothing of forward passes.

use std::collections::BTreeMap;

use joust_schema::seed::Seed;
use tch::{Device, Kind, Tensor};

use super::adapter::FusedAdapters;
use super::buckets::{Bucket, TakeBucket, drain};
use super::decoder::{Decoder, EMBEDDING};
use super::layer::{HeadNorms, Layer};
use super::linear::{Linear, SCALE};
use super::rope::Rope;
use super::source::{
    DrawnOnDevice, FromCheckpoint, InspectedCheckpoint, Precision, RandomWeights, WeightSource,
    WeightTarget, Zeros, fused, stack,
};
use crate::config::ModelConfig;
use crate::error::Error;
use crate::fp8::{self, Quantized};
use crate::weights::{Checkpoint, WeightMap};

/// Names of a layer's linear layers, in the order of [`Layer::linears`].
const LINEARS: [&str; 4] =
    ["self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"];

/// Takes the parameters of a section that is built.
type SectionDone<'a> = dyn FnMut(&[(String, Tensor)]) -> Result<(), Error> + 'a;

/// Names of the weights of a layer's head norms.
const Q_NORM: &str = "self_attn.q_norm.weight";
const K_NORM: &str = "self_attn.k_norm.weight";

/// Rows of a parameter that are a tensor of checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointPart {
    /// Name of the tensor.
    pub name: String,
    /// The first of its rows in the parameter.
    pub start: i64,
    /// Number of its rows.
    pub n_rows: i64,
}

impl ModelConfig {
    /// What a parameter of this name with `n_rows` rows is in checkpoints: one tensor, or several
    /// one after the other where it is fused.
    pub fn checkpoint_parts(&self, name: &str, n_rows: i64) -> Vec<CheckpointPart> {
        let q_rows = (self.n_heads * self.head_dim) as i64;
        let kv_rows = (self.n_kv_heads * self.head_dim) as i64;
        let width = self.intermediate_size as i64;
        let (fused, parts): (_, &[(&str, i64)]) = if name.contains("qkv_proj") {
            ("qkv_proj", &[("q_proj", q_rows), ("k_proj", kv_rows), ("v_proj", kv_rows)])
        } else if name.contains("gate_up_proj") {
            ("gate_up_proj", &[("gate_proj", width), ("up_proj", width)])
        } else {
            return vec![CheckpointPart { name: name.to_owned(), start: 0, n_rows }];
        };
        let mut start = 0;
        let part = |&(part, n_rows): &(&str, i64)| {
            let part = CheckpointPart { name: name.replace(fused, part), start, n_rows };
            start += n_rows;
            part
        };
        parts.iter().map(part).collect()
    }
}

impl Decoder {
    /// Builds the model from a checkpoint's tensors, on `device` and in `precision`: matrices are
    /// quantised or dequantised where the checkpoint's number format differs from `precision`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`] and [`Error::BadTensor`] name the first tensor
    /// that does not fit; [`Error::NotFp8`] where the configuration has FP8 and the checkpoint does
    /// not.
    pub fn from_weights(
        config: &ModelConfig,
        checkpoint: &Checkpoint,
        device: Device,
        precision: impl Into<Precision>,
    ) -> Result<Self, Error> {
        Self::from_weights_by_section(config, checkpoint, device, precision, &mut |_| Ok(()))
    }

    /// As [`Decoder::from_weights`], but the trained parameters go to `take` bucket by bucket, each
    /// as soon as it is read: see [`Decoder::drain_buckets`]. One bucket is in memory at a time.
    ///
    /// # Errors
    /// As [`Decoder::from_weights`], and those of `take`.
    pub fn drain_weights(
        config: &ModelConfig,
        checkpoint: &Checkpoint,
        (device, kind): (Device, Kind),
        multiple: usize,
        take: &mut TakeBucket<'_>,
    ) -> Result<(Self, Vec<Bucket>), Error> {
        let mut buckets = Vec::new();
        let mut done = |parameters: &[(String, Tensor)]| {
            buckets.push(drain(parameters, multiple, take)?);
            Ok(())
        };
        let model = Self::from_weights_by_section(config, checkpoint, device, kind, &mut done)?;
        Ok((model, buckets))
    }

    fn from_weights_by_section(
        config: &ModelConfig,
        checkpoint: &Checkpoint,
        device: Device,
        precision: impl Into<Precision>,
        done: &mut SectionDone<'_>,
    ) -> Result<Self, Error> {
        let target = WeightTarget { device, precision: precision.into() };
        let is_fp8 = |name| checkpoint.kind(name) == Some(Kind::Float8e4m3fn);
        if config.fp8.is_some() && !checkpoint.names().any(is_fp8) {
            return Err(Error::NotFp8);
        }
        let source = FromCheckpoint::new(checkpoint, config.fp8, target);
        let model = Self::build_by_section(config, &source, done)?;
        // frequencies that old checkpoints store follow from the configuration
        let unused = source.unused().into_iter();
        let unused: Vec<&str> =
            unused.filter(|name| !name.ends_with("rotary_emb.inv_freq")).collect();
        if let Some(first) = unused.first() {
            let n_unused = unused.len();
            tracing::warn!(
                n_unused,
                first,
                "The checkpoint has tensors that the model does not use."
            );
        }
        Ok(model)
    }

    /// Checks that a checkpoint has all tensors of a model with the right shapes, without reading
    /// them.
    ///
    /// # Errors
    /// As [`Decoder::from_weights`].
    pub(crate) fn inspect(config: &ModelConfig, checkpoint: &Checkpoint) -> Result<(), Error> {
        let target = WeightTarget { device: Device::Cpu, precision: Kind::Float.into() };
        let source = FromCheckpoint::new(checkpoint, config.fp8, target);
        Self::build(config, &InspectedCheckpoint(source)).map(|_| ())
    }

    /// Draws initial weights: matrices from N(0, 0.02²), norms 1, biases 0. Each matrix depends on
    /// `seed` and its name alone.
    pub fn random(config: &ModelConfig, seed: Seed, device: Device, kind: Kind) -> Self {
        Self::build(
            config,
            &RandomWeights { seed, target: WeightTarget { device, precision: kind.into() } },
        )
        .expect("drawn tensors have the requested shapes. This is a bug.")
    }

    /// As [`Decoder::random`], but drawn on the device by libtorch's own generator and in any
    /// precision, for benchmarks without a checkpoint.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses, mostly for lack of memory.
    pub fn drawn_on_device(
        config: &ModelConfig,
        seed: Seed,
        device: Device,
        precision: Precision,
    ) -> Result<Self, Error> {
        let target = WeightTarget { device, precision };
        Self::build(config, &DrawnOnDevice { n_layers: config.n_layers, seed, target })
    }

    /// A model of zeros, for weights that come later: see [`Decoder::copy_parameters`].
    ///
    /// # Errors
    /// [`Error::Tensor`] for lack of memory.
    pub fn zeros(
        config: &ModelConfig,
        device: Device,
        precision: impl Into<Precision>,
    ) -> Result<Self, Error> {
        let config = ModelConfig { fp8: None, ..config.clone() };
        Self::build(&config, &Zeros(WeightTarget { device, precision: precision.into() }))
    }

    fn build(config: &ModelConfig, source: &impl WeightSource) -> Result<Self, Error> {
        Self::build_by_section(config, source, &mut |_| Ok(()))
    }

    /// Builds the model, and hands the parameters of each section out as soon as it is there.
    pub(super) fn build_by_section(
        config: &ModelConfig,
        source: &impl WeightSource,
        done: &mut SectionDone<'_>,
    ) -> Result<Self, Error> {
        let _guard = tch::no_grad_guard();
        let WeightTarget { device, precision } = source.target();
        let hidden = config.hidden_size;
        let shape = [config.vocab_size, hidden];
        let embedding = source.plain(EMBEDDING, &shape)?;
        let name = "lm_head.weight";
        let tied_fp8_head = (config.tie_word_embeddings && precision.fp8_head)
            .then(|| quantized_head(name, &embedding))
            .transpose()?;
        done(&[(EMBEDDING.to_owned(), embedding.shallow_clone())])?;
        let mut layers = Vec::new();
        for layer_idx in 0..config.n_layers {
            let layer = build_layer(config, source, layer_idx)?;
            done(&shallow(parameters_of_layer(layer_idx, &layer)))?;
            layers.push(layer);
        }
        let final_norm = source.plain("model.norm.weight", &[hidden])?;
        let head = match config.tie_word_embeddings {
            true => tied_fp8_head,
            false => {
                let weight = source.plain(name, &shape)?;
                Some(match precision.fp8_head {
                    true => quantized_head(name, &weight)?,
                    false => Linear { weight, scale: None, bias: None, adapters: None },
                })
            }
        };
        done(&shallow(parameters_of_head(&final_norm, head.as_ref())))?;
        let rope = Rope::new(config, device);
        Ok(Self { embedding, layers, final_norm, head, rope, config: config.clone() })
    }

    /// All parameters in a stable order, as shallow clones. Names are the checkpoint's, except for
    /// the fused `qkv_proj` and `gate_up_proj`. One-dimensional parameters are norms and biases; an
    /// FP8 matrix is followed by its `weight_scale`.
    pub fn named_parameters(&self) -> Vec<(String, Tensor)> {
        let mut named = vec![(EMBEDDING.to_owned(), &self.embedding)];
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            named.extend(parameters_of_layer(layer_idx, layer));
        }
        named.extend(parameters_of_head(&self.final_norm, self.head.as_ref()));
        shallow(named)
    }

    /// The checkpoint's tensors on the CPU in `kind`: fused tensors are split, FP8 matrices
    /// dequantised and adapters added to their weights. They share no memory with the model.
    pub fn to_weights(&self, kind: Kind) -> WeightMap {
        let _guard = tch::no_grad_guard();
        let mut weights = WeightMap::new();
        for (name, tensor) in self.plain_parameters(kind) {
            if name == "lm_head.weight" && self.config.tie_word_embeddings {
                // an FP8 copy of the embedding does not belong to the checkpoint
                continue;
            }
            let tensor = tensor.detach().to_device(Device::Cpu).to_kind(kind);
            for part in self.config.checkpoint_parts(&name, tensor.size()[0]) {
                let values = tensor.narrow(0, part.start, part.n_rows).copy();
                weights.insert(part.name, values);
            }
        }
        weights
    }

    /// The named parameters without scales: FP8 matrices are dequantised to `kind`, adapters are
    /// added to their weights, others unchanged.
    pub(super) fn plain_parameters(&self, kind: Kind) -> Vec<(String, Tensor)> {
        let named = self.named_parameters();
        let adapters = self.adapters_by_name();
        let scales: BTreeMap<&str, &Tensor> =
            named.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let plain = |(name, tensor): &(String, Tensor)| {
            let scale = scales.get(format!("{name}_scale").as_str());
            let scale = scale.map(|scale| scale.shallow_clone());
            let adapters = adapters.get(name.as_str()).map(|it| it.shallow_clone());
            let linear = Linear { weight: tensor.shallow_clone(), scale, bias: None, adapters };
            let weight = match (&linear.scale, &linear.adapters) {
                (None, None) => Ok(linear.weight),
                // rounded once, by who takes it
                (_, Some(_)) if tensor.kind() == Kind::Double => linear.plain_weight(Kind::Double),
                (_, Some(_)) => linear.plain_weight(Kind::Float),
                (Some(_), None) => linear.plain_weight(kind),
            };
            let fits = "a model's FP8 matrices have one scale per row, and its adapters the shapes \
                        of their weights. This is a bug.";
            (name.clone(), weight.expect(fits))
        };
        named.iter().filter(|(name, _)| !name.ends_with(SCALE)).map(plain).collect()
    }

    /// The adapters of each linear layer that has some, by the name of its weight.
    fn adapters_by_name(&self) -> BTreeMap<String, &FusedAdapters> {
        let of_layers = self.layers.iter().enumerate().flat_map(|(layer_idx, layer)| {
            LINEARS.iter().zip(layer.linears()).filter_map(move |(name, linear)| {
                let adapters = linear.adapters.as_ref()?;
                Some((format!("model.layers.{layer_idx}.{name}.weight"), adapters))
            })
        });
        of_layers.collect()
    }

    /// A second handle to the same model: both share memory, so that a change of one changes the
    /// other.
    pub fn shared(&self) -> Decoder {
        let layers = self.layers.iter().map(Layer::shallow_clone).collect();
        Decoder {
            config: self.config.clone(),
            embedding: self.embedding.shallow_clone(),
            layers,
            final_norm: self.final_norm.shallow_clone(),
            head: self.head.as_ref().map(Linear::shallow_clone),
            rope: self.rope.shallow_clone(),
        }
    }

    /// A copy of the model on `device` in `precision` that shares no memory with it. Adapters are
    /// merged into its weights.
    ///
    /// # Errors
    /// [`Error::InfiniteWeight`] where a weight to be quantised is NaN or infinite.
    pub fn duplicate(
        &self,
        device: Device,
        precision: impl Into<Precision>,
    ) -> Result<Decoder, Error> {
        let precision = precision.into();
        let config = ModelConfig { fp8: None, ..self.config.clone() };
        let wide = match (precision.fp8_layers, self.has_adapters()) {
            (false, _) => precision.kind,
            (true, false) => self.kind(),
            (true, true) => Kind::Float,
        };
        Self::from_weights(&config, &self.to_weights(wide).into(), device, precision)
    }

    /// Bytes of all parameters.
    pub fn n_bytes(&self) -> usize {
        let bytes = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
        self.named_parameters().iter().map(|(_, tensor)| bytes(tensor)).sum()
    }

    /// Number of values of all parameters.
    pub fn n_parameters(&self) -> usize {
        self.named_parameters().iter().map(|(_, tensor)| tensor.numel()).sum()
    }
}

fn build_layer(
    config: &ModelConfig,
    source: &impl WeightSource,
    layer_idx: usize,
) -> Result<Layer, Error> {
    let precision = source.target().precision;
    let hidden = config.hidden_size;
    let (q_rows, kv_rows) = (config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim);
    let at = |rest: &str| format!("model.layers.{layer_idx}.{rest}");
    let linear = |parts: &[(&str, usize)], width: usize, has_bias: bool| {
        let named = |ending: &str| {
            let name = |&(name, rows): &(&str, usize)| (at(&format!("{name}.{ending}")), rows);
            parts.iter().map(name).collect::<Vec<_>>()
        };
        let bias = if has_bias {
            let biases = named("bias");
            let biases = biases.iter().map(|(name, rows)| source.plain(name, &[*rows]));
            Some(stack(biases.collect::<Result<_, Error>>()?)?)
        } else {
            None
        };
        fused(source, &named("weight"), width, precision.fp8_layers, bias)
    };
    let (q, k, v) = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj");
    let (gate, up) = ("mlp.gate_proj", "mlp.up_proj");
    let width = config.intermediate_size;
    let head_norm = |name: &str| source.plain(&at(name), &[config.head_dim]);
    Ok(Layer {
        input_norm: source.plain(&at("input_layernorm.weight"), &[hidden])?,
        qkv: linear(&[(q, q_rows), (k, kv_rows), (v, kv_rows)], hidden, config.attention_bias)?,
        head_norms: match config.family.head_norms {
            true => Some(HeadNorms {
                q: head_norm(Q_NORM)?,
                k: head_norm(K_NORM)?,
                eps: config.rms_norm_eps,
            }),
            false => None,
        },
        output: linear(&[("self_attn.o_proj", hidden)], q_rows, config.has_output_bias())?,
        post_norm: source.plain(&at("post_attention_layernorm.weight"), &[hidden])?,
        gate_up: linear(&[(gate, width), (up, width)], hidden, false)?,
        down: linear(&[("mlp.down_proj", hidden)], width, false)?,
    })
}

fn quantized_head(name: &str, weight: &Tensor) -> Result<Linear, Error> {
    let Quantized { values, scale, .. } = fp8::quantize(name, weight)?;
    Ok(Linear { weight: values, scale: Some(scale), bias: None, adapters: None })
}

/// Named parameters of a part of a model.
type Named<'a> = Vec<(String, &'a Tensor)>;

fn shallow(named: Named<'_>) -> Vec<(String, Tensor)> {
    named.into_iter().map(|(name, tensor)| (name, tensor.shallow_clone())).collect()
}

fn push<'a>(named: &mut Named<'a>, name: String, linear: &'a Linear) {
    named.push((format!("{name}.weight"), &linear.weight));
    named.extend(linear.scale.as_ref().map(|scale| (format!("{name}.{SCALE}"), scale)));
    named.extend(linear.bias.as_ref().map(|bias| (format!("{name}.bias"), bias)));
}

fn parameters_of_layer(layer_idx: usize, layer: &Layer) -> Named<'_> {
    let at = |rest: &str| format!("model.layers.{layer_idx}.{rest}");
    let mut named = vec![(at("input_layernorm.weight"), &layer.input_norm)];
    push(&mut named, at("self_attn.qkv_proj"), &layer.qkv);
    if let Some(HeadNorms { q, k, .. }) = &layer.head_norms {
        named.extend([(at(Q_NORM), q), (at(K_NORM), k)]);
    }
    push(&mut named, at("self_attn.o_proj"), &layer.output);
    named.push((at("post_attention_layernorm.weight"), &layer.post_norm));
    push(&mut named, at("mlp.gate_up_proj"), &layer.gate_up);
    push(&mut named, at("mlp.down_proj"), &layer.down);
    named
}

fn parameters_of_head<'a>(final_norm: &'a Tensor, head: Option<&'a Linear>) -> Named<'a> {
    let mut named = vec![("model.norm.weight".to_owned(), final_norm)];
    if let Some(head) = head {
        push(&mut named, "lm_head".to_owned(), head);
    }
    named
}
