//! The decoder on a CPU without gradients: libtorch computes the products, and the operations
//! between them run in place on plain memory.
//!
//! The residual stream is f32 in both number formats. bf16 weights are packed for oneDNN once, and
//! so are f32 weights where oneDNN multiplies them; elsewhere these are the model's own. This
//! module knows nothing of requests or sampling.

mod aligned;
mod attention;
mod element;
mod gemv;
mod math;
mod plan;

use half::bf16;
use tch::{Device, Tensor};

use self::attention::KvArena;
use self::element::Element;
use self::gemv::GemvWeight;
use crate::batch::ForwardBatch;
use crate::config::ModelConfig;
use crate::error::Error;
use crate::ffi::tensors::{PackedWeight, slice, slice_mut};
use crate::ffi::{malloc, simd, threads};
use crate::model::{self, Decoder, FusedAdapters, HeadNorms, products};

pub(crate) use math::{exp, highest};

/// Number of query rows per tile, so that their state stays in the L1 cache.
const TILE_QUERIES: usize = 48;

/// Number of values below which a row operation runs on one thread.
const SMALL: usize = 16_384;

struct CpuLinear {
    weight: CpuWeight,
    bias: Option<Tensor>,
    adapters: Option<FusedAdapters>,
}

/// A weight in the form that products use.
enum CpuWeight {
    /// The model's own tensor, multiplied by libtorch.
    Plain(Tensor),
    /// Packed for oneDNN; bf16 also laid out for GEMV with few tokens.
    Packed { packed: PackedWeight, gemv: Option<GemvWeight> },
}

impl CpuLinear {
    fn new(linear: &model::Linear) -> Result<Self, Error> {
        let weight = &linear.weight;
        let weight = match weight.kind() {
            tch::Kind::BFloat16 => CpuWeight::Packed {
                packed: PackedWeight::new(weight)?,
                gemv: GemvWeight::new(weight),
            },
            tch::Kind::Float if products::prefers_onednn() => {
                CpuWeight::Packed { packed: PackedWeight::new(weight)?, gemv: None }
            }
            _ => CpuWeight::Plain(weight.detach()),
        };
        let adapters = linear.adapters.as_ref().map(FusedAdapters::detach);
        Ok(Self { weight, bias: linear.bias.as_ref().map(Tensor::detach), adapters })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        let y = self.product(x)?;
        match &self.adapters {
            Some(adapters) => adapters.add_output(&y, x),
            None => Ok(y),
        }
    }

    /// The layer without its adapters.
    fn product(&self, x: &Tensor) -> Result<Tensor, Error> {
        match &self.weight {
            CpuWeight::Plain(weight) => products::linear(x, weight, self.bias.as_ref()),
            CpuWeight::Packed { gemv: Some(gemv), .. }
                if (1..=simd::max_gemv_rows() as i64).contains(&x.size()[0]) =>
            {
                let out = gemv.forward(x);
                match &self.bias {
                    Some(bias) => Ok(out.f_add(bias)?),
                    None => Ok(out),
                }
            }
            CpuWeight::Packed { packed, .. } => packed.linear(x, self.bias.as_ref()),
        }
    }
}

struct CpuLayer {
    input_norm: Tensor,
    qkv: CpuLinear,
    head_norms: Option<HeadNorms>,
    output: CpuLinear,
    post_norm: Tensor,
    gate_up: CpuLinear,
    down: CpuLinear,
}

/// A model's weights in the form of the CPU path.
struct CpuWeights {
    embedding: Tensor,
    layers: Vec<CpuLayer>,
    final_norm: Tensor,
    head: CpuLinear,
}

impl CpuLayer {
    fn new(layer: &model::layer::Layer) -> Result<Self, Error> {
        Ok(Self {
            input_norm: layer.input_norm.detach(),
            qkv: CpuLinear::new(&layer.qkv)?,
            head_norms: layer.head_norms.as_ref().map(HeadNorms::detach),
            output: CpuLinear::new(&layer.output)?,
            post_norm: layer.post_norm.detach(),
            gate_up: CpuLinear::new(&layer.gate_up)?,
            down: CpuLinear::new(&layer.down)?,
        })
    }
}

impl CpuWeights {
    fn new(model: &Decoder) -> Result<Self, Error> {
        let layers = model.layers().iter().map(CpuLayer::new);
        Ok(Self {
            embedding: model.embedding().detach(),
            layers: layers.collect::<Result<_, Error>>()?,
            final_norm: model.final_norm().detach(),
            head: CpuLinear::new(&model.head())?,
        })
    }

    /// Takes a model of the same shapes, layer by layer: packed matrices of two models are never in
    /// memory together.
    fn replace(&mut self, model: &Decoder) -> Result<(), Error> {
        for (own, layer) in self.layers.iter_mut().zip(model.layers()) {
            *own = CpuLayer::new(layer)?;
        }
        self.embedding = model.embedding().detach();
        self.final_norm = model.final_norm().detach();
        self.head = CpuLinear::new(&model.head())?;
        Ok(())
    }
}

/// Runs batches of one model, in one number format.
struct TypedRunner<E: Element> {
    config: ModelConfig,
    /// None between a release and the next weights.
    weights: Option<CpuWeights>,
    inv_freq: Vec<f32>,
    arena: KvArena<E>,
}

/// The CPU path of a model.
pub(crate) struct CpuRunner(Box<dyn RunBatch>);

trait RunBatch: Send {
    fn forward(&mut self, batch: &ForwardBatch) -> Result<Tensor, Error>;
    fn take_weights(&mut self, model: &Decoder) -> Result<(), Error>;
    fn release(&mut self);
}

impl CpuRunner {
    /// Makes a runner of an f32 or bf16 model on the CPU, with memory for `n_blocks` blocks of keys
    /// and values.
    pub(crate) fn new(model: &Decoder, n_blocks: usize) -> Result<Self, Error> {
        Ok(Self(match model.kind() {
            tch::Kind::BFloat16 => Box::new(TypedRunner::<bf16>::new(model, n_blocks)?),
            _ => Box::new(TypedRunner::<f32>::new(model, n_blocks)?),
        }))
    }

    /// Computes a batch. Returns the logits of the wanted tokens, [wanted, V] in the model's kind.
    pub(crate) fn forward(&mut self, batch: &ForwardBatch) -> Result<Tensor, Error> {
        self.0.forward(batch)
    }

    /// Gives the memory of packed weights, keys and values back. Nothing can be computed until
    /// other weights are taken.
    pub(crate) fn release(&mut self) {
        self.0.release();
        malloc::trim();
    }

    /// Takes over the current weights of `model`.
    pub(crate) fn take_weights(&mut self, model: &Decoder) -> Result<(), Error> {
        self.0.take_weights(model)
    }
}

/// Bytes of keys and values per token.
pub(crate) fn kv_bytes_per_token(config: &ModelConfig, kind: tch::Kind) -> usize {
    let (layers, heads, dim) = (config.n_layers, config.n_kv_heads, config.head_dim);
    match kind {
        tch::Kind::BFloat16 => attention::bytes_per_token::<bf16>(layers, heads, dim),
        _ => attention::bytes_per_token::<f32>(layers, heads, dim),
    }
}

/// Cosines and sines of a batch's positions: [N, D/2] each.
struct Rotations {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl<E: Element> TypedRunner<E> {
    fn new(model: &Decoder, n_blocks: usize) -> Result<Self, Error> {
        let config = model.config().clone();
        let arena = KvArena::new(&config, n_blocks);
        Ok(Self {
            weights: Some(CpuWeights::new(model)?),
            inv_freq: slice::<f32>(model.inv_freq()).to_vec(),
            arena,
            config,
        })
    }

    fn empty(&self, n_rows: usize, width: usize) -> Tensor {
        Tensor::empty([n_rows as i64, width as i64], (E::KIND, Device::Cpu))
    }

    fn rotations(&self, positions: &[usize]) -> Rotations {
        let angles = positions
            .iter()
            .flat_map(|&position| self.inv_freq.iter().map(move |&freq| position as f32 * freq));
        let (sin, cos) = angles.map(f32::sin_cos).unzip();
        Rotations { cos, sin }
    }

    /// Normalises the queries and keys of `qkv`, where the layer has norms of heads, and rotates
    /// them, both in place.
    fn rotate(&self, layer: &CpuLayer, qkv: &mut [E], rotations: &Rotations) {
        let half = self.inv_freq.len();
        let norms = layer.head_norms.as_ref().map(|norms| math::HeadNormWeights {
            q: slice::<E>(&norms.q),
            k: slice::<E>(&norms.k),
            q_width: self.config.n_heads * self.config.head_dim,
            eps: norms.eps as f32,
        });
        let n_rotated = (self.config.n_heads + self.config.n_kv_heads) * self.config.head_dim;
        let width = n_rotated + self.config.n_kv_heads * self.config.head_dim;
        let is_small = qkv.len() < SMALL;
        let n_rows = rows_per_part(qkv.len() / width);
        let parts = qkv.chunks_mut(n_rows * width).enumerate().collect();
        threads::for_each(parts, is_small, |(part, rows)| {
            let from = part * n_rows * half;
            let (cos, sin) = (&rotations.cos[from..], &rotations.sin[from..]);
            math::rotate(rows, width, n_rotated, norms, half, cos, sin);
        });
    }

    fn embed(&self, embedding: &Tensor, tokens: &[u32]) -> Vec<f32> {
        let embedding = slice::<E>(embedding);
        let hidden = self.config.hidden_size;
        let rows = tokens.iter().map(|&token| &embedding[token as usize * hidden..][..hidden]);
        rows.flatten().map(|value| value.to_f32()).collect()
    }

    fn norm(&self, x: &[f32], weight: &Tensor) -> Tensor {
        let hidden = self.config.hidden_size;
        let mut out = self.empty(x.len() / hidden, hidden);
        let (weight, eps) = (slice::<E>(weight), self.config.rms_norm_eps as f32);
        let n_values = rows_per_part(x.len() / hidden) * hidden;
        let parts = x.chunks(n_values).zip(slice_mut::<E>(&mut out).chunks_mut(n_values));
        threads::for_each(parts.collect(), x.len() < SMALL, |(x, out)| {
            math::norm(x, weight, eps, out);
        });
        out
    }

    fn rmsnorm_residual(&self, x: &mut [f32], more: &Tensor, weight: &Tensor) -> Tensor {
        let hidden = self.config.hidden_size;
        let mut out = self.empty(x.len() / hidden, hidden);
        let (weight, eps) = (slice::<E>(weight), self.config.rms_norm_eps as f32);
        let is_small = x.len() < SMALL;
        let n_values = rows_per_part(x.len() / hidden) * hidden;
        let more = slice::<E>(more).chunks(n_values);
        let outs = slice_mut::<E>(&mut out).chunks_mut(n_values);
        let parts = x.chunks_mut(n_values).zip(more).zip(outs).collect();
        threads::for_each(parts, is_small, |((x, more), out)| {
            math::rmsnorm_residual(x, more, weight, eps, out);
        });
        out
    }

    fn silu_mul(&self, gate_up: &Tensor) -> Tensor {
        let width = self.config.intermediate_size;
        let gate_up = slice::<E>(gate_up);
        let n_rows = gate_up.len() / (2 * width);
        let mut out = self.empty(n_rows, width);
        let per_part = rows_per_part(n_rows);
        let parts = gate_up
            .chunks(per_part * 2 * width)
            .zip(slice_mut::<E>(&mut out).chunks_mut(per_part * width));
        threads::for_each(parts.collect(), gate_up.len() < SMALL, |(gate_up, out)| {
            math::silu_mul(gate_up, width, out);
        });
        out
    }

    /// Computes a batch with these weights.
    fn compute(&mut self, weights: &CpuWeights, batch: &ForwardBatch) -> Result<Tensor, Error> {
        let n_tokens = batch.tokens.len();
        let n_heads = self.config.n_heads;
        let attended = n_heads * self.config.head_dim;
        let n_groups = n_heads / self.config.n_kv_heads;
        let tiles = plan::tiles(batch, (TILE_QUERIES / n_groups).max(1));
        let rotations = self.rotations(&batch.positions);
        let mut x = self.embed(&weights.embedding, &batch.tokens);
        let mut normed = self.norm(&x, &weights.layers[0].input_norm);
        let n_layers = weights.layers.len();
        for at in 0..n_layers {
            let layer = &weights.layers[at];
            let mut qkv = layer.qkv.forward(&normed)?;
            self.rotate(layer, slice_mut(&mut qkv), &rotations);
            let qkv = slice::<E>(&qkv);
            self.arena.store(at, qkv, n_heads, &batch.slots);
            let is_last = at + 1 == n_layers;
            if is_last && batch.wanted.is_empty() {
                break;
            }
            let mut out = self.empty(n_tokens, attended);
            self.arena.attend(at, qkv, n_heads, &tiles, slice_mut(&mut out));
            if is_last && batch.wanted.len() < n_tokens {
                // no later layer attends to the other tokens
                let mut kept = self.empty(batch.wanted.len(), attended);
                slice_mut::<E>(&mut kept).copy_from_slice(&select(
                    slice(&out),
                    attended,
                    &batch.wanted,
                ));
                out = kept;
                x = select(&x, self.config.hidden_size, &batch.wanted);
            }
            let more = layer.output.forward(&out)?;
            normed = self.rmsnorm_residual(&mut x, &more, &layer.post_norm);
            let gate_up = layer.gate_up.forward(&normed)?;
            let more = layer.down.forward(&self.silu_mul(&gate_up))?;
            let next = match is_last {
                true => &weights.final_norm,
                false => &weights.layers[at + 1].input_norm,
            };
            normed = self.rmsnorm_residual(&mut x, &more, next);
        }
        if batch.wanted.is_empty() {
            return Ok(self.empty(0, self.config.vocab_size));
        }
        weights.head.forward(&normed)
    }
}

/// Number of rows that one thread takes at a time.
fn rows_per_part(n_rows: usize) -> usize {
    n_rows.div_ceil(8).clamp(1, 64)
}

/// The rows of `x` [N, width] with the indices `rows`.
fn select<T: Copy>(x: &[T], width: usize, rows: &[usize]) -> Vec<T> {
    rows.iter().flat_map(|&row| &x[row * width..][..width]).copied().collect()
}

impl<E: Element> RunBatch for TypedRunner<E> {
    fn forward(&mut self, batch: &ForwardBatch) -> Result<Tensor, Error> {
        let _guard = tch::no_grad_guard();
        let released = "the weights are released; publish others before sampling";
        let weights = self.weights.take().ok_or_else(|| Error::BadRequest(released.to_owned()))?;
        let logits = self.compute(&weights, batch);
        self.weights = Some(weights);
        logits
    }

    fn take_weights(&mut self, model: &Decoder) -> Result<(), Error> {
        match &mut self.weights {
            Some(weights) => weights.replace(model),
            None => {
                self.weights = Some(CpuWeights::new(model)?);
                Ok(())
            }
        }
    }

    fn release(&mut self) {
        self.weights = None;
        self.arena.clear();
    }
}

#[cfg(test)]
mod tests;
