//! Rotary frequencies of a model: their base and their scaling, from `config.json` and back.
//!
//! The keys have the precedence that they have in transformers: a `rope_scaling` that is not empty
//! replaces the whole of `rope_parameters`, its base included.

use serde_json::{Map, Value, json};

use super::keys::ModelConfigKeys;
use crate::error::Error;

/// Base of the rotary frequencies for configurations without one.
const DEFAULT_THETA: f64 = 10_000.0;
/// YaRN's bounds, in turns over the original context, for configurations without them.
const DEFAULT_BETA_FAST: f64 = 32.0;
const DEFAULT_BETA_SLOW: f64 = 1.0;

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
    /// YaRN (arXiv 2309.00071): as Llama 3.1's in other terms, and all scores are scaled.
    Yarn(Yarn),
    /// The base grows with contexts beyond the maximum, which the engine does not have: the
    /// frequencies are those without scaling. Kept for programs that read written models.
    Dynamic {
        /// Growth of the base.
        factor: f64,
    },
}

/// Constants of YaRN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// Divisor of low frequencies.
    pub factor: f64,
    /// Factor of all sines and cosines.
    pub attention_factor: f64,
    /// Frequencies with more turns over the original context are kept.
    pub beta_fast: f64,
    /// Frequencies with fewer turns over the original context are divided.
    pub beta_slow: f64,
    /// Context of pre-training, in tokens.
    pub original_max_position: usize,
    /// Whether the bounds are rounded to whole pairs of dimensions.
    pub truncate: bool,
}

/// The rotary keys of a configuration: the table that counts, and the top level.
struct RopeKeys<'a> {
    keys: &'a ModelConfigKeys<'a>,
    /// Name of the table.
    name: &'static str,
    table: Map<String, Value>,
    max_position: usize,
}

/// Reads base and scaling.
///
/// # Errors
/// [`Error::BadConfig`] for a missing or impossible value, [`Error::Unsupported`] for other types
/// of scaling.
pub(super) fn read(
    keys: &ModelConfigKeys<'_>,
    max_position: usize,
) -> Result<(f64, Option<RopeScaling>), Error> {
    let scaling = table(keys, "rope_scaling")?;
    let parameters = table(keys, "rope_parameters")?;
    if scaling.is_some() && parameters.is_some() && scaling != parameters {
        tracing::warn!(
            "config.json has rope_scaling beside rope_parameters; as in transformers, \
             rope_scaling alone counts."
        );
    }
    let (name, table) = match (scaling, parameters) {
        (Some(table), _) => ("rope_scaling", table),
        (None, Some(table)) => ("rope_parameters", table),
        (None, None) => ("rope_scaling", Map::new()),
    };
    let rope = RopeKeys { keys, name, table, max_position };
    rope.refuse_unsupported()?;
    Ok((rope.theta()?, rope.scaling()?))
}

/// A table of rotary keys; none where it is absent, null or empty.
fn table(keys: &ModelConfigKeys<'_>, key: &str) -> Result<Option<Map<String, Value>>, Error> {
    match keys.get(key) {
        None => Ok(None),
        Some(Value::Object(table)) => Ok(Some(table.clone()).filter(|table| !table.is_empty())),
        Some(other) => Err(keys.bad(format!("key `{key}` is {other}, wanted an object"))),
    }
}

impl RopeKeys<'_> {
    fn refuse_unsupported(&self) -> Result<(), Error> {
        if let Some((key, _)) = self.table.iter().find(|(_, value)| value.is_object()) {
            let what = format!("{}.{key}, a table for some layers,", self.name);
            return Err(self.keys.unsupported(what));
        }
        let key = "partial_rotary_factor";
        match self.table.get(key).or(self.keys.get(key)).filter(|share| !share.is_null()) {
            Some(share) if share.as_f64() != Some(1.0) => {
                Err(self.keys.unsupported(format!("{key} {share} (wanted 1)")))
            }
            _ => Ok(()),
        }
    }

    fn theta(&self) -> Result<f64, Error> {
        match self.table.get("rope_theta").or(self.keys.get("rope_theta")) {
            Some(value) => self.keys.positive_value("rope_theta", value),
            None => Ok(DEFAULT_THETA),
        }
    }

    fn scaling(&self) -> Result<Option<RopeScaling>, Error> {
        let kind = self.table.get("rope_type").or(self.table.get("type"));
        let kind = match kind {
            None => "default",
            Some(Value::String(kind)) => kind,
            Some(other) => {
                let key = format!("key `{}.rope_type`", self.name);
                return Err(self.keys.bad(format!("{key} is {other}, wanted a text")));
            }
        };
        match kind {
            "default" => Ok(None),
            "linear" => Ok(Some(RopeScaling::Linear { factor: self.number("factor")? })),
            "dynamic" => Ok(Some(RopeScaling::Dynamic { factor: self.number("factor")? })),
            "llama3" => Ok(Some(RopeScaling::Llama3 {
                factor: self.number("factor")?,
                low_freq_factor: self.number("low_freq_factor")?,
                high_freq_factor: self.number("high_freq_factor")?,
                original_max_position: self.original_max_position()?,
            })),
            "yarn" => Ok(Some(RopeScaling::Yarn(self.yarn()?))),
            other => Err(self.keys.unsupported(format!(
                "{} of type `{other}` (wanted default, linear, dynamic, llama3 or yarn)",
                self.name
            ))),
        }
    }

    fn yarn(&self) -> Result<Yarn, Error> {
        let original_max_position = self.original_max_position()?;
        let factor = match self.table.get("factor") {
            // as DeepSeek's configurations have it
            Some(Value::Null) => self.max_position as f64 / original_max_position as f64,
            _ => self.number("factor")?,
        };
        let attention_factor = match self.optional("attention_factor")? {
            Some(given) => given,
            None => match (self.optional("mscale")?, self.optional("mscale_all_dim")?) {
                (Some(mscale), Some(all)) => yarn_scale(factor, mscale) / yarn_scale(factor, all),
                _ => yarn_scale(factor, 1.0),
            },
        };
        Ok(Yarn {
            factor,
            attention_factor,
            beta_fast: self.optional("beta_fast")?.unwrap_or(DEFAULT_BETA_FAST),
            beta_slow: self.optional("beta_slow")?.unwrap_or(DEFAULT_BETA_SLOW),
            original_max_position,
            truncate: self.table.get("truncate").and_then(Value::as_bool).unwrap_or(true),
        })
    }

    /// Context of pre-training: of the top level, else of the table, else the model's maximum.
    fn original_max_position(&self) -> Result<usize, Error> {
        let key = "original_max_position_embeddings";
        if self.keys.is_given(key) {
            return self.keys.size(key);
        }
        match self.table.get(key) {
            Some(_) => Ok(self.number(key)? as usize),
            None => Ok(self.max_position),
        }
    }

    /// A positive number of the table.
    fn number(&self, key: &str) -> Result<f64, Error> {
        let name = format!("{}.{key}", self.name);
        let value = self.table.get(key);
        let value = value.ok_or_else(|| self.keys.bad(format!("key `{name}` is missing")))?;
        self.keys.positive_value(&name, value)
    }

    /// A number of the table; none where it is absent, null or 0.
    fn optional(&self, key: &str) -> Result<Option<f64>, Error> {
        match self.table.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) if value.as_f64() == Some(0.0) => Ok(None),
            Some(_) => self.number(key).map(Some),
        }
    }
}

/// YaRN's factor of the scores' square root: 0.1 · mscale · ln(factor) + 1.
fn yarn_scale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}

/// The `rope_scaling` of a `config.json`; null without scaling.
pub(super) fn scaling_json(scaling: Option<&RopeScaling>) -> Value {
    match scaling {
        None => Value::Null,
        Some(RopeScaling::Linear { factor }) => {
            json!({"rope_type": "linear", "factor": factor})
        }
        Some(RopeScaling::Dynamic { factor }) => {
            json!({"rope_type": "dynamic", "factor": factor})
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
        Some(RopeScaling::Yarn(yarn)) => json!({
            "rope_type": "yarn",
            "factor": yarn.factor,
            "attention_factor": yarn.attention_factor,
            "beta_fast": yarn.beta_fast,
            "beta_slow": yarn.beta_slow,
            "original_max_position_embeddings": yarn.original_max_position,
            "truncate": yarn.truncate,
        }),
    }
}
