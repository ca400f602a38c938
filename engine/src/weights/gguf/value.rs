//! Metadata values and tensor descriptions of a GGUF file, as plain data. It knows no keys.

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
    /// The value as an integer; none unless it is a non-negative integer.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            Self::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The value as a float; none unless it is a number.
    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Unsigned(value) => Some(*value as f64),
            Self::Signed(value) => Some(*value as f64),
            Self::F32(value) => Some(f64::from(*value)),
            Self::F64(value) => Some(*value),
            _ => None,
        }
    }

    /// The value as text; none unless it is a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        if let Self::String(value) = self { Some(value) } else { None }
    }

    /// The value as a boolean; none for other types.
    pub(crate) fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The value's elements; none unless it is an array.
    pub(crate) fn as_array(&self) -> Option<&[GgufValue]> {
        if let Self::Array(values) = self { Some(values) } else { None }
    }
}

/// Name, shape, storage format and location of a tensor in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TensorInfo {
    /// Name in llama.cpp's spelling, such as `blk.0.attn_q.weight`.
    pub(crate) name: String,
    /// Shape, outermost dimension first: the reverse of the order in the file.
    pub(crate) shape: Vec<usize>,
    /// Storage format of the values.
    pub(crate) ggml_type: GgmlType,
    /// Offset of the first byte from the start of the file.
    pub(crate) offset: usize,
    /// Size in bytes.
    pub(crate) n_bytes: usize,
    /// Index of the file among the parts of a split model.
    pub(crate) part: usize,
}

impl TensorInfo {
    /// Number of values.
    pub(crate) fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }
}
