//! FP8 numbers (E4M3: 4 bits of exponent, 3 of mantissa, largest value 448, no infinities), and
//! matrices of them with scales.
//!
//! A value is `q · scale`. Weights have one scale per output channel (which the products here use),
//! per tensor or per block (which checkpoints may have); activations have one per token. Sources:
//! Micikevicius et al., arXiv 2209.05433; the scales as in vLLM's dynamic per-token quantisation.
//! It does not know which matrices of a model are quantised.

use half::bf16;
use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::ffi::tensors::{Plain, bytes, slice, slice_mut};
use crate::ffi::threads;

/// The largest value of E4M3.
pub(crate) const LARGEST: f64 = 448.0;

/// Smallest scale of an activation: its reciprocal stays far from overflow.
const LEAST_SCALE: f64 = 1.0 / (LARGEST * 512.0);

/// Number of values whose f32 copies are held at once while a matrix is quantised. Few, so that
/// temporary memory leaves no large holes between lasting allocations; more on a GPU, which needs
/// large parts.
const CHUNK: i64 = 1 << 18;
const GPU_CHUNK: i64 = 1 << 23;

/// Number of values below which dequantising is not worth a second thread.
const SMALL: usize = 1 << 16;

/// All 256 numbers of E4M3, by their bits.
const fn table() -> [f32; 256] {
    let mut table = [0.0; 256];
    let mut bits = 0;
    while bits < 256 {
        let exponent = (bits >> 3) & 15;
        let mantissa = (bits & 7) as f32;
        let size = if exponent == 15 && mantissa == 7.0 {
            f32::NAN
        } else if exponent == 0 {
            mantissa / 512.0 // subnormal: m/8 · 2⁻⁶
        } else {
            // the f32 of the same exponent, times 1 + m/8
            f32::from_bits((exponent as u32 + 120) << 23) * (1.0 + mantissa / 8.0)
        };
        table[bits] = if bits < 128 { size } else { -size };
        bits += 1;
    }
    table
}

static TABLE: [f32; 256] = table();

/// A matrix in E4M3 with its scales.
#[derive(Debug)]
pub(crate) struct Quantized {
    /// [N, K] E4M3.
    pub(crate) values: Tensor,
    /// One scale per block: [⌈N/bn⌉, ⌈K/bk⌉] f32.
    pub(crate) scale: Tensor,
    /// Rows and columns of a block, [bn, bk]; blocks at the edges may be cut. [1, K] is one scale
    /// per output channel or token, [N, K] one for the matrix.
    pub(crate) block: [usize; 2],
}

/// Quantises the weight matrix `name` [N, K] of any float kind, one scale per output channel.
///
/// # Errors
/// As [`channel_scale`].
pub(crate) fn quantize(name: &str, weight: &Tensor) -> Result<Quantized, Error> {
    let out = Quantized::empty(weight.size()[0], weight.size()[1], weight.device())?;
    quantize_into(name, weight, &out)?;
    Ok(out)
}

/// As [`quantize`], into a preallocated buffer: `out` is [N, K] with one scale per row.
///
/// # Errors
/// As [`channel_scale`].
pub(crate) fn quantize_into(name: &str, weight: &Tensor, out: &Quantized) -> Result<(), Error> {
    quantize_parts(name, out, &|start, rows| Ok(weight.f_narrow(0, start, rows)?))
}

/// As [`quantize_into`], with a matrix that is read a few rows at a time: `rows_at(start, n)`
/// returns n rows.
///
/// # Errors
/// As [`channel_scale`], and those of `rows_at`.
pub(crate) fn quantize_parts(
    name: &str,
    out: &Quantized,
    rows_at: &dyn Fn(i64, i64) -> Result<Tensor, Error>,
) -> Result<(), Error> {
    let _guard = tch::no_grad_guard();
    let device = out.values.device();
    let (n_rows, width) = (out.values.size()[0], out.values.size()[1]);
    for (start, rows) in row_chunks(n_rows, width, device) {
        let chunk = rows_at(start, rows)?.f_to_device(device)?.f_to_kind(Kind::Float)?;
        let part = out.rows(start, rows)?;
        part.scale.shallow_clone().f_copy_(&scale_of_rows(&chunk)?)?;
        let divided = chunk.f_div(&part.scale)?.f_clamp(-LARGEST, LARGEST)?;
        part.copy_values(&divided.f_to_kind(Kind::Float8e4m3fn)?)?;
    }
    check_finite(name, &out.scale)
}

/// Scales of the rows of the weight matrix `name`: each row's largest absolute value over 448, 1
/// for a row of zeros. [N, K] → [N, 1] f32.
///
/// # Errors
/// [`Error::InfiniteWeight`] where the matrix holds NaN or infinity.
pub(crate) fn channel_scale(name: &str, weight: &Tensor) -> Result<Tensor, Error> {
    let _guard = tch::no_grad_guard();
    let chunks = row_chunks(weight.size()[0], weight.size()[1], weight.device());
    let parts = chunks.map(|(start, rows)| {
        scale_of_rows(&weight.f_narrow(0, start, rows)?.f_to_kind(Kind::Float)?)
    });
    let scale = Tensor::f_cat(&parts.collect::<Result<Vec<_>, Error>>()?, 0)?;
    check_finite(name, &scale)?;
    Ok(scale)
}

fn scale_of_rows(rows: &Tensor) -> Result<Tensor, Error> {
    let largest = rows.f_abs()?.f_amax([-1i64].as_slice(), true)?;
    let scale = largest.f_div_scalar(LARGEST)?;
    Ok(scale.f_where_self(&largest.f_ne(0.0)?, &largest.ones_like())?)
}

/// Refuses scales that are NaN or infinite.
///
/// # Errors
/// [`Error::InfiniteWeight`]
pub(crate) fn check_finite(name: &str, scale: &Tensor) -> Result<(), Error> {
    match f64::try_from(scale.f_sum(Kind::Double)?)? {
        sum if sum.is_finite() => Ok(()),
        _ => Err(Error::InfiniteWeight { name: name.to_owned() }),
    }
}

/// First row and number of rows of parts that are small enough to be widened.
fn row_chunks(n_rows: i64, width: i64, device: Device) -> impl Iterator<Item = (i64, i64)> {
    let most = if device == Device::Cpu { CHUNK } else { GPU_CHUNK };
    let at_once = (most / width.max(1)).max(1);
    (0..n_rows).step_by(at_once as usize).map(move |start| (start, at_once.min(n_rows - start)))
}

/// Quantises activations [N, K], one scale per token: max(amax/448, 1/(448·512)); values are
/// multiplied by its reciprocal.
pub(crate) fn quantize_tokens(x: &Tensor) -> Result<Quantized, Error> {
    let wide = x.f_to_kind(Kind::Float)?;
    let scale = wide.f_abs()?.f_amax([-1i64].as_slice(), true)?.f_div_scalar(LARGEST)?;
    let scale = scale.f_clamp_min(LEAST_SCALE)?; // [N, 1]
    let values = wide.f_mul(&scale.f_reciprocal()?)?.f_clamp(-LARGEST, LARGEST)?;
    let values = values.f_to_kind(Kind::Float8e4m3fn)?;
    Ok(Quantized { block: [1, x.size()[1] as usize], values, scale })
}

impl Quantized {
    /// Memory for a matrix with one scale per row.
    pub(crate) fn empty(n_rows: i64, width: i64, device: Device) -> Result<Self, Error> {
        let bytes = Tensor::f_empty([n_rows, width], (Kind::Uint8, device))?;
        Ok(Self {
            values: bytes.f_view_dtype(Kind::Float8e4m3fn)?,
            scale: Tensor::f_empty([n_rows, 1], (Kind::Float, device))?,
            block: [1, width as usize],
        })
    }

    /// Some rows of a matrix with one scale per row, in the same memory.
    pub(crate) fn rows(&self, start: i64, n_rows: i64) -> Result<Self, Error> {
        debug_assert!(self.is_by_row(), "rows are taken where each has its scale");
        let (values, scale) =
            (self.values.f_narrow(0, start, n_rows)?, self.scale.f_narrow(0, start, n_rows)?);
        Ok(Self { values, scale, block: self.block })
    }

    /// Copies a matrix with one scale per row into this one's memory.
    pub(crate) fn copy_from(&self, other: &Self) -> Result<(), Error> {
        self.copy_values(&other.values)?;
        Ok(self.scale.shallow_clone().f_copy_(&other.scale)?)
    }

    /// FP8 is copied as bytes.
    fn copy_values(&self, values: &Tensor) -> Result<(), Error> {
        let bytes = values.f_view_dtype(Kind::Uint8)?;
        Ok(self.values.f_view_dtype(Kind::Uint8)?.f_copy_(&bytes)?)
    }

    /// Whether each row has one scale.
    pub(crate) fn is_by_row(&self) -> bool {
        self.block == [1, self.values.size()[1] as usize]
    }

    /// The matrix in `kind`: [N, K].
    ///
    /// # Errors
    /// What libtorch refuses.
    pub(crate) fn dequantize(&self, kind: Kind) -> Result<Tensor, Error> {
        if self.values.device() != Device::Cpu {
            let is_block = !self.is_by_row() && self.scale.numel() > 1;
            debug_assert!(!is_block, "blocks are taken apart on the CPU");
            let wide = self.values.f_to_kind(Kind::Float)?.f_mul(&self.scale)?;
            return Ok(wide.f_to_kind(kind)?);
        }
        match kind {
            Kind::BFloat16 => self.dequantize_as::<bf16>(),
            Kind::Float => self.dequantize_as::<f32>(),
            other => Ok(self.dequantize_as::<f32>()?.f_to_kind(other)?),
        }
    }

    fn dequantize_as<T: Rounded>(&self) -> Result<Tensor, Error> {
        let (n_rows, width) = (self.values.size()[0] as usize, self.values.size()[1] as usize);
        let [block_rows, block_columns] = self.block;
        let mut out = Tensor::f_empty([n_rows as i64, width as i64], (T::KIND, Device::Cpu))?;
        if out.numel() == 0 {
            return Ok(out);
        }
        let scale = self.scale.f_contiguous()?;
        let scales = slice::<f32>(&scale);
        let blocks_across = width.div_ceil(block_columns);
        let values = self.values.f_contiguous()?;
        let rows = bytes(&values).chunks(width).zip(slice_mut::<T>(&mut out).chunks_mut(width));
        let rows: Vec<_> = rows.enumerate().collect();
        threads::for_each(rows, n_rows * width < SMALL, |(row, (codes, out))| {
            let scales = &scales[row / block_rows * blocks_across..][..blocks_across];
            let parts = codes.chunks(block_columns).zip(out.chunks_mut(block_columns));
            for ((codes, out), &scale) in parts.zip(scales) {
                for (out, &code) in out.iter_mut().zip(codes) {
                    *out = T::round(TABLE[code as usize] * scale);
                }
            }
        });
        Ok(out)
    }

    /// The same matrix with one scale per row. A scale of the whole tensor is repeated; blocks are
    /// quantised again, which rounds a second time.
    ///
    /// # Errors
    /// As [`quantize`].
    pub(crate) fn by_row(self, name: &str) -> Result<Self, Error> {
        let (n_rows, width) = (self.values.size()[0], self.values.size()[1]);
        if self.is_by_row() {
            return Ok(self);
        }
        if self.scale.numel() == 1 {
            let scale = self.scale.f_reshape([1, 1])?.f_expand([n_rows, 1], false)?;
            return Ok(Self { scale: scale.f_contiguous()?, block: [1, width as usize], ..self });
        }
        quantize(name, &self.dequantize(Kind::Float)?)
    }
}

/// A number format that f32 values are rounded to.
trait Rounded: Plain {
    fn round(value: f32) -> Self;
}

impl Rounded for f32 {
    fn round(value: f32) -> Self {
        value
    }
}

impl Rounded for bf16 {
    fn round(value: f32) -> Self {
        bf16::from_f32(value)
    }
}

#[cfg(test)]
mod tests;
