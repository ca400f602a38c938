//! GGUF files: their header, metadata and tensor table, read from a memory map.
//!
//! It knows the names and the row order that llama.cpp gives a checkpoint, and how to turn them
//! back into those of a Hugging Face folder. It does not know what the tensors are used for, nor
//! any tensor library: values come out as plain `f32`.
//!
//! Format: versions 2 and 3, little-endian, as described in ggml's `docs/gguf.md`.

use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::Error;
use crate::weights::dequant::{GgmlType, dequantize};

mod config;
mod cursor;
mod header;

use header::Header;

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
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
    Array(Vec<Value>),
}

impl Value {
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
    pub(crate) fn as_array(&self) -> Option<&[Value]> {
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

/// An open GGUF file.
#[derive(Debug)]
pub(crate) struct GgufFile {
    path: PathBuf,
    map: Mmap,
    header: Header,
}

impl GgufFile {
    /// Maps a file and reads everything but its tensors' bytes.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::BadFile`] where it is cut off or broken,
    /// [`Error::Unsupported`] where a tensor is of a type that [`GgmlType`] lacks.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let map = crate::ffi::mmap(path)?;
        let header = Header::parse(path, &map)?;
        Ok(Self { path: path.to_owned(), map, header })
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata value of a key.
    pub(crate) fn metadata(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(key)
    }

    /// The tensors in the order of the file.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.header.tensors.iter()
    }

    /// The tensor of a name, in llama.cpp's spelling.
    pub(crate) fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors().find(|info| info.name == name)
    }

    /// A tensor's bytes, as stored.
    pub(crate) fn bytes(&self, info: &TensorInfo) -> &[u8] {
        self.map
            .get(info.offset..info.offset + info.n_bytes)
            .expect("a tensor's range was checked when its own file was opened. This is a bug.")
    }

    /// A tensor's values, row-major, as a Hugging Face folder would hold them: dequantized, and
    /// with llama.cpp's row order of the query and key projections undone.
    ///
    /// # Errors
    /// [`Error::BadFile`] where the rows do not divide into the model's heads.
    pub(crate) fn hf_values(&self, info: &TensorInfo) -> Result<Vec<f32>, Error> {
        let bad = |reason: String| Error::bad_file(&self.path, format!("{}: {reason}", info.name));
        let mut values = vec![0.0; info.n_elements()];
        dequantize(info.ggml_type, self.bytes(info), &mut values).map_err(bad)?;
        if let Some(n_heads) = self.permuted_heads(&info.name)? {
            let rows = info.shape.first().copied().unwrap_or(1);
            let cols = info.shape.iter().skip(1).product();
            unpermute_rows(&mut values, rows, cols, n_heads).map_err(bad)?;
        }
        Ok(values)
    }
}

/// The Hugging Face name of a tensor, `None` where a decoder's checkpoint has no such tensor.
pub(crate) fn hf_name(gguf_name: &str) -> Option<String> {
    match gguf_name {
        "token_embd.weight" => return Some("model.embed_tokens.weight".to_owned()),
        "output_norm.weight" => return Some("model.norm.weight".to_owned()),
        "output.weight" => return Some("lm_head.weight".to_owned()),
        _ => {}
    }
    let (layer, rest) = gguf_name.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (part, kind) = rest.split_once('.')?;
    let module = match part {
        "attn_norm" if kind == "weight" => "input_layernorm",
        "ffn_norm" if kind == "weight" => "post_attention_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    matches!(kind, "weight" | "bias").then(|| format!("model.layers.{layer}.{module}.{kind}"))
}

/// Undoes llama.cpp's row order of a query or key projection (or its bias, with `cols` = 1).
///
/// Its converter interleaves the two halves of each head, so that rotary pairs are neighbours:
/// row `2 i + half` of a head is row `half * head_dim / 2 + i` in Hugging Face's order. Only
/// files of the architecture `llama` have it. `n_heads` counts the heads of this tensor: the
/// key-value heads for a key projection.
///
/// # Errors
/// A text that says which sizes do not fit together; `data` is then as it was.
pub(crate) fn unpermute_rows(
    data: &mut Vec<f32>,
    rows: usize,
    cols: usize,
    n_heads: usize,
) -> Result<(), String> {
    if n_heads == 0 || !rows.is_multiple_of(n_heads) || !(rows / n_heads).is_multiple_of(2) {
        return Err(format!("{rows} rows do not divide into {n_heads} heads of an even size"));
    }
    if rows.checked_mul(cols) != Some(data.len()) {
        return Err(format!("{} values are not {rows} rows of {cols}", data.len()));
    }
    let head_dim = rows / n_heads;
    let mut ordered = Vec::with_capacity(data.len());
    for row in 0..rows {
        let (head, in_head) = (row / head_dim, row % head_dim);
        let (half, pair) = (in_head / (head_dim / 2), in_head % (head_dim / 2));
        let source = head * head_dim + 2 * pair + half;
        ordered.extend_from_slice(&data[source * cols..(source + 1) * cols]);
    }
    *data = ordered;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
