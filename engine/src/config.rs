//! A model's constants, from its `config.json` and back.
//!
//! Nothing is guessed: a missing constant is an error, unless transformers has a default for it.
//! It knows nothing of weights or devices.

#[cfg(test)]
pub(crate) mod examples;
pub(crate) mod family;
pub(crate) mod keys;
pub(crate) mod layer_parts;
mod quantization;
mod rope;
mod window;

use std::path::Path;

use serde_json::{Map, Value, json};
use tch::Kind;

use crate::error::Error;
pub use family::Family;
use family::{Bias, WindowRule};
use keys::ModelConfigKeys;
pub use quantization::Fp8Layout;
pub use rope::{RopeScaling, Yarn};

/// A decoder model's constants.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Description of the model's family.
    pub family: &'static Family,
    /// Number of rows of the embedding and of the output head.
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
    /// Number of dimensions per head.
    pub head_dim: usize,
    /// Maximum context in tokens.
    pub max_position: usize,
    /// Added to the mean square in each norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Scaling of the rotary frequencies.
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether queries, keys and values have biases.
    pub attention_bias: bool,
    /// Begin-of-text token of the configuration. Prompts use the tokenizer's instead.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a sample.
    pub eos_token_ids: Vec<u32>,
    /// Number format of the checkpoint.
    pub torch_dtype: Option<Kind>,
    /// Scales of the checkpoint's FP8 matrices; none for a checkpoint without FP8. Written models
    /// have no FP8 matrices.
    pub fp8: Option<Fp8Layout>,
    /// Keys that the engine does not use and writes back unchanged.
    pub kept: PassthroughKeys,
}

/// Keys of a model's files that the engine does not use and other programs do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassthroughKeys {
    /// Keys of `config.json`: the present ones of `KEPT_KEYS`.
    pub config: Map<String, Value>,
    /// All of `generation_config.json`.
    pub generation: Map<String, Value>,
}

/// Keys of `config.json` that are written back unchanged.
const KEPT_KEYS: [&str; 3] = ["pad_token_id", "sliding_window", "max_window_layers"];

impl ModelConfig {
    /// Whether the attention's output projection has a bias.
    pub(crate) fn has_output_bias(&self) -> bool {
        self.family.output_bias.is_present(self.attention_bias)
    }

    /// Reads a `config.json`, in the spelling of transformers 4 or 5.
    ///
    /// # Errors
    /// [`Error::BadConfig`] names a missing or impossible key, [`Error::Unsupported`] a feature
    /// that this engine lacks.
    pub fn from_json(path: &Path, value: &Value) -> Result<Self, Error> {
        let keys = ModelConfigKeys { path, value };
        let wanted = Family::model_types();
        let Some(model_type) = keys.text("model_type") else {
            return Err(keys.bad(format!("key `model_type` is missing, wanted {wanted}")));
        };
        let Some(family) = Family::of_model_type(model_type) else {
            let what = format!("model_type `{model_type}` (wanted {wanted})");
            return Err(keys.unsupported(what));
        };
        refuse_unsupported(&keys, family)?;
        let (hidden_size, n_heads) = (keys.size("hidden_size")?, keys.size("num_attention_heads")?);
        let n_kv_heads = match family.optional_kv_heads && !keys.has("num_key_value_heads") {
            true => n_heads,
            false => keys.size("num_key_value_heads")?,
        };
        let head_dim = if keys.has("head_dim") {
            keys.size("head_dim")?
        } else if let Some(head_dim) = family.default_head_dim {
            head_dim
        } else if hidden_size % n_heads == 0 {
            hidden_size / n_heads
        } else {
            return Err(keys.bad(format!(
                "hidden_size {hidden_size} is no multiple of num_attention_heads {n_heads}, and \
                 head_dim is missing"
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
        let n_layers = keys.size("num_hidden_layers")?;
        let max_position = keys.size_or("max_position_embeddings", family.default_max_position)?;
        window::refuse_effective_window(&keys, family.window, n_layers, max_position)?;
        let (rope_theta, rope_scaling) = rope::read(&keys, max_position)?;
        Ok(Self {
            family,
            vocab_size: keys.size("vocab_size")?,
            hidden_size,
            intermediate_size: keys.size("intermediate_size")?,
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim,
            max_position,
            rms_norm_eps: keys.positive_or(family.norm_eps_key, family.default_norm_eps)?,
            rope_theta,
            rope_scaling,
            tie_word_embeddings: keys.flag("tie_word_embeddings"),
            attention_bias: family.qkv_bias.is_present(keys.flag("attention_bias")),
            bos_token_id: keys.token_ids("bos_token_id")?.first().copied(),
            eos_token_ids: keys.token_ids("eos_token_id")?,
            torch_dtype: keys.text("dtype").or(keys.text("torch_dtype")).and_then(kind_of),
            fp8: fp8_layout(&keys)?,
            kept: PassthroughKeys { config: kept_keys(value), generation: Map::new() },
        })
    }

    /// Factor of the scores of queries and keys before their softmax: 1/√D, and with YaRN the
    /// square of its factor of sines and cosines, which scales queries and keys alike.
    pub(crate) fn attention_scale(&self) -> f64 {
        let factor = match &self.rope_scaling {
            Some(RopeScaling::Yarn(yarn)) => yarn.attention_factor,
            _ => 1.0,
        };
        factor * factor / (self.head_dim as f64).sqrt()
    }

    /// The `config.json` of this model with weights in `kind`. transformers 4 and 5 and vLLM read
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
            "rope_scaling": rope::scaling_json(self.rope_scaling.as_ref()),
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
        if family.window == WindowRule::Always {
            // without the key it would have one
            config["sliding_window"] = Value::Null;
        }
        for feature in family.absent_features {
            config[feature] = json!(false);
        }
        for (key, value) in &self.kept.config {
            config[key] = value.clone();
        }
        config
    }

    /// End tokens in the form of configuration files: null, one id, or a list.
    pub(crate) fn eos_json(&self) -> Value {
        match &self.eos_token_ids[..] {
            [] => Value::Null,
            [one] => json!(one),
            many => json!(many),
        }
    }
}

/// Refuses features that change what a layer computes and that no layer here has.
fn refuse_unsupported(keys: &ModelConfigKeys<'_>, family: &Family) -> Result<(), Error> {
    let wanted = family.activation;
    if let Some(act) = keys.text("hidden_act")
        && act != wanted
        && (act, wanted) != ("swish", "silu")
    {
        return Err(keys.unsupported(format!("hidden_act `{act}` (wanted {wanted})")));
    }
    // a family that does not know a feature ignores its key, here as in transformers
    if family.absent_features.contains(&"mlp_bias") && keys.flag("mlp_bias") {
        return Err(keys.unsupported("mlp_bias = true".to_owned()));
    }
    refuse_classifier(keys)
}

/// Refuses models that end in a classifier's head instead of a language model's.
fn refuse_classifier(keys: &ModelConfigKeys<'_>) -> Result<(), Error> {
    let architectures = keys.get("architectures").and_then(Value::as_array);
    let mut names = architectures.into_iter().flatten().filter_map(Value::as_str);
    let heads = [
        ("SequenceClassification", "score.weight"),
        ("TokenClassification", "score.weight"),
        ("QuestionAnswering", "qa_outputs.weight"),
    ];
    let is_head = |name: &str| heads.iter().find(|(task, _)| name.ends_with(task));
    match names.find_map(|name| Some((name, is_head(name)?))) {
        Some((name, (_, tensor))) => Err(keys.unsupported(format!(
            "a classifier (architectures: {name}, its head {tensor}) as a language model"
        ))),
        None => Ok(()),
    }
}

fn fp8_layout(keys: &ModelConfigKeys<'_>) -> Result<Option<Fp8Layout>, Error> {
    let Some(config) = keys.get("quantization_config") else { return Ok(None) };
    let layout = quantization::parse(config);
    layout.map(Some).map_err(|what| keys.unsupported(format!("quantization_config: {what}")))
}

/// The values of [`KEPT_KEYS`] that a configuration has.
fn kept_keys(config: &Value) -> Map<String, Value> {
    let value = |&key: &&str| Some((key.to_owned(), config.get(key)?.clone()));
    KEPT_KEYS.iter().filter_map(value).collect()
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

#[cfg(test)]
mod tests;
