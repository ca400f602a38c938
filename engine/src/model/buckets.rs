//! The trained parameters of a model in flat tensors, a bucket per layer.
//!
//! Optimisers and collectives see a few long tensors; the model's parameters are views of them.
//! What the values are (weights, gradients) is not known here.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::decoder::Decoder;
use super::layer::{HeadNorms, Layer};
use super::linear::Linear;
use crate::error::Error;
use crate::ffi::malloc::{self, LARGE};

/// A parameter within its bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketPiece {
    /// Name of the parameter.
    pub name: String,
    /// Shape of the parameter.
    pub shape: Vec<i64>,
    /// Place of its first value in the bucket.
    pub start: usize,
    /// Number of its values.
    pub n_values: usize,
}

/// The part of a parameter that lies in a part of its bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceOfPart {
    /// Whether it belongs to a matrix, not to a norm or a bias.
    pub is_matrix: bool,
    /// Place of its first value in the part.
    pub start: usize,
    /// Number of its values.
    pub n_values: usize,
}

impl BucketPiece {
    /// Its place in the bucket.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.n_values
    }

    /// What lies in a range of the bucket.
    pub fn within(&self, range: &Range<usize>) -> Option<PieceOfPart> {
        let own = self.range();
        let (start, end) = (own.start.max(range.start), own.end.min(range.end));
        (start < end).then(|| PieceOfPart {
            is_matrix: self.shape.len() >= 2,
            start: start - range.start,
            n_values: end - start,
        })
    }
}

/// Parameters that lie one after the other in one flat tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The parameters, in the order of the model.
    pub pieces: Vec<BucketPiece>,
    /// Number of values, unused ones at the end included.
    pub n_values: usize,
}

/// A part of a model whose parameters have a bucket of their own, in the order of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// The embedding, which is also the output head of a model whose two are tied.
    Embedding,
    /// A layer, by its index.
    Layer(usize),
    /// The final norm, and the output head where it has weights of its own.
    Head,
}

impl Section {
    /// The section of a parameter.
    fn of(name: &str) -> Self {
        let layer = name.split_once("layers.").and_then(|(_, rest)| rest.split('.').next());
        match layer.and_then(|layer| layer.parse().ok()) {
            Some(layer_idx) => Self::Layer(layer_idx),
            None if name.contains("embed_tokens") => Self::Embedding,
            None => Self::Head,
        }
    }
}

impl Bucket {
    /// Lays the parameters of a section out. The bucket is as long as a multiple of `multiple`
    /// values, with unused values at its end.
    pub(super) fn of(parameters: &[(String, Tensor)], multiple: usize) -> Self {
        let mut start = 0;
        let piece = |(name, tensor): &(String, Tensor)| {
            let piece = BucketPiece {
                name: name.clone(),
                shape: tensor.size(),
                start,
                n_values: tensor.numel(),
            };
            start += piece.n_values;
            piece
        };
        let pieces = parameters.iter().map(piece).collect();
        Self { pieces, n_values: start.next_multiple_of(multiple) }
    }

    /// The part of the model whose parameters are in the bucket.
    pub fn section(&self) -> Section {
        self.pieces.first().map_or(Section::Head, |piece| Section::of(&piece.name))
    }

    /// A flat tensor of the bucket with copies of its parameters, in their order.
    ///
    /// # Errors
    /// [`Error::Tensor`] for lack of memory.
    pub fn filled(&self, parameters: &[(String, Tensor)], kind: Kind) -> Result<Tensor, Error> {
        let _guard = tch::no_grad_guard();
        let device = parameters.first().map_or(Device::Cpu, |(_, tensor)| tensor.device());
        let flat = self.zeros(kind, device)?;
        for (mut view, (_, parameter)) in self.views(&flat).zip(parameters) {
            view.f_copy_(parameter)?;
        }
        Ok(flat)
    }

    /// A flat tensor of zeros for the bucket.
    ///
    /// # Errors
    /// [`Error::Tensor`] for lack of memory.
    pub fn zeros(&self, kind: Kind, device: Device) -> Result<Tensor, Error> {
        Ok(Tensor::f_zeros([self.n_values as i64], (kind, device))?)
    }

    /// Views of the parameters within a flat tensor of the bucket, in their order.
    pub fn views<'a>(&'a self, flat: &'a Tensor) -> impl Iterator<Item = Tensor> + 'a {
        self.pieces.iter().map(|piece| {
            flat.narrow(0, piece.start as i64, piece.n_values as i64).view(&piece.shape[..])
        })
    }
}

fn by_section(parameters: &[(String, Tensor)]) -> impl Iterator<Item = &[(String, Tensor)]> {
    let same = |a: &(String, Tensor), b: &(String, Tensor)| Section::of(&a.0) == Section::of(&b.0);
    parameters.chunk_by(same)
}

/// Bytes of a bucket that are worth their pages.
const LARGE_BUCKET: usize = LARGE >> 5;

/// Takes the parameters of a bucket.
pub type TakeBucket<'a> = dyn FnMut(&Bucket, &[(String, Tensor)]) -> Result<(), Error> + 'a;

/// Gives the parameters of a section to `take`, and leaves them without memory: what they had goes
/// back to the system where it is large.
pub(super) fn drain(
    parameters: &[(String, Tensor)],
    multiple: usize,
    take: &mut TakeBucket<'_>,
) -> Result<Bucket, Error> {
    let bucket = Bucket::of(parameters, multiple);
    take(&bucket, parameters)?;
    let mut n_bytes = 0;
    for (_, parameter) in parameters {
        n_bytes += parameter.numel() * parameter.kind().elt_size_in_bytes();
        let empty = Tensor::f_empty([0], (parameter.kind(), parameter.device()))?;
        parameter.shallow_clone().set_data(&empty);
    }
    if n_bytes > LARGE_BUCKET {
        malloc::trim();
    }
    Ok(bucket)
}

impl Decoder {
    /// The buckets of the parameters that training changes.
    pub fn buckets(&self, multiple: usize) -> Vec<Bucket> {
        by_section(&self.trained_parameters()).map(|it| Bucket::of(it, multiple)).collect()
    }

    /// Gives the parameters that training changes to `take`, bucket by bucket: each is as long as
    /// a multiple of `multiple` values. The model, and those that share memory with it, have no
    /// parameters then, until [`Decoder::put_on_buckets`] gives them others.
    ///
    /// # Errors
    /// [`Error::Tensor`] for lack of memory, and those of `take`; some of the parameters are gone
    /// then.
    pub fn drain_buckets(
        &self,
        multiple: usize,
        take: &mut TakeBucket<'_>,
    ) -> Result<Vec<Bucket>, Error> {
        let _guard = tch::no_grad_guard();
        let parameters = self.trained_parameters();
        by_section(&parameters).map(|it| drain(it, multiple, take)).collect()
    }

    /// Makes the trained parameters views of flat tensors of these buckets. Models that share
    /// memory with this one follow.
    pub fn put_on_buckets(&self, buckets: &[Bucket], flats: &[Tensor]) {
        let _guard = tch::no_grad_guard();
        let views = buckets.iter().zip(flats).flat_map(|(bucket, flat)| bucket.views(flat));
        for ((_, mut parameter), view) in self.trained_parameters().into_iter().zip(views) {
            parameter.set_data(&view);
        }
    }

    /// A model of the same shape whose trained parameters are views of flat tensors of these
    /// buckets; all other parameters are this model's own. No memory is copied.
    pub fn on_buckets(&self, buckets: &[Bucket], flats: &[Tensor]) -> Decoder {
        let model = self.detached();
        model.put_on_buckets(buckets, flats);
        model
    }

    /// The same model with handles of its own to the same memory, without gradients.
    fn detached(&self) -> Decoder {
        let layer = |layer: &Layer| Layer {
            input_norm: layer.input_norm.detach(),
            qkv: layer.qkv.detach(),
            head_norms: layer.head_norms.as_ref().map(HeadNorms::detach),
            output: layer.output.detach(),
            post_norm: layer.post_norm.detach(),
            gate_up: layer.gate_up.detach(),
            down: layer.down.detach(),
        };
        Decoder {
            config: self.config.clone(),
            embedding: self.embedding.detach(),
            layers: self.layers.iter().map(layer).collect(),
            final_norm: self.final_norm.detach(),
            head: self.head.as_ref().map(Linear::detach),
            rope: self.rope.shallow_clone(),
        }
    }
}
