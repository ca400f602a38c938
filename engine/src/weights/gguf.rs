//! GGUF files: header, metadata and tensor table, read from a memory map.
//!
//! This module knows llama.cpp's tensor names and row order, and converts both to those of a
//! Hugging Face folder. It knows neither the use of the tensors nor a tensor library: values are
//! plain `f32`.
//!
//! Format: versions 2 and 3, little-endian, as described in ggml's `docs/gguf.md`.

use crate::config::layer_parts::{LAYER_PARTS, PartKind};
use crate::error::Error;
use crate::weights::dequant::dequantize;

mod config;
mod cursor;
mod end_tokens;
mod file;
mod header;
mod split;
mod value;

pub(crate) use end_tokens::is_end_name;
pub(crate) use file::GgufFile;
pub(crate) use split::{SplitName, is_gguf};
pub(crate) use value::{GgufValue, TensorInfo};

impl GgufFile {
    /// A tensor's values, row-major, as in a Hugging Face folder: dequantised, and with llama.cpp's
    /// row order of the query and key projections undone.
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

/// The Hugging Face name of a tensor; none for a tensor that a decoder's checkpoint lacks.
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
    let part = LAYER_PARTS.iter().find(|known| known.gguf_name == part)?;
    let is_known = match part.kind {
        PartKind::Norm => kind == "weight",
        PartKind::Matrix => matches!(kind, "weight" | "bias"),
    };
    is_known.then(|| format!("model.layers.{layer}.{}.{kind}", part.name))
}

/// Undoes llama.cpp's row order of a query or key projection (or its bias, with `cols` = 1).
///
/// llama.cpp's converter interleaves the two halves of each head, so that rotary pairs are
/// neighbours: row `2 i + half` of a head is row `half * head_dim / 2 + i` in Hugging Face's order.
/// Only files of the architecture `llama` have this order. `n_heads` is the number of heads of this
/// tensor: the key/value heads for a key projection.
///
/// # Errors
/// The sizes that contradict each other; `data` is then unchanged.
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
