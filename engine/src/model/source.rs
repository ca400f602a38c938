//! Sources of a model's tensors: a checkpoint, or a random draw.
//!
//! Each tensor is converted to its device and number format when it is read, so that at most one
//! tensor is in memory twice. This file does not know which tensors a model has.

use std::cell::RefCell;
use std::collections::BTreeSet;

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

/// Number formats of a model's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// Number format of norms, biases, embedding, activations and all matrices that are not FP8.
    pub kind: Kind,
    /// Whether the layers' matrices are FP8.
    pub fp8_layers: bool,
    /// Whether the output head is FP8.
    pub fp8_head: bool,
}

impl Precision {
    /// Whether any of the matrices is FP8.
    pub(crate) fn is_quantized(self) -> bool {
        self.fp8_layers || self.fp8_head
    }
}

impl From<Kind> for Precision {
    fn from(kind: Kind) -> Self {
        Self { kind, fp8_layers: false, fp8_head: false }
    }
}

/// Device and number formats of a model's tensors.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeightTarget {
    pub(super) device: Device,
    pub(super) precision: Precision,
}

/// A source of a model's tensors.
pub(super) trait WeightSource {
    /// Device and number formats that the tensors are converted to.
    fn target(&self) -> WeightTarget;

    /// A tensor of this shape, not quantised.
    fn plain(&self, name: &str, shape: &[usize]) -> Result<Tensor, Error>;

    /// Whether a matrix stays unquantised where the model's matrices become FP8.
    fn keeps_plain(&self, _name: &str) -> bool {
        false
    }

    /// Writes a matrix to `out`, [N, K] with one scale per row.
    fn fp8(&self, name: &str, shape: [usize; 2], out: &Quantized) -> Result<(), Error> {
        fp8::quantize_into(name, &self.plain(name, &shape)?, out)
    }
}

/// Stacks matrices that read the same `width` inputs; `parts` are their names and numbers of rows.
/// If one of them stays unquantised, all do.
pub(super) fn fused(
    source: &dyn WeightSource,
    parts: &[(String, usize)],
    width: usize,
    fp8: bool,
    bias: Option<Tensor>,
) -> Result<Linear, Error> {
    if !fp8 || parts.iter().any(|(name, _)| source.keeps_plain(name)) {
        let matrices = parts.iter().map(|(name, rows)| source.plain(name, &[*rows, width]));
        let weight = stack(matrices.collect::<Result<_, Error>>()?)?;
        return Ok(Linear { weight, scale: None, bias, adapters: None });
    }
    // long-lived memory is allocated before temporary memory, to avoid fragmentation
    let n_rows: usize = parts.iter().map(|(_, rows)| rows).sum();
    let out = Quantized::empty(n_rows as i64, width as i64, source.target().device)?;
    let mut start = 0;
    for (name, rows) in parts {
        source.fp8(name, [*rows, width], &out.rows(start, *rows as i64)?)?;
        start += *rows as i64;
    }
    Ok(Linear { weight: out.values, scale: Some(out.scale), bias, adapters: None })
}

/// Concatenates tensors along their first dimension; a single tensor is not copied.
pub(super) fn stack(mut parts: Vec<Tensor>) -> Result<Tensor, Error> {
    match parts.len() {
        1 => Ok(parts.remove(0).f_contiguous()?),
        _ => Ok(Tensor::f_cat(&parts, 0)?),
    }
}

/// A tensor as stored in a checkpoint.
enum StoredTensor {
    Plain(Tensor),
    Fp8(Quantized),
}

/// A checkpoint's tensors, checked against the shapes of the model.
pub(super) struct FromCheckpoint<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    /// Layout of the scales of FP8 matrices; none for a checkpoint without FP8.
    pub(super) layout: Option<Fp8Layout>,
    pub(super) target: WeightTarget,
    /// Names of the tensors that the model has asked for.
    used: RefCell<BTreeSet<String>>,
}

impl<'a> FromCheckpoint<'a> {
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        layout: Option<Fp8Layout>,
        target: WeightTarget,
    ) -> Self {
        Self { checkpoint, layout, target, used: RefCell::default() }
    }

    /// Tensors that the model has not asked for: other programs' masks and positions, layers and
    /// heads that its configuration does not have.
    pub(super) fn unused(&self) -> Vec<&'a str> {
        let used = self.used.borrow();
        let is_used = |name: &str| {
            let scaled = ["_scale", "_scale_inv"].iter().find_map(|end| name.strip_suffix(end));
            used.contains(name) || scaled.is_some_and(|name| used.contains(name))
        };
        self.checkpoint.names().filter(|name| !is_used(name)).collect()
    }

    /// Number format of a tensor, after checking its shape. Refuses formats that are not weights,
    /// unquantised tensors with a scale, and FP8 tensors that are not matrices.
    fn check(&self, name: &str, wanted: &[usize]) -> Result<Kind, Error> {
        self.used.borrow_mut().insert(name.to_owned());
        let Some(seen) = self.checkpoint.shape(name) else {
            return Err(Error::MissingTensor { name: name.to_owned(), path: Default::default() });
        };
        let bad = |reason: String| Err(Error::BadTensor { name: name.to_owned(), reason });
        let Some(kind) = self.checkpoint.kind(name) else {
            let format = self.checkpoint.unreadable_format(name).unwrap_or_default();
            return bad(format!("is of type {format}, which no weight is"));
        };
        let wanted: Vec<i64> = wanted.iter().map(|&dim| dim as i64).collect();
        if seen != wanted {
            return Err(Error::Shape { name: name.to_owned(), seen, wanted });
        }
        match kind {
            Kind::Float8e4m3fn if seen.len() != 2 => bad("is FP8 and no matrix".to_owned()),
            Kind::Float8e4m3fn => Ok(kind),
            Kind::Int64 => bad("is of type Int64, which no weight is".to_owned()),
            _ if self.scale_name(name).is_some() => {
                bad(format!("is of type {kind:?} and has a scale, which only FP8 tensors have"))
            }
            _ => Ok(kind),
        }
    }

    /// Reads a tensor, or an FP8 matrix with its scale, after checking its shape.
    fn read(&self, name: &str, wanted: &[usize]) -> Result<StoredTensor, Error> {
        let (Kind::Float8e4m3fn, &[n_rows, width]) = (self.check(name, wanted)?, wanted) else {
            return Ok(StoredTensor::Plain(self.checkpoint.read(name, self.target.device)?));
        };
        let (scale_name, scale) = self.scale(name)?;
        let block_size = self.layout.and_then(|layout| layout.block);
        let grid = |block: [usize; 2]| -> Vec<i64> {
            vec![n_rows.div_ceil(block[0]) as i64, width.div_ceil(block[1]) as i64]
        };
        // only some of a checkpoint's matrices may have blocks
        let (seen, by_row) = (scale.size(), [1, width]);
        let is_by_row = scale.numel() == n_rows && (seen.len() != 2 || seen == grid(by_row));
        let block = match block_size {
            _ if scale.numel() == 1 => [n_rows, width],
            Some(block) if seen == grid(block) => block,
            _ if is_by_row => by_row,
            other => {
                let wanted = grid(other.unwrap_or(by_row));
                return Err(Error::Shape { name: scale_name, seen, wanted });
            }
        };
        fp8::check_finite(&scale_name, &scale)?;
        let wanted = grid(block);
        // scales per block are expanded on the CPU
        let is_block = block != by_row && scale.numel() > 1;
        let device = if is_block { Device::Cpu } else { self.target.device };
        Ok(StoredTensor::Fp8(Quantized {
            values: self.checkpoint.read(name, device)?,
            scale: scale.f_to_kind(Kind::Float)?.f_view(&wanted[..])?.f_to_device(device)?,
            block,
        }))
    }

    /// The scale of the FP8 matrix `name`, with its name: checkpoints use one of two names.
    fn scale(&self, name: &str) -> Result<(String, Tensor), Error> {
        let found = self.scale_name(name).unwrap_or_else(|| format!("{name}_scale"));
        let scale = self.checkpoint.read(&found, Device::Cpu)?;
        Ok((found, scale))
    }

    fn scale_name(&self, name: &str) -> Option<String> {
        let mut names = [format!("{name}_scale"), format!("{name}_scale_inv")].into_iter();
        names.find(|name| self.checkpoint.contains(name))
    }
}

impl WeightSource for FromCheckpoint<'_> {
    fn target(&self) -> WeightTarget {
        self.target
    }

    fn plain(&self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        let WeightTarget { device, precision } = self.target;
        let tensor = match self.read(name, shape)? {
            StoredTensor::Plain(tensor) => tensor,
            StoredTensor::Fp8(quantized) => quantized.dequantize(precision.kind)?,
        };
        Ok(tensor.f_to_kind(precision.kind)?.f_to_device(device)?)
    }

    /// A matrix that is not FP8 in an FP8 checkpoint, because of its `ignore` list, stays
    /// unquantised.
    fn keeps_plain(&self, name: &str) -> bool {
        self.layout.is_some() && self.checkpoint.kind(name) != Some(Kind::Float8e4m3fn)
    }

    fn fp8(&self, name: &str, shape: [usize; 2], out: &Quantized) -> Result<(), Error> {
        if self.check(name, &shape)? != Kind::Float8e4m3fn {
            return fp8::quantize_parts(name, out, &|start, rows| {
                self.checkpoint.read_rows(name, start, rows, self.target.device)
            });
        }
        match self.read(name, &shape)? {
            StoredTensor::Plain(weight) => fp8::quantize_into(name, &weight, out),
            StoredTensor::Fp8(quantized) => out.copy_from(&quantized.by_row(name)?),
        }
    }
}

/// A checkpoint whose names and shapes are checked without reading tensors: building a model from
/// it fails where a tensor is missing or has another shape.
pub(super) struct InspectedCheckpoint<'a>(pub(super) FromCheckpoint<'a>);

impl WeightSource for InspectedCheckpoint<'_> {
    fn target(&self) -> WeightTarget {
        self.0.target
    }

    fn plain(&self, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        self.0.check(name, shape)?;
        Ok(Tensor::f_empty([0], (Kind::Float, Device::Cpu))?)
    }
}

/// An initial tensor: norms are 1, biases 0, matrices the result of `draw`.
fn fresh(
    target: WeightTarget,
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

/// Zeros in place of weights that come later.
pub(super) struct Zeros(pub(super) WeightTarget);

impl WeightSource for Zeros {
    fn target(&self) -> WeightTarget {
        self.0
    }

    fn plain(&self, _name: &str, shape: &[usize]) -> Result<Tensor, Error> {
        let dims: Vec<i64> = shape.iter().map(|&dim| dim as i64).collect();
        Ok(Tensor::f_zeros(&dims, (self.0.precision.kind, self.0.device))?)
    }
}

/// Random initial weights: matrices from N(0, 0.02²) with a seed per name, norms 1, biases 0.
pub(super) struct RandomWeights {
    pub(super) seed: Seed,
    pub(super) target: WeightTarget,
}

impl WeightSource for RandomWeights {
    fn target(&self) -> WeightTarget {
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

/// As [`RandomWeights`], but drawn on the device by libtorch: fast enough for the largest models,
/// with other values on other devices. The embedding is drawn from N(0, 1), and matrices that write
/// to the residual stream are smaller by √(2·layers), as in GPT-2. Without this, each layer of a
/// deep model would amplify the rounding errors of earlier layers, which layers of a trained model
/// do not.
pub(super) struct DrawnOnDevice {
    pub(super) n_layers: usize,
    pub(super) seed: Seed,
    pub(super) target: WeightTarget,
}

impl WeightSource for DrawnOnDevice {
    fn target(&self) -> WeightTarget {
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
