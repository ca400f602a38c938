//! Rotary frequencies of a model: their base and their scaling, from `config.json` and back.

use serde_json::{Map, Value, json};

use super::family::Family;
use super::keys::ModelConfigKeys;
use crate::error::Error;

/// Scaling of the rotary frequencies for contexts longer than those of pre-training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// All positions are divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies are divided by a factor, high frequencies are kept, and
    /// frequencies between are interpolated.
    Llama3 {
        /// Divisor of low frequencies.
        factor: f64,
        /// Frequencies with wavelengths above original_max_position / low_freq_factor are low.
        low_freq_factor: f64,
        /// Frequencies with wavelengths below original_max_position / high_freq_factor are high.
        high_freq_factor: f64,
        /// Context of pre-training, in tokens.
        original_max_position: usize,
    },
}

/// Reads base and scaling: from the top level, `rope_scaling` or `rope_parameters`.
///
/// # Errors
/// [`Error::BadConfig`] for a missing or impossible value, [`Error::Unsupported`] for other types
/// of scaling.
pub(super) fn read(
    keys: &ModelConfigKeys<'_>,
    family: &Family,
) -> Result<(f64, Option<RopeScaling>), Error> {
    let empty = Map::new();
    let table = |key: &str| keys.get(key).and_then(Value::as_object);
    let parameters = table("rope_parameters");
    let scaling = parameters.or_else(|| table("rope_scaling")).unwrap_or(&empty);
    let theta = match parameters.and_then(|p| p.get("rope_theta")).or(keys.get("rope_theta")) {
        Some(value) => keys.positive_value("rope_theta", value)?,
        None => family.default_rope_theta.ok_or_else(|| keys.bad("key `rope_theta` is missing"))?,
    };
    let number = |key: &str| -> Result<f64, Error> {
        let value = scaling
            .get(key)
            .ok_or_else(|| keys.bad(format!("key `rope_scaling.{key}` is missing")))?;
        keys.positive_value(&format!("rope_scaling.{key}"), value)
    };
    if let Some(share) = scaling.get("partial_rotary_factor").and_then(Value::as_f64)
        && share != 1.0
    {
        return Err(keys.unsupported(format!("partial_rotary_factor {share}")));
    }
    let kind = scaling.get("rope_type").or(scaling.get("type")).and_then(Value::as_str);
    let scaling = match kind {
        None | Some("default") => None,
        Some("linear") => Some(RopeScaling::Linear { factor: number("factor")? }),
        Some("llama3") => Some(RopeScaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_max_position: number("original_max_position_embeddings")? as usize,
        }),
        Some(other) => {
            return Err(keys.unsupported(format!(
                "rope_scaling of type `{other}` (wanted default, linear or llama3)"
            )));
        }
    };
    Ok((theta, scaling))
}

/// The `rope_scaling` of a `config.json`; null without scaling.
pub(super) fn scaling_json(scaling: Option<&RopeScaling>) -> Value {
    match scaling {
        None => Value::Null,
        Some(RopeScaling::Linear { factor }) => {
            json!({"rope_type": "linear", "factor": factor})
        }
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position,
        }) => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_position,
        }),
    }
}
