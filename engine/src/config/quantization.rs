//! The `quantization_config` of FP8 checkpoints: compressed-tensors (llm-compressor, vLLM) and the
//! block format of DeepSeek and Qwen3.
//!
//! The tensors' own number formats tell which of them are quantised, so that `ignore` lists are not
//! read. This file checks that the format is known and reads the size of its blocks.

use serde_json::{Map, Value};

/// Layout of the scales of a checkpoint's FP8 matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fp8Layout {
    /// Number of rows and columns that share a scale, [bn, bk]. None: the scale's shape tells
    /// whether there is one scale per matrix or one per row (output channel).
    pub block: Option<[usize; 2]>,
}

/// Reads a `quantization_config`.
///
/// # Errors
/// The unsupported key and value, as `key value (wanted ...)`.
pub(super) fn parse(config: &Value) -> Result<Fp8Layout, String> {
    match config.get("quant_method").and_then(Value::as_str) {
        Some("compressed-tensors") => compressed_tensors(config),
        Some("fp8") => fine_grained(config),
        other => Err(format!(
            "quant_method {} (wanted compressed-tensors or fp8)",
            other.map_or("null".to_owned(), |name| format!("`{name}`"))
        )),
    }
}

/// `quant_method = "fp8"`: E4M3 with one scale per matrix, or one per block.
fn fine_grained(config: &Value) -> Result<Fp8Layout, String> {
    if let Some(format) = config.get("fmt").and_then(Value::as_str)
        && format != "e4m3"
    {
        return Err(format!("fmt `{format}` (wanted e4m3)"));
    }
    Ok(Fp8Layout { block: block(config.get("weight_block_size"), "weight_block_size")? })
}

fn compressed_tensors(config: &Value) -> Result<Fp8Layout, String> {
    let known = |format: &Value| match format.as_str() {
        Some("float-quantized" | "naive-quantized") => Ok(()),
        _ => Err(format!("format {format} (wanted float-quantized)")),
    };
    if let Some(format) = config.get("format").filter(|format| !format.is_null()) {
        // with mixed precision each group has a format of its own
        if format.as_str() != Some("mixed-precision") {
            known(format)?;
        }
    }
    if let Some(transform) = config.get("transform_config").and_then(Value::as_object)
        && !transform.is_empty()
    {
        return Err("transform_config (rotated weights)".to_owned());
    }
    let sparse = config.get("sparsity_config").and_then(|sparse| sparse.get("format"));
    if let Some(format) = sparse.and_then(Value::as_str)
        && format != "dense"
    {
        return Err(format!("sparsity_config of format `{format}` (wanted dense)"));
    }
    let empty = Map::new();
    let groups = config.get("config_groups").and_then(Value::as_object).unwrap_or(&empty);
    let mut layouts = Vec::new();
    for (name, group) in groups {
        let at = |what: String| format!("config_groups.{name}: {what}");
        if let Some(format) = group.get("format").filter(|format| !format.is_null()) {
            known(format).map_err(at)?;
        }
        layouts.push(group_layout(group.get("weights")).map_err(at)?);
    }
    // each matrix's scale shows whether the blocks apply to it
    let mut blocks = layouts.iter().filter_map(|layout| layout.block);
    let block = blocks.next();
    match layouts.is_empty() {
        true => Err("compressed-tensors without config_groups".to_owned()),
        false if blocks.any(|other| Some(other) != block) => {
            Err("config_groups with different blocks".to_owned())
        }
        false => Ok(Fp8Layout { block }),
    }
}

fn group_layout(weights: Option<&Value>) -> Result<Fp8Layout, String> {
    let weights = weights.ok_or("a group without the key `weights`")?;
    let is = |key: &str, wanted: Value| match weights.get(key).unwrap_or(&Value::Null) {
        Value::Null if key == "symmetric" => Ok(()),
        value if *value == wanted => Ok(()),
        value => Err(format!("weights.{key} {value} (wanted {wanted})")),
    };
    is("num_bits", 8.into())?;
    is("type", "float".into())?;
    is("symmetric", true.into())?;
    match weights.get("strategy").and_then(Value::as_str) {
        Some("channel" | "tensor") => Ok(Fp8Layout { block: None }),
        Some("block") => {
            let block = block(weights.get("block_structure"), "block_structure")?;
            Ok(Fp8Layout { block: block.or(Some([128, 128])) })
        }
        other => Err(format!(
            "weights.strategy `{}` (wanted channel, tensor or block)",
            other.unwrap_or("none")
        )),
    }
}

/// Block sizes: two positive numbers, as a list or as text such as "128x128".
fn block(value: Option<&Value>, key: &str) -> Result<Option<[usize; 2]>, String> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    let sizes: Option<Vec<usize>> = match value {
        Value::String(text) => text.split('x').map(|size| size.trim().parse().ok()).collect(),
        Value::Array(sizes) => sizes.iter().map(|size| size.as_u64().map(|s| s as usize)).collect(),
        _ => None,
    };
    match sizes.as_deref() {
        Some(&[rows, columns]) if rows > 0 && columns > 0 => Ok(Some([rows, columns])),
        _ => Err(format!("{key} {value} (wanted two positive numbers)")),
    }
}
