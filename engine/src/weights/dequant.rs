//! Dequantisation of ggml's block formats to `f32`.
//!
//! This file owns the layout of each block and the arithmetic of ggml's reference code, in single
//! precision and in the same order, so that the values are equal bit for bit. It does not know
//! where the bytes come from. Layouts: `ggml-common.h` and `ggml-quants.c` of ggml.

use half::{bf16, f16};

/// Number of values per block of the formats without `K`.
const QK: usize = 32;
/// Number of values per block of the K formats.
const QK_K: usize = 256;
/// Number of bytes in which the K formats pack eight 6-bit scales and eight 6-bit minima.
const K_SCALE_BYTES: usize = 12;

/// Storage format of a tensor. `Q4K` is ggml's `Q4_K`, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum GgmlType {
    /// 32-bit float.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a 32-bit float.
    BF16,
    /// 8 bits per value, one scale per 32 values.
    Q8_0,
    /// 4 bits per value, one scale per 32 values.
    Q4_0,
    /// 4 bits per value, one scale and one minimum per 32 values.
    Q4_1,
    /// 5 bits per value, one scale per 32 values.
    Q5_0,
    /// 5 bits per value, one scale and one minimum per 32 values.
    Q5_1,
    /// 4 bits per value, blocks of 256 with 6-bit scales and minima.
    Q4K,
    /// 5 bits per value, blocks of 256 with 6-bit scales and minima.
    Q5K,
    /// 6 bits per value, blocks of 256 with 8-bit scales.
    Q6K,
}

impl GgmlType {
    /// The type with this id in a GGUF file.
    ///
    /// # Errors
    /// The type's name, for a type that the engine does not read.
    pub(crate) fn from_id(id: u32) -> Result<Self, String> {
        Ok(match id {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::BF16,
            other => return Err(format!("tensor type {}", name_of_other(other))),
        })
    }

    /// Number of values per block; 1 for the float types.
    pub(crate) fn block_size(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => QK,
            Self::Q4K | Self::Q5K | Self::Q6K => QK_K,
        }
    }

    /// Number of bytes per block.
    pub(crate) fn type_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q8_0 => 2 + QK,
            Self::Q4_0 => 2 + QK / 2,
            Self::Q4_1 => 4 + QK / 2,
            Self::Q5_0 => 2 + QK / 8 + QK / 2,
            Self::Q5_1 => 4 + QK / 8 + QK / 2,
            Self::Q4K => 4 + K_SCALE_BYTES + QK_K / 2,
            Self::Q5K => 4 + K_SCALE_BYTES + QK_K / 8 + QK_K / 2,
            Self::Q6K => QK_K / 2 + QK_K / 4 + QK_K / 16 + 2,
        }
    }
}

/// Names of ggml's types that this engine does not read.
fn name_of_other(id: u32) -> String {
    let name = match id {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        other => return format!("number {other}"),
    };
    name.to_owned()
}

/// Dequantises `bytes` into `out`.
///
/// # Errors
/// The sizes, where `bytes` are not exactly the blocks of as many values as `out` has.
pub(crate) fn dequantize(ty: GgmlType, bytes: &[u8], out: &mut [f32]) -> Result<(), String> {
    let (block_size, type_bytes) = (ty.block_size(), ty.type_bytes());
    let n_blocks = bytes.len() / type_bytes;
    if !bytes.len().is_multiple_of(type_bytes)
        || n_blocks.checked_mul(block_size) != Some(out.len())
    {
        let (seen, wanted) = (bytes.len(), out.len());
        return Err(format!("{seen} bytes of {ty:?} do not hold {wanted} values"));
    }
    let decode: fn(&[u8], &mut [f32]) = match ty {
        GgmlType::F32 => |block, out| out[0] = f32::from_le_bytes(array(block, 0)),
        GgmlType::F16 => |block, out| out[0] = half(block, 0),
        GgmlType::BF16 => |block, out| out[0] = bf16::from_le_bytes(array(block, 0)).to_f32(),
        GgmlType::Q8_0 => q8_0,
        GgmlType::Q4_0 => q4_0,
        GgmlType::Q4_1 => q4_1,
        GgmlType::Q5_0 => q5_0,
        GgmlType::Q5_1 => q5_1,
        GgmlType::Q4K => q4_k,
        GgmlType::Q5K => q5_k,
        GgmlType::Q6K => q6_k,
    };
    for (block, out) in bytes.chunks_exact(type_bytes).zip(out.chunks_exact_mut(block_size)) {
        decode(block, out);
    }
    Ok(())
}

fn array<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&block[at..at + N]);
    array
}

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes(array(block, at)).to_f32()
}

/// `d * q`, with `q` a signed byte.
fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    for (out, q) in out.iter_mut().zip(&block[2..]) {
        *out = d * f32::from(*q as i8);
    }
}

/// `d * (q - 8)`: first the values in the low halves of the bytes, then those in the high halves.
fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half(block, 0);
    for (idx, q) in block[2..].iter().enumerate() {
        out[idx] = d * (f32::from(q & 15) - 8.0);
        out[idx + QK / 2] = d * (f32::from(q >> 4) - 8.0);
    }
}

/// `d * q + m`.
fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for (idx, q) in block[4..].iter().enumerate() {
        out[idx] = d * f32::from(q & 15) + m;
        out[idx + QK / 2] = d * f32::from(q >> 4) + m;
    }
}

/// The two 5-bit values that share byte `idx` of `low`; bit `i` of `high` is the fifth bit of value
/// `i`.
fn five_bits(low: &[u8], high: u32, idx: usize) -> (f32, f32) {
    let bit = |at: usize| (((high >> at) & 1) << 4) as u8;
    let first = (low[idx] & 15) | bit(idx);
    let second = (low[idx] >> 4) | bit(idx + QK / 2);
    (f32::from(first), f32::from(second))
}

/// `d * (q - 16)`.
fn q5_0(block: &[u8], out: &mut [f32]) {
    let (d, high) = (half(block, 0), u32::from_le_bytes(array(block, 2)));
    for idx in 0..QK / 2 {
        let (first, second) = five_bits(&block[6..], high, idx);
        out[idx] = d * (first - 16.0);
        out[idx + QK / 2] = d * (second - 16.0);
    }
}

/// `d * q + m`.
fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    let high = u32::from_le_bytes(array(block, 4));
    for idx in 0..QK / 2 {
        let (first, second) = five_bits(&block[8..], high, idx);
        out[idx] = d * first + m;
        out[idx + QK / 2] = d * second + m;
    }
}

/// 6-bit scale and minimum of group `idx`, which has 32 values.
fn scale_and_min(packed: &[u8], idx: usize) -> (f32, f32) {
    let (scale, min) = if idx < 4 {
        (packed[idx] & 63, packed[idx + 4] & 63)
    } else {
        let scale = (packed[idx + 4] & 15) | ((packed[idx - 4] >> 6) << 4);
        let min = (packed[idx + 4] >> 4) | ((packed[idx] >> 6) << 4);
        (scale, min)
    };
    (f32::from(scale), f32::from(min))
}

/// `(d * scale) * q - (dmin * min)`, where `quant(group, idx)` is q of one value.
fn k_groups(block: &[u8], out: &mut [f32], quant: impl Fn(usize, usize) -> u8) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    let packed = &block[4..4 + K_SCALE_BYTES];
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(packed, group);
        let (scale, min) = (d * scale, dmin * min);
        for (idx, out) in out.iter_mut().enumerate() {
            *out = scale * f32::from(quant(group, idx)) - min;
        }
    }
}

/// The lower 4 bits of a value: two groups of 32 values share 32 bytes.
fn nibble(quants: &[u8], group: usize, idx: usize) -> u8 {
    (quants[group / 2 * 32 + idx] >> (4 * (group % 2))) & 15
}

fn q4_k(block: &[u8], out: &mut [f32]) {
    let quants = &block[4 + K_SCALE_BYTES..];
    k_groups(block, out, |group, idx| nibble(quants, group, idx));
}

fn q5_k(block: &[u8], out: &mut [f32]) {
    let (high, quants) = block[4 + K_SCALE_BYTES..].split_at(QK_K / 8);
    k_groups(block, out, |group, idx| {
        nibble(quants, group, idx) | (((high[idx] >> group) & 1) << 4)
    });
}

/// `(d * scale) * (q - 32)`, one scale per 16 values; 128 values share 64 bytes of low bits and 32
/// bytes of high bits.
fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low, rest) = block.split_at(QK_K / 2);
    let (high, rest) = rest.split_at(QK_K / 4);
    let d = half(rest, QK_K / 16);
    for (idx, out) in out.iter_mut().enumerate() {
        let (half_idx, in_half) = (idx / 128, idx % 128);
        let (quarter, column) = (in_half / 32, in_half % 32);
        let low = low[half_idx * 64 + quarter % 2 * 32 + column] >> (4 * (quarter / 2));
        let high = high[half_idx * 32 + column] >> (2 * quarter);
        let quant = (low & 15) | ((high & 3) << 4);
        let scale = f32::from(rest[idx / 16] as i8);
        *out = (d * scale) * (f32::from(quant) - 32.0);
    }
}

#[cfg(test)]
mod tests;
