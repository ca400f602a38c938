//! Metadata values and tensor descriptions of a GGUF file, as plain data.

use crate::weights::dequant::GgmlType;

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum GgufValue {
    /// An unsigned integer of 8, 16, 32 or 64 bits.
    Unsigned(u64),
    /// A signed integer of 8, 16, 32 or 64 bits.
    Signed(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// A boolean.
    Bool(bool),
    /// A UTF-8 string.
    String(String),
    /// A list of values of one type.
    Array(Vec<GgufValue>),
}

impl GgufValue {
    /// The value as an integer, where it is one and not negative.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            Self::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The value as a float, where it is a number.
    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Unsigned(value) => Some(*value as f64),
            Self::Signed(value) => Some(*value as f64),
            Self::F32(value) => Some(f64::from(*value)),
            Self::F64(value) => Some(*value),
            _ => None,
        }
    }

    /// The value as text, where it is a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        if let Self::String(value) = self { Some(value) } else { None }
    }

    /// The value as a boolean, where it is one.
    pub(crate) fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The value's elements, where it is an array.
    pub(crate) fn as_array(&self) -> Option<&[GgufValue]> {
        if let Self::Array(values) = self { Some(values) } else { None }
    }
}

/// Where a tensor lies in the file, and what it looks like there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorInfo {
    /// Its name in llama.cpp's spelling, such as `blk.0.attn_q.weight`.
    pub(crate) name: String,
    /// Its shape, row-major: the reverse of the dimensions in the file.
    pub(crate) shape: Vec<usize>,
    /// How its values are stored.
    pub(crate) ggml_type: GgmlType,
    /// Its first byte, counted from the start of the file.
    pub(crate) offset: usize,
    /// Its size in bytes.
    pub(crate) n_bytes: usize,
}

impl TensorInfo {
    /// The number of its values.
    pub(crate) fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }
}
