//! Converts a GGUF file's metadata to the `config.json` of a Hugging Face folder.
//!
//! This file knows llama.cpp's keys, which are the same for all families. It does not know which
//! models the engine can run; it refuses only files that a `config.json` cannot describe.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::end_tokens;
use super::file::GgufFile;
use super::value::GgufValue;
use crate::config::Family;
use crate::error::Error;
use crate::weights::dequant::dequantize;

/// llama.cpp's base of the rotary frequencies for files without one.
const DEFAULT_ROPE_THETA: f64 = 10_000.0;
/// Llama 3's rotary scaling: all but the factor is the same in every release.
const LLAMA3_LOW_FREQ_FACTOR: f64 = 1.0;
const LLAMA3_HIGH_FREQ_FACTOR: f64 = 4.0;
const LLAMA3_ORIGINAL_CONTEXT: u32 = 8192;

impl GgufFile {
    /// The model's `config.json`, made from the metadata.
    ///
    /// # Errors
    /// [`Error::BadFile`] where a key is missing or the architecture belongs to no known family;
    /// [`Error::Unsupported`] for experts, sliding windows, partial rotary embeddings and rotary
    /// scalings other than `linear` and Llama 3's.
    pub(crate) fn hf_config(&self) -> Result<Json, Error> {
        let arch = self.architecture()?;
        let Some(family) = Family::of_gguf(arch) else {
            let wanted = Family::gguf_architectures();
            let reason = format!("architecture {arch} is not known (wanted {wanted})");
            return Err(Error::bad_file(&self.path, reason));
        };
        let hidden_size = self.required_u64(arch, "embedding_length")?;
        let n_heads = self.n_heads(arch)?;
        let n_kv_heads = self.n_kv_heads(arch)?;
        self.refuse_unsupported(arch)?;
        let mut config = Map::new();
        let mut set = |key: &str, value: Json| {
            config.insert(key.to_owned(), value);
        };
        set("model_type", json!(family.model_type));
        set("architectures", json!([family.architecture]));
        set("hidden_size", json!(hidden_size));
        set("intermediate_size", json!(self.required_u64(arch, "feed_forward_length")?));
        set("num_hidden_layers", json!(self.required_u64(arch, "block_count")?));
        set("num_attention_heads", json!(n_heads));
        set("num_key_value_heads", json!(n_kv_heads));
        let head_dim = self.head_dim(arch)?;
        let has_key = self.optional_u64(arch, "attention.key_length")?.is_some();
        // llama.cpp's default follows from the hidden size, transformers' of some families does not
        if has_key || family.default_head_dim.is_some() {
            set("head_dim", json!(head_dim));
        }
        set("hidden_act", json!(family.activation));
        set("max_position_embeddings", json!(self.required_u64(arch, "context_length")?));
        let eps_key = format!("{arch}.attention.layer_norm_rms_epsilon");
        let eps = self.optional_f64(&eps_key)?.ok_or_else(|| self.missing(&eps_key))?;
        set(family.norm_eps_key, json!(eps));
        let rope_theta = self.optional_f64(&format!("{arch}.rope.freq_base"))?;
        let rope_theta = rope_theta.unwrap_or(DEFAULT_ROPE_THETA);
        set("rope_theta", json!(rope_theta));
        if let Some(scaling) = self.rope_scaling(arch, rope_theta, head_dim)? {
            set("rope_scaling", scaling);
        }
        set("vocab_size", json!(self.vocab_size(arch)?));
        set("tie_word_embeddings", json!(self.tensor("output.weight").is_none()));
        let has_bias = self.tensor("blk.0.attn_q.bias").is_some();
        set("attention_bias", json!(family.qkv_bias.is_present(has_bias)));
        if self.tensor("blk.0.ffn_up.bias").is_some() {
            set("mlp_bias", json!(true));
        }
        if let Some(bos) = self.token_id("bos")? {
            set("bos_token_id", json!(bos));
        }
        let mut ends = Vec::new();
        for key in end_tokens::KEYS {
            ends.extend(self.token_id(key)?);
        }
        ends.extend(end_tokens::named(self));
        let mut seen = BTreeSet::new();
        ends.retain(|id| seen.insert(*id));
        match &ends[..] {
            [] => {}
            [one] => set("eos_token_id", json!(one)),
            many => set("eos_token_id", json!(many)),
        }
        Ok(Json::Object(config))
    }

    /// Number of heads whose rows llama.cpp's converter has reordered in this tensor; none for a
    /// tensor in Hugging Face's order.
    pub(super) fn permuted_heads(&self, tensor_name: &str) -> Result<Option<usize>, Error> {
        let arch = self.architecture()?;
        if Family::of_gguf(arch).is_none_or(|family| !family.gguf_permutes_rows) {
            return Ok(None);
        }
        let n_heads = if tensor_name.contains(".attn_q.") {
            self.n_heads(arch)?
        } else if tensor_name.contains(".attn_k.") {
            self.n_kv_heads(arch)?
        } else {
            return Ok(None);
        };
        let too_many = || Error::bad_file(&self.path, format!("{n_heads} attention heads"));
        usize::try_from(n_heads).map(Some).map_err(|_| too_many())
    }

    fn architecture(&self) -> Result<&str, Error> {
        let key = "general.architecture";
        self.metadata(key).and_then(GgufValue::as_str).ok_or_else(|| self.missing(key))
    }

    fn n_heads(&self, arch: &str) -> Result<u64, Error> {
        let n_heads = self.required_u64(arch, "attention.head_count")?;
        if n_heads == 0 {
            return Err(Error::bad_file(&self.path, format!("{arch}.attention.head_count is 0")));
        }
        Ok(n_heads)
    }

    fn n_kv_heads(&self, arch: &str) -> Result<u64, Error> {
        match self.optional_u64(arch, "attention.head_count_kv")? {
            Some(n_kv_heads) => Ok(n_kv_heads),
            None => self.n_heads(arch),
        }
    }

    fn head_dim(&self, arch: &str) -> Result<u64, Error> {
        match self.optional_u64(arch, "attention.key_length")? {
            Some(head_dim) => Ok(head_dim),
            None => Ok(self.required_u64(arch, "embedding_length")? / self.n_heads(arch)?),
        }
    }

    /// Number of rows of the embedding and of the output head. The tokenizer's list may be shorter.
    fn vocab_size(&self, arch: &str) -> Result<u64, Error> {
        let rows = self.tensor("token_embd.weight").and_then(|info| info.shape.first());
        let tokens = self.metadata("tokenizer.ggml.tokens").and_then(GgufValue::as_array);
        match rows.copied().or_else(|| tokens.map(<[GgufValue]>::len)) {
            Some(n) => Ok(n as u64),
            None => self.required_u64(arch, "vocab_size"),
        }
    }

    fn token_id(&self, name: &str) -> Result<Option<u64>, Error> {
        self.optional_u64("tokenizer.ggml", &format!("{name}_token_id"))
    }

    fn refuse_unsupported(&self, arch: &str) -> Result<(), Error> {
        for key in ["expert_count", "attention.sliding_window"] {
            if self.optional_u64(arch, key)?.is_some_and(|value| value > 0) {
                return Err(self.unsupported(&format!("{arch}.{key}")));
            }
        }
        let head_dim = self.head_dim(arch)?;
        for key in ["rope.dimension_count", "attention.value_length"] {
            if let Some(value) = self.optional_u64(arch, key)?.filter(|value| *value != head_dim) {
                let what = format!("{arch}.{key} of {value} with heads of {head_dim}");
                return Err(self.unsupported(&what));
            }
        }
        Ok(())
    }

    fn rope_scaling(&self, arch: &str, theta: f64, head_dim: u64) -> Result<Option<Json>, Error> {
        let type_key = format!("{arch}.rope.scaling.type");
        let kind = match self.metadata(&type_key) {
            None => "none",
            Some(value) => value.as_str().ok_or_else(|| self.wrong_type(&type_key, "text"))?,
        };
        let legacy = self.optional_f64(&format!("{arch}.rope.scale_linear"))?;
        let factor = self.optional_f64(&format!("{arch}.rope.scaling.factor"))?.or(legacy);
        match (kind, factor) {
            ("none", None) => self.llama3_scaling(theta, head_dim),
            ("none" | "linear", Some(1.0)) => Ok(None),
            ("none" | "linear", Some(factor)) => {
                Ok(Some(json!({"rope_type": "linear", "factor": factor})))
            }
            ("linear", None) => Err(self.missing(&format!("{arch}.rope.scaling.factor"))),
            (other, _) => Err(self.unsupported(&format!("{type_key} {other}"))),
        }
    }

    /// Llama 3's scaling. A file holds the divisor of each rotary frequency instead of the
    /// settings:
    /// the factor is the largest divisor, and all divisors are then compared with the settings'.
    fn llama3_scaling(&self, theta: f64, head_dim: u64) -> Result<Option<Json>, Error> {
        let Some(info) = self.tensor("rope_freqs.weight") else {
            return Ok(None);
        };
        let mut seen = vec![0.0; info.n_elements()];
        dequantize(info.ggml_type, self.bytes(info), &mut seen)
            .map_err(|reason| Error::bad_file(&self.path, format!("{}: {reason}", info.name)))?;
        let factor = f64::from(seen.iter().copied().fold(1.0_f32, f32::max));
        if seen.iter().all(|divisor| *divisor == 1.0) {
            return Ok(None);
        }
        let fits = seen.len() as u64 * 2 == head_dim
            && seen.iter().enumerate().all(|(idx, divisor)| {
                let wanted =
                    llama3_divisor(theta.powf(-(2.0 * idx as f64) / head_dim as f64), factor);
                (f64::from(*divisor) - wanted).abs() <= 1e-3 * wanted
            });
        if !fits {
            return Err(self.unsupported("rope_freqs.weight with other than Llama 3's divisors"));
        }
        Ok(Some(json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": LLAMA3_LOW_FREQ_FACTOR,
            "high_freq_factor": LLAMA3_HIGH_FREQ_FACTOR,
            "original_max_position_embeddings": LLAMA3_ORIGINAL_CONTEXT,
        })))
    }

    fn required_u64(&self, prefix: &str, key: &str) -> Result<u64, Error> {
        self.optional_u64(prefix, key)?.ok_or_else(|| self.missing(&format!("{prefix}.{key}")))
    }

    fn optional_u64(&self, prefix: &str, key: &str) -> Result<Option<u64>, Error> {
        let key = format!("{prefix}.{key}");
        let Some(value) = self.metadata(&key) else {
            return Ok(None);
        };
        value.as_u64().map(Some).ok_or_else(|| self.wrong_type(&key, "a count"))
    }

    /// A number. A 32-bit float is read through its shortest decimal text: 1e-5, not 9.99999975e-6.
    fn optional_f64(&self, key: &str) -> Result<Option<f64>, Error> {
        let Some(value) = self.metadata(key) else {
            return Ok(None);
        };
        let number = match value {
            GgufValue::F32(value) => value.to_string().parse().ok(),
            other => other.as_f64(),
        };
        let number = number.filter(|number: &f64| number.is_finite());
        number.map(Some).ok_or_else(|| self.wrong_type(key, "a finite number"))
    }

    fn missing(&self, key: &str) -> Error {
        Error::bad_file(&self.path, format!("metadata key {key} is missing"))
    }

    fn wrong_type(&self, key: &str, wanted: &str) -> Error {
        Error::bad_file(&self.path, format!("metadata key {key} is not {wanted}"))
    }

    fn unsupported(&self, what: &str) -> Error {
        Error::unsupported(format!("{}: {what}", self.path.display()))
    }
}

/// Divisor of a rotary frequency in Llama 3.1: 1 for short wavelengths, `factor` for long ones, and
/// an interpolation between.
fn llama3_divisor(frequency: f64, factor: f64) -> f64 {
    let context = f64::from(LLAMA3_ORIGINAL_CONTEXT);
    let turns = context * frequency / std::f64::consts::TAU;
    if turns > LLAMA3_HIGH_FREQ_FACTOR {
        1.0
    } else if turns < LLAMA3_LOW_FREQ_FACTOR {
        factor
    } else {
        let range = LLAMA3_HIGH_FREQ_FACTOR - LLAMA3_LOW_FREQ_FACTOR;
        let smooth = (turns - LLAMA3_LOW_FREQ_FACTOR) / range;
        1.0 / ((1.0 - smooth) / factor + smooth)
    }
}
