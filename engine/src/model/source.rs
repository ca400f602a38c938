//! Where a model's tensors come from: a checkpoint, or a draw.
//!
//! Each tensor is brought to its device and number format as it is taken, so that no more than one of
//! them is held twice. It does not know which tensors a model has.

use joust_schema::seed::Seed;
use rand::Rng as _;
use tch::{Device, Kind, Tensor};

use super::linear::Linear;
use crate::config::Fp8Layout;
use crate::error::Error;
use crate::fp8::{self, Quantized};
use crate::weights::Checkpoint;

/// Standard deviation of freshly drawn weights, as in the Qwen2 and Llama recipes.
const INIT_STD: f64 = 0.02;

/// What a model's parameters are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// Norms, biases, embedding and activations; all matrices too, unless the rest says otherwise.
    pub kind: Kind,
    /// Whether the layers' matrices are FP8.
    pub fp8_layers: bool,
    /// Whether the output head is FP8.
    pub fp8_head: bool,
}

impl From<Kind> for Precision {
    fn from(kind: Kind) -> Self {
        Self { kind, fp8_layers: false, fp8_head: false }
    }
}

/// A matrix [N, K] as a model keeps it.
pub(super) enum Matrix {
    Plain(Tensor),
    Fp8(Quantized),
}

impl Matrix {
    pub(super) fn quantize(name: &str, weight: &Tensor) -> Result<Self, Error> {
        Ok(Self::Fp8(fp8::quantize(name, weight)?))
    }
}

/// Where a model's tensors are to lie, and what they are to be kept in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) device: Device,
    pub(super) precision: Precision,
}

/// Gives a model its tensors.
pub(super) trait Source {
    /// What becomes of them.
    fn target(&self) -> Target;

    /// A tensor of this shape, plain.
    fn plain(&self, name: &str, shape: &[usize]) -> Result<Tensor, Error>;

    /// A matrix [N, K], FP8 if `fp8` and if the source does not keep it from being so.
    fn matrix(&self, name: &str, shape: [usize; 2], fp8: bool) -> Result<Matrix, Error> {
        let weight = self.plain(name, &shape)?;
        match fp8 {
            true => Matrix::quantize(name, &weight),
            false => Ok(Matrix::Plain(weight)),
        }
    }
}

/// Puts matrices that read the same input on top of each other. One that is plain makes all plain.
pub(super) fn fuse(parts: Vec<Matrix>, kind: Kind, bias: Option<Tensor>) -> Result<Linear, Error> {
    let fp8: Vec<&Quantized> = parts
        .iter()
        .filter_map(|part| match part {
            Matrix::Fp8(quantized) => Some(quantized),
            Matrix::Plain(_) => None,
        })
        .collect();
    if fp8.len() == parts.len() {
        // libtorch copies FP8 as the bytes that they are
        let bytes = fp8.iter().map(|part| part.values.f_view_dtype(Kind::Uint8));
        let weight = stack(bytes.collect::<Result<_, _>>()?)?.f_view_dtype(Kind::Float8e4m3fn)?;
        let scale = stack(fp8.iter().map(|part| part.scale.shallow_clone()).collect())?;
        return Ok(Linear { weight, scale: Some(scale), bias });
    }
    let plain = parts.into_iter().map(|part| match part {
        Matrix::Plain(weight) => Ok(weight),
        Matrix::Fp8(quantized) => quantized.dequantize(kind),
    });
    let weight = stack(plain.collect::<Result<_, Error>>()?)?;
    Ok(Linear { weight, scale: None, bias })
}

/// Puts tensors on top of each other; one alone stays where it is.
pub(super) fn stack(mut parts: Vec<Tensor>) -> Result<Tensor, Error> {
    match parts.len() {
        1 => Ok(parts.remove(0).f_contiguous()?),
        _ => Ok(Tensor::f_cat(&parts, 0)?),
    }
}

/// A checkpoint's tensors, checked against the shapes that the model wants.
pub(super) struct FromCheckpoint<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    /// How its FP8 matrices are scaled; none where it is plain.
    pub(super) layout: Option<Fp8Layout>,
    pub(super) target: Target,
}

impl FromCheckpoint<'_> {
    /// Reads a tensor, or a matrix of FP8 with its scale, once its shape is the wanted one.
    fn read(&self, name: &str, wanted: &[usize]) -> Result<Matrix, Error> {
        let wanted: Vec<i64> = wanted.iter().map(|&dim| dim as i64).collect();
        match self.checkpoint.shape(name) {
            Some(seen) if seen != wanted => {
                return Err(Error::Shape { name: name.to_owned(), seen, wanted });
            }
            _ => {}
        }
        let [n_rows, width] = wanted[..] else {
            return Ok(Matrix::Plain(self.checkpoint.read(name, self.target.device)?));
        };
        if self.checkpoint.kind(name) != Some(Kind::Float8e4m3fn) {
            return Ok(Matrix::Plain(self.checkpoint.read(name, self.target.device)?));
        }
        let (scale_name, scale) = self.scale(name)?;
        let (n_rows, width) = (n_rows as usize, width as usize);
        let block_size = self.layout.and_then(|layout| layout.block);
        let block = match block_size {
            _ if scale.numel() == 1 => [n_rows, width],
            None => [1, width],
            Some(block) => block,
        };
        let wanted = [n_rows.div_ceil(block[0]) as i64, width.div_ceil(block[1]) as i64];
        let seen = scale.size();
        if scale.numel() as i64 != wanted[0] * wanted[1] || (seen.len() == 2 && seen != wanted) {
            return Err(Error::Shape { name: scale_name, seen, wanted: wanted.to_vec() });
        }
        // blocks are taken apart on the CPU
        let device = if block_size.is_some() { Device::Cpu } else { self.target.device };
        Ok(Matrix::Fp8(Quantized {
            values: self.checkpoint.read(name, device)?,
            scale: scale.f_to_kind(Kind::Float)?.f_view(wanted)?.f_to_device(device)?,
            block,
        }))
    }

    /// The scale of the FP8 matrix `name`, under one of the names that checkpoints have for it.
    fn scale(&self, name: &str) -> Result<(String, Tensor), Error> {
        let names = [format!("{name}_scale"), format!("{name}_scale_inv")];
        let found = names.iter().find(|name| self.checkpoint.contains(name));
        let found = found.unwrap_or(&names[0]);
        Ok((found.clone(), self.checkpoint.read(found, Device::Cpu)?))
    }

    fn place(&self, tensor: &Tensor) -> Result<Tensor, Error> {
        Ok(tensor.f_to_kind(self.target.precision.kind)?.f_to_device(self.target.device)?)
    }
}

impl Source for FromCheckpoint<'_> {
    fn target(&self) -> Target {
        self.target
    }

    fn plain(&self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        match self.read(name, shape)? {
            Matrix::Plain(tensor) => self.place(&tensor),
            Matrix::Fp8(quantized) => {
                self.place(&quantized.dequantize(self.target.precision.kind)?)
            }
        }
    }

    /// A matrix that an FP8 checkpoint has plain, by its `ignore` list, stays so.
    fn matrix(&self, name: &str, shape: [usize; 2], fp8: bool) -> Result<Matrix, Error> {
        Ok(match self.read(name, &shape)? {
            Matrix::Fp8(quantized) if fp8 => {
                Matrix::Fp8(quantized.by_row(name)?.to_device(self.target.device)?)
            }
            Matrix::Fp8(quantized) => {
                Matrix::Plain(self.place(&quantized.dequantize(self.target.precision.kind)?)?)
            }
            Matrix::Plain(weight) if fp8 && self.layout.is_none() => {
                Matrix::quantize(name, &weight)?
            }
            Matrix::Plain(weight) => Matrix::Plain(self.place(&weight)?),
        })
    }
}

/// A fresh tensor: norms 1, biases 0, the others by `draw`.
fn fresh(
    target: Target,
    name: &str,
    shape: &[usize],
    draw: impl FnOnce(&[i64]) -> Result<Tensor, Error>,
) -> Result<Tensor, Error> {
    let dims: Vec<i64> = shape.iter().map(|&dim| dim as i64).collect();
    let options = (Kind::Float, target.device);
    let tensor = if name.ends_with("norm.weight") {
        Tensor::f_ones(&dims, options)?
    } else if name.ends_with("bias") {
        Tensor::f_zeros(&dims, options)?
    } else {
        draw(&dims)?.f_to_device(target.device)?
    };
    Ok(tensor.f_to_kind(target.precision.kind)?)
}

/// Fresh weights: matrices from N(0, 0.02²), norms 1, biases 0, each keyed by its name.
pub(super) struct Random {
    pub(super) seed: Seed,
    pub(super) target: Target,
}

impl Source for Random {
    fn target(&self) -> Target {
        self.target
    }

    fn plain(&self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        fresh(self.target, name, shape, |dims| {
            let n_values = shape.iter().product();
            let values = normal_values(self.seed.child_str("init", name), n_values);
            Ok(Tensor::f_from_slice(&values)?.f_view(dims)?)
        })
    }
}

/// As [`Random`], but drawn on the device by libtorch: fast enough for the largest models, and another
/// draw on another device. The embedding is drawn from N(0, 1), and matrices that write to the residual
/// stream smaller by √(2·layers), as GPT-2's are: in a deep model of equal draws every layer blows up the
/// roundings of those before it, as in a trained one it does not.
pub(super) struct DrawnOnDevice {
    pub(super) n_layers: usize,
    pub(super) seed: Seed,
    pub(super) target: Target,
}

impl Source for DrawnOnDevice {
    fn target(&self) -> Target {
        self.target
    }

    fn plain(&self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        fresh(self.target, name, shape, |dims| {
            let std = match name.rsplit_once('.').map_or(name, |(matrix, _)| matrix) {
                "model.embed_tokens" => 1.0,
                matrix if matrix.ends_with("o_proj") || matrix.ends_with("down_proj") => {
                    INIT_STD / (2.0 * self.n_layers as f64).sqrt()
                }
                _ => INIT_STD,
            };
            tch::manual_seed(self.seed.child_str("init", name).0 as i64);
            let mut drawn = Tensor::f_randn(dims, (Kind::Float, self.target.device))?;
            Ok(drawn.f_mul_scalar_(std)?)
        })
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
