//! Settings of an engine and of a request, with their defaults and limits.

use joust_schema::config::check::validate;
use joust_schema::config::keys::ConfigKeys;
use joust_schema::ordered_json::{JsonFields, OrderedJson};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::device::{DType, DeviceChoice, Quantization};
use crate::error::Error;
use crate::jinja::CalendarDate;
use crate::tokenizer::DEFAULT_TEMPLATE_DATE;

/// Sampling of a request, and the end of its samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingParams {
    /// Maximum number of tokens of a sample, its stop token included.
    pub max_tokens: usize,
    /// Temperature of the sampling. 0: the most probable token is always taken.
    pub temperature: f64,
    /// Probability mass of the most probable tokens that are sampled from, in (0, 1].
    pub top_p: f64,
    /// Number of the most probable tokens that are sampled from. 0: all tokens.
    pub top_k: usize,
    /// Number of samples of the prompt.
    pub n: u32,
    /// Seed of all draws. Sample i draws from its i-th child.
    pub seed: u64,
    /// Texts that end a sample. They are not part of its text.
    pub stop: Vec<String>,
    /// Tokens that end a sample, in addition to the end tokens of the model.
    pub stop_token_ids: Vec<u32>,
    /// Whether a sample goes on past the end tokens of the model. For benchmarks.
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
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::BadRequest`] with the first problem.
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

/// Number format of the cached keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KvDType {
    /// The number format that the model computes in.
    #[default]
    Auto,
    /// FP8 (E4M3) with one scale per token and head: half the memory of bf16. Needs a GPU.
    Fp8,
}

/// Limits and placement of an engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Device that the model runs on.
    pub device: DeviceChoice,
    /// Number format of the weights and of the computation.
    pub dtype: DType,
    /// Matrices that are FP8.
    pub quantization: Quantization,
    /// Number format of the cached keys and values.
    pub kv_dtype: KvDType,
    /// Memory for keys and values, in MiB. 0: the memory that `max_batch` samples of `max_context`
    /// tokens need, at most an eighth of the machine's memory or the free memory of a GPU. A sample
    /// that does not fit waits.
    #[schemars(range(max = 1_073_741_824))]
    pub kv_memory_mib: usize,
    /// Reuse of the keys and values of earlier prompts by prompts that begin with the same tokens.
    pub prefix_cache: bool,
    /// Maximum number of tokens of prompt and sample together. 0: the model's own limit.
    pub max_context: usize,
    /// Maximum number of samples that run at once.
    #[schemars(range(min = 1))]
    pub max_batch: usize,
    /// Maximum number of waiting requests; a further request is refused. 0: no limit.
    pub max_queue: usize,
    /// Maximum number of tokens that one step computes. Tokens of running samples come first; a
    /// prompt that does not fit is computed in chunks.
    #[schemars(range(min = 1))]
    pub step_tokens: usize,
    /// Use of the fused GPU kernels. Without them a GPU runs libtorch's operations, which are slow.
    pub gpu_kernels: bool,
    /// Use of CUDA graphs: a decoding step on a GPU is recorded once and launched as a whole.
    pub cuda_graphs: bool,
    /// Use of cascade attention: on a GPU, keys and values of a beginning that several decoding
    /// rows share are read once for all of them.
    pub shared_attention: bool,
    /// Maximum size of the weights that a GPU prefetches into its L2 cache before a matrix product,
    /// in MiB. Weights are prefetched while few rows leave the memory idle. 0: no prefetch.
    pub fetch_ahead_mib: usize,
    /// Date that chat templates take for the present day, as year, month and day. It is fixed, so
    /// that a prompt does not depend on the day on which it is rendered.
    pub template_date: String,
    /// Further variables of the chat template, such as `{ enable_thinking = false }`; `tools` and
    /// `documents` are lists that the template writes out.
    pub chat_template_kwargs: JsonFields,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            device: DeviceChoice::Auto,
            dtype: DType::Auto,
            quantization: Quantization::Auto,
            kv_dtype: KvDType::Auto,
            kv_memory_mib: 0,
            prefix_cache: true,
            max_context: 0,
            max_batch: 64,
            max_queue: 0,
            step_tokens: 2_048,
            gpu_kernels: true,
            cuda_graphs: true,
            shared_attention: true,
            fetch_ahead_mib: 12,
            template_date: DEFAULT_TEMPLATE_DATE.to_owned(),
            chat_template_kwargs: JsonFields::default(),
        }
    }
}

impl EngineConfig {
    /// Maximum number of tokens per sequence of a model.
    pub fn max_context_of(&self, model: &ModelConfig) -> usize {
        match self.max_context {
            0 => model.max_position,
            limit => limit.min(model.max_position),
        }
    }

    /// All problems, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = validate(self, &ConfigKeys::of::<Self>());
        problems.extend(self.contradictions());
        problems
    }

    /// Problems between keys, and with texts.
    pub fn contradictions(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.step_tokens < self.max_batch {
            problems.push(format!(
                "step_tokens is {}, wanted at least max_batch, {}: each running sample takes one \
                 token of a step",
                self.step_tokens, self.max_batch
            ));
        }
        problems.extend(template_problems(&self.template_date, &self.chat_template_kwargs));
        problems
    }
}

/// Problems of the keys `template_date` and `chat_template_kwargs`.
pub fn template_problems(date: &str, kwargs: &JsonFields) -> Vec<String> {
    let mut problems = Vec::new();
    if CalendarDate::parse(date).is_none() {
        problems.push(format!(
            "template_date is {date:?}, wanted a date such as {DEFAULT_TEMPLATE_DATE}"
        ));
    }
    for (name, value) in &kwargs.0 {
        if ["messages", "add_generation_prompt"].contains(&&name[..]) {
            problems.push(format!("chat_template_kwargs.{name} is set by every rendering"));
        }
        let is_list = matches!(value, OrderedJson::List(_) | OrderedJson::Null);
        if ["tools", "documents"].contains(&&name[..]) && !is_list {
            problems.push(format!("chat_template_kwargs.{name} is {value}, wanted a list"));
        }
    }
    problems
}
