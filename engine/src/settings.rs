//! Settings of an engine and of a request, with their defaults and limits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::device::{DType, DeviceChoice, Quantization};
use crate::error::Error;

/// How the samples of a request are drawn, and when they end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingParams {
    /// Most tokens of a sample, its stop token included.
    pub max_tokens: usize,
    /// 0 takes the most probable token at every step.
    pub temperature: f64,
    /// Probability mass of the most probable tokens that are drawn from, in (0, 1].
    pub top_p: f64,
    /// Number of the most probable tokens that are drawn from; 0 means all.
    pub top_k: usize,
    /// Samples of the prompt.
    pub n: u32,
    /// Key of every draw; sample i draws from its i-th child.
    pub seed: u64,
    /// Texts that end a sample; they are not part of its text.
    pub stop: Vec<String>,
    /// Tokens that end a sample, beside the model's own.
    pub stop_token_ids: Vec<u32>,
    /// Goes on past the model's own end tokens (for benchmarks).
    pub ignore_eos: bool,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            n: 1,
            seed: 0,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            ignore_eos: false,
        }
    }
}

impl SamplingParams {
    /// Says what is wrong with the settings, if anything.
    pub fn validate(&self) -> Result<(), Error> {
        let bad = |what: &str, seen: String, wanted: &str| {
            Err(Error::BadRequest(format!("{what} is {seen}, wanted {wanted}")))
        };
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return bad("temperature", self.temperature.to_string(), "0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return bad("top_p", self.top_p.to_string(), "a number in (0, 1]");
        }
        if self.n == 0 {
            return bad("n", "0".to_owned(), "at least 1");
        }
        if self.max_tokens == 0 {
            return bad("max_tokens", "0".to_owned(), "at least 1");
        }
        if self.stop.iter().any(String::is_empty) {
            return bad("stop", "an empty text".to_owned(), "texts of at least one character");
        }
        Ok(())
    }
}

/// What keys and values are kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KvDType {
    /// What the model computes in.
    #[default]
    Auto,
    /// E4M3 with one scale a token and head: half the memory of bf16. On a GPU only.
    Fp8,
}

/// Limits and placement of an engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Most samples that run at once.
    pub max_batch: usize,
    /// Most tokens of prompt and sample together; 0 means the model's own limit.
    pub max_context: usize,
    /// Most requests that wait; a further one is refused.
    pub max_queue: usize,
    /// Most tokens that one step computes, those of running samples first; a prompt that does not
    /// fit is computed in chunks.
    pub step_tokens: usize,
    /// Memory for keys and values, in MiB; 0 takes what `max_batch` samples of `max_context` tokens
    /// need, at most an eighth of the machine's memory, or what is left of a GPU's. What finds no
    /// room waits.
    pub kv_memory_mib: usize,
    /// Keeps the keys and values of prompts for later requests that begin alike.
    pub prefix_cache: bool,
    /// What the weights are kept and computed in.
    pub dtype: DType,
    /// Which matrices are FP8.
    pub quantization: Quantization,
    /// What keys and values are kept in.
    pub kv_dtype: KvDType,
    /// Where the model runs.
    pub device: DeviceChoice,
    /// Fused kernels on a GPU; without them libtorch's own operations, which are slow.
    pub gpu_kernels: bool,
    /// Records decoding steps on a GPU and starts each as a whole.
    pub cuda_graphs: bool,
    /// On a GPU, keys and values of what decoding rows begin with alike are read once for all of
    /// them.
    pub shared_attention: bool,
    /// Most of a product's weights that a GPU fetches into its last cache before it, in MiB, while
    /// few rows leave the memory idle; 0 fetches nothing.
    pub fetch_ahead_mib: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_batch: 64,
            max_context: 0,
            max_queue: 65_536,
            step_tokens: 2_048,
            kv_memory_mib: 0,
            prefix_cache: true,
            dtype: DType::Auto,
            quantization: Quantization::Auto,
            kv_dtype: KvDType::Auto,
            device: DeviceChoice::Auto,
            gpu_kernels: true,
            cuda_graphs: true,
            shared_attention: true,
            fetch_ahead_mib: 12,
        }
    }
}

impl EngineConfig {
    /// Most tokens of one sequence of a model.
    pub(crate) fn max_context_of(&self, model: &ModelConfig) -> usize {
        match self.max_context {
            0 => model.max_position,
            limit => limit.min(model.max_position),
        }
    }

    /// All that is wrong with the limits, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        [
            ("max_batch", self.max_batch),
            ("max_queue", self.max_queue),
            ("step_tokens", self.step_tokens),
        ]
        .into_iter()
        .filter(|(_, value)| *value == 0)
        .map(|(key, _)| format!("{key} is 0, wanted at least 1"))
        .collect()
    }
}
