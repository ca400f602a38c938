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

/// The part of a parameter's name that its bucket has in common: `layers.N`, or nothing before and
/// after the layers.
fn layer_of(name: &str) -> Option<&str> {
    let (_, rest) = name.split_once("layers.")?;
    rest.split('.').next()
}

/// Lays parameters out in buckets: one for what comes before the layers, one per layer, and one for
/// what comes after them. Each is as long as a multiple of `multiple` values, with unused values at
/// its end.
fn layout(parameters: &[(String, Tensor)], multiple: usize) -> Vec<Bucket> {
    let same = |a: &(String, Tensor), b: &(String, Tensor)| layer_of(&a.0) == layer_of(&b.0);
    let bucket = |parameters: &[(String, Tensor)]| {
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
        Bucket { pieces, n_values: start.next_multiple_of(multiple) }
    };
    parameters.chunk_by(same).map(bucket).collect()
}

impl Bucket {
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

impl Decoder {
    /// The buckets of the parameters that training changes.
    pub fn buckets(&self, multiple: usize) -> Vec<Bucket> {
        layout(&self.trained_parameters(), multiple)
    }

    /// Moves the trained parameters into flat tensors of these buckets and this number format, and
    /// returns the tensors. Models that share memory with this one follow. One bucket is in memory
    /// twice at a time; what was there before goes back to the system where it is large.
    ///
    /// # Errors
    /// [`Error::Tensor`] for lack of memory; some of the parameters are moved then.
    pub fn move_into_buckets(&self, buckets: &[Bucket], kind: Kind) -> Result<Vec<Tensor>, Error> {
        let _guard = tch::no_grad_guard();
        let is_large = self.n_bytes() > LARGE;
        let mut parameters = self.trained_parameters().into_iter();
        let flats = buckets.iter().map(|bucket| {
            let flat = bucket.zeros(kind, self.device())?;
            for (mut view, (_, mut parameter)) in bucket.views(&flat).zip(&mut parameters) {
                view.f_copy_(&parameter)?;
                parameter.set_data(&view);
            }
            if is_large {
                malloc::trim();
            }
            Ok(flat)
        });
        flats.collect()
    }

    /// A model of the same shape whose trained parameters are views of flat tensors of these
    /// buckets; all other parameters are this model's own. No memory is copied.
    pub fn on_buckets(&self, buckets: &[Bucket], flats: &[Tensor]) -> Decoder {
        let _guard = tch::no_grad_guard();
        let model = self.detached();
        let views = buckets.iter().zip(flats).flat_map(|(bucket, flat)| bucket.views(flat));
        for ((_, mut parameter), view) in model.trained_parameters().into_iter().zip(views) {
            parameter.set_data(&view);
        }
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
