//! Model folders that inference servers read new weights from, and a changed model to try the way
//! of the weights with.
//!
//! The output head is always a tensor of its own: servers whose model has one want it, and vLLM on
//! CPUs takes it for tied embeddings, too, where it would keep the old one otherwise. It does not
//! know when a server reads a folder.

use std::path::Path;

use joust_schema::seed::Seed;
use tch::{Device, Kind, Tensor};

use super::{open, save};
use crate::config::ModelConfig;
use crate::device::DType;
use crate::error::Error;
use crate::model::Decoder;
use crate::tokenizer::Tokenizer;
use crate::weights::WeightMap;

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// Deviation that a tensor is taken to have at least, as a share of its size.
const MIN_DEVIATION: f64 = 0.1;

/// The output head of a changed model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangedHead {
    /// It is changed, as all else.
    Changed,
    /// It stays that of the model.
    Old,
}

/// Writes a folder with the weights of a policy as servers read them: in bf16 unless `dtype` is
/// f32, adapters merged. As of [`save`], the write is not atomic.
///
/// # Errors
/// [`Error::Io`]
pub fn write(
    dir: &Path,
    policy: &Decoder,
    tokenizer: &Tokenizer,
    dtype: DType,
) -> Result<(), Error> {
    let kind = if dtype == DType::F32 { Kind::Float } else { Kind::BFloat16 };
    let (config, weights) = untied(policy, kind);
    save(dir, &config, &weights, tokenizer)
}

/// Checks that a written folder can be opened and has all tensors of its model, in their shapes.
///
/// # Errors
/// As [`open`] and [`ModelFiles::decoder`](super::ModelFiles::decoder).
pub fn check(dir: &Path) -> Result<(), Error> {
    let files = open(dir)?;
    Decoder::inspect(&files.config, &files.weights).map_err(|error| error.of_model(dir))
}

/// A copy of a policy on the CPU, in f32, of which every tensor is changed by `share` of its
/// deviation. The same seed makes the same change.
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses, for lack of memory for example.
pub fn changed(
    policy: &Decoder,
    seed: Seed,
    share: f64,
    head: ChangedHead,
) -> Result<Decoder, Error> {
    let _guard = tch::no_grad_guard();
    let (config, mut weights) = untied(policy, Kind::Float);
    for (name, tensor) in weights.iter_mut().filter(|(name, _)| *name != HEAD) {
        add_change(tensor, seed.child_str("changed", name), share)?;
    }
    if head == ChangedHead::Changed {
        let changed = match policy.config().tie_word_embeddings {
            true => weights[EMBEDDING].copy(),
            false => {
                let mut head = weights[HEAD].copy();
                add_change(&mut head, seed.child_str("changed", HEAD), share)?;
                head
            }
        };
        weights.insert(HEAD.to_owned(), changed);
    }
    Decoder::from_weights(&config, &weights.into(), Device::Cpu, Kind::Float)
}

/// The configuration and the tensors of a model, its output head beside the embedding.
fn untied(policy: &Decoder, kind: Kind) -> (ModelConfig, WeightMap) {
    let mut weights = policy.to_weights(kind);
    if !weights.contains_key(HEAD) {
        let head = weights[EMBEDDING].copy();
        weights.insert(HEAD.to_owned(), head);
    }
    let config = ModelConfig { tie_word_embeddings: false, fp8: None, ..policy.config().clone() };
    (config, weights)
}

/// Adds `share` deviations to each value: those of the tensor itself, moved along it, for these are
/// as large as its own and cost no draws. Values of a vector may be all alike: theirs are ±1.
fn add_change(tensor: &mut Tensor, seed: Seed, share: f64) -> Result<(), Error> {
    let n_values = tensor.numel();
    let flat = tensor.f_reshape([-1])?;
    let size = flat.f_square()?.f_mean(Kind::Float)?.f_double_value(&[])?.sqrt();
    let deviation = flat.f_std(false)?.f_double_value(&[])?;
    let change = if tensor.size().len() < 2 || deviation < MIN_DEVIATION * size {
        let is_up = |idx: usize| seed.child("sign", idx as u64).0.is_multiple_of(2);
        let sign = |idx: usize| if is_up(idx) { 1f32 } else { -1.0 };
        let signs: Vec<f32> = (0..n_values).map(sign).collect();
        Tensor::f_from_slice(&signs)?.f_mul_scalar(deviation.max(MIN_DEVIATION * size))?
    } else {
        // not whole rows
        let by = (seed.unit() * n_values as f64) as i64 | 1;
        let moved = flat.f_roll([by], [0])?;
        let mean = moved.f_mean(Kind::Float)?;
        moved.f_sub(&mean)?
    };
    let change = change.f_mul_scalar(share)?.f_reshape(tensor.size())?;
    let _ = tensor.f_add_(&change)?;
    Ok(())
}

#[cfg(test)]
mod tests;
