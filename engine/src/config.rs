//! A model's constants, as its `config.json` gives them, and back.
//!
//! Nothing here is guessed: a constant that the file must give and does not is an error. It knows
//! nothing of weights or devices.

#[cfg(test)]
pub(crate) mod examples;
pub(crate) mod family;
mod quantization;

use std::path::Path;

use serde_json::{Map, Value, json};
use tch::Kind;

use crate::error::Error;
use family::Bias;
pub use family::Family;
pub use quantization::Fp8Layout;

/// How the rotary frequencies are changed for contexts longer than those of pre-training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Positions divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by a factor, high ones kept, a ramp between.
    Llama3 {
        /// What low frequencies are divided by.
        factor: f64,
        /// Wavelengths above original_max_position / this are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below original_max_position / this are high frequencies.
        high_freq_factor: f64,
        /// Context of pre-training.
        original_max_position: usize,
    },
}

/// A decoder model's constants.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Description of the model's family.
    pub family: &'static Family,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub n_layers: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key/value heads.
    pub n_kv_heads: usize,
    /// Size of a head.
    pub head_dim: usize,
    /// Longest context in tokens.
    pub max_position: usize,
    /// Added to the mean square in each norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Change of the rotary frequencies.
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether queries, keys and values have biases.
    pub attention_bias: bool,
    /// Begin-of-text token, as the configuration has it (the tokenizer's word counts).
    pub bos_token_id: Option<u32>,
    /// Tokens that end a sample.
    pub eos_token_ids: Vec<u32>,
    /// Number format of the checkpoint.
    pub torch_dtype: Option<Kind>,
    /// How the checkpoint's FP8 matrices are scaled; none where it has none. A model written from
    /// here has none.
    pub fp8: Option<Fp8Layout>,
    /// What the files say that this engine does not use, for writing the model again.
    pub kept: PassthroughKeys,
}

/// Keys of a model's files that mean nothing here and something to others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassthroughKeys {
    /// Of `config.json`: those of `KEPT_KEYS` that it has.
    pub config: Map<String, Value>,
    /// All of `generation_config.json`.
    pub generation: Map<String, Value>,
}

/// Keys of `config.json` that are written again as they were read.
const KEPT_KEYS: [&str; 3] = ["pad_token_id", "sliding_window", "max_window_layers"];

impl ModelConfig {
    /// Whether the attention's output projection has a bias.
    pub(crate) fn has_output_bias(&self) -> bool {
        self.family.output_bias.is_present(self.attention_bias)
    }

    /// Reads a `config.json`, in the spelling of transformers 4 or 5.
    ///
    /// # Errors
    /// [`Error::BadConfig`] names the key that is missing or impossible, [`Error::Unsupported`]
    /// what this engine does not do.
    pub fn from_json(path: &Path, value: &Value) -> Result<Self, Error> {
        let keys = Keys { path, value };
        let wanted = Family::model_types();
        let Some(model_type) = keys.text("model_type") else {
            return Err(keys.bad(format!("key `model_type` is missing, wanted {wanted}")));
        };
        let Some(family) = Family::of_model_type(model_type) else {
            let what = format!("model_type `{model_type}` (wanted {wanted})");
            return Err(keys.unsupported(what));
        };
        keys.refuse_unsupported(family)?;
        let (hidden_size, n_heads) = (keys.size("hidden_size")?, keys.size("num_attention_heads")?);
        let n_kv_heads = match family.optional_kv_heads && !keys.has("num_key_value_heads") {
            true => n_heads,
            false => keys.size("num_key_value_heads")?,
        };
        let head_dim = if keys.has("head_dim") {
            keys.size("head_dim")?
        } else if hidden_size % n_heads == 0 {
            hidden_size / n_heads
        } else {
            return Err(keys.bad(format!(
                "hidden_size {hidden_size} is no multiple of num_attention_heads {n_heads}, and head_dim is missing"
            )));
        };
        if n_heads % n_kv_heads != 0 {
            return Err(keys.bad(format!(
                "num_attention_heads {n_heads} is no multiple of num_key_value_heads {n_kv_heads}"
            )));
        }
        if head_dim % 2 != 0 {
            return Err(keys.bad(format!("head_dim {head_dim} is odd, wanted an even number")));
        }
        let (rope_theta, rope_scaling) = keys.rope(family)?;
        Ok(Self {
            family,
            vocab_size: keys.size("vocab_size")?,
            hidden_size,
            intermediate_size: keys.size("intermediate_size")?,
            n_layers: keys.size("num_hidden_layers")?,
            n_heads,
            n_kv_heads,
            head_dim,
            max_position: keys.size("max_position_embeddings")?,
            rms_norm_eps: keys.positive(family.norm_eps_key)?,
            rope_theta,
            rope_scaling,
            tie_word_embeddings: keys.flag("tie_word_embeddings"),
            attention_bias: family.qkv_bias.is_present(keys.flag("attention_bias")),
            bos_token_id: keys.token_ids("bos_token_id")?.first().copied(),
            eos_token_ids: keys.token_ids("eos_token_id")?,
            torch_dtype: keys.text("dtype").or(keys.text("torch_dtype")).and_then(kind_of),
            fp8: keys.fp8()?,
            kept: PassthroughKeys { config: keys.kept(), generation: Map::new() },
        })
    }

    /// The `config.json` of this model with weights in `kind`; transformers 4 and 5 and vLLM read
    /// it.
    pub fn to_json(&self, kind: Kind) -> Value {
        let family = self.family;
        let mut config = json!({
            "architectures": [family.architecture],
            "model_type": family.model_type,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_position,
            (family.norm_eps_key): self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": self.rope_scaling_json(),
            "tie_word_embeddings": self.tie_word_embeddings,
            "hidden_act": family.activation,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "use_cache": true,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_json(),
            "torch_dtype": dtype_name(kind),
        });
        if family.qkv_bias == Bias::Configured {
            config["attention_bias"] = json!(self.attention_bias);
        }
        for feature in family.absent_features {
            config[feature] = json!(false);
        }
        for (key, value) in &self.kept.config {
            config[key] = value.clone();
        }
        config
    }

    /// End tokens as configuration files write them: none, one, or a list.
    pub(crate) fn eos_json(&self) -> Value {
        match &self.eos_token_ids[..] {
            [] => Value::Null,
            [one] => json!(one),
            many => json!(many),
        }
    }

    fn rope_scaling_json(&self) -> Value {
        match self.rope_scaling {
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
}

/// The name of a number format in configuration files.
pub(crate) fn dtype_name(kind: Kind) -> &'static str {
    match kind {
        Kind::BFloat16 => "bfloat16",
        Kind::Half => "float16",
        Kind::Double => "float64",
        _ => "float32",
    }
}

fn kind_of(name: &str) -> Option<Kind> {
    match name {
        "float32" => Some(Kind::Float),
        "bfloat16" => Some(Kind::BFloat16),
        "float16" => Some(Kind::Half),
        "float64" => Some(Kind::Double),
        _ => None,
    }
}

/// The token ids under one key of a configuration: a number, a list, or nothing.
pub(crate) fn token_ids(value: Option<&Value>) -> Option<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(id).collect(),
        Some(one) => Some(vec![id(one)?]),
    }
}

/// Typed access to a configuration's keys, with errors that name file and key.
struct Keys<'a> {
    path: &'a Path,
    value: &'a Value,
}

impl Keys<'_> {
    fn bad(&self, reason: impl Into<String>) -> Error {
        Error::bad_config(self.path, reason)
    }

    fn kept(&self) -> Map<String, Value> {
        let kept = KEPT_KEYS
            .iter()
            .filter_map(|&key| Some((key.to_owned(), self.value.get(key)?.clone())));
        kept.collect()
    }

    fn unsupported(&self, what: String) -> Error {
        Error::Unsupported { what: format!("{}: {what}", self.path.display()) }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    fn size(&self, key: &str) -> Result<usize, Error> {
        let value = self.get(key).ok_or_else(|| self.bad(format!("key `{key}` is missing")))?;
        match value.as_u64() {
            Some(size) if (1..=1 << 32).contains(&size) => Ok(size as usize),
            _ => Err(self.bad(format!("key `{key}` is {value}, wanted a positive integer"))),
        }
    }

    fn positive(&self, key: &str) -> Result<f64, Error> {
        let value = self.get(key).ok_or_else(|| self.bad(format!("key `{key}` is missing")))?;
        self.positive_value(key, value)
    }

    fn positive_value(&self, key: &str, value: &Value) -> Result<f64, Error> {
        match value.as_f64() {
            Some(number) if number > 0.0 => Ok(number),
            _ => Err(self.bad(format!("key `{key}` is {value}, wanted a positive number"))),
        }
    }

    fn token_ids(&self, key: &str) -> Result<Vec<u32>, Error> {
        token_ids(self.get(key))
            .ok_or_else(|| self.bad(format!("key `{key}` is no token id and no list of them")))
    }

    fn refuse_unsupported(&self, family: &Family) -> Result<(), Error> {
        let wanted = family.activation;
        if let Some(act) = self.text("hidden_act")
            && act != wanted
        {
            return Err(self.unsupported(format!("hidden_act `{act}` (wanted {wanted})")));
        }
        if self.flag("use_sliding_window") {
            return Err(self.unsupported("use_sliding_window = true".to_owned()));
        }
        if self.flag("mlp_bias") {
            return Err(self.unsupported("mlp_bias = true".to_owned()));
        }
        Ok(())
    }

    fn fp8(&self) -> Result<Option<Fp8Layout>, Error> {
        let Some(config) = self.get("quantization_config") else { return Ok(None) };
        let layout = quantization::parse(config);
        layout.map(Some).map_err(|what| self.unsupported(format!("quantization_config: {what}")))
    }

    /// Base and scaling: at the top level, in `rope_scaling`, or in `rope_parameters`.
    fn rope(&self, family: &Family) -> Result<(f64, Option<RopeScaling>), Error> {
        let empty = Map::new();
        let table = |key: &str| self.get(key).and_then(Value::as_object);
        let parameters = table("rope_parameters");
        let scaling = parameters.or_else(|| table("rope_scaling")).unwrap_or(&empty);
        let theta = match parameters.and_then(|p| p.get("rope_theta")).or(self.get("rope_theta")) {
            Some(value) => self.positive_value("rope_theta", value)?,
            None => {
                family.default_rope_theta.ok_or_else(|| self.bad("key `rope_theta` is missing"))?
            }
        };
        let number = |key: &str| -> Result<f64, Error> {
            let value = scaling
                .get(key)
                .ok_or_else(|| self.bad(format!("key `rope_scaling.{key}` is missing")))?;
            self.positive_value(&format!("rope_scaling.{key}"), value)
        };
        if let Some(share) = scaling.get("partial_rotary_factor").and_then(Value::as_f64)
            && share != 1.0
        {
            return Err(self.unsupported(format!("partial_rotary_factor {share}")));
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
                return Err(self.unsupported(format!(
                    "rope_scaling of type `{other}` (wanted default, linear or llama3)"
                )));
            }
        };
        Ok((theta, scaling))
    }
}

#[cfg(test)]
mod tests;
