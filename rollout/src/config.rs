//! Settings of prompt sources and of sampling.

use std::path::PathBuf;

use joust_engine::KvDType;
use joust_engine::device::Quantization;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where prompts come from, and in which order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PromptsConfig {
    /// JSON Lines (.jsonl, .ndjson, .json) or Parquet (.parquet).
    pub path: PathBuf,
    /// Column with the prompt: a text, or chat messages. `messages` is taken where it is missing.
    pub prompt_column: String,
    /// Column with the known answer, where there is one; verl's `reward_model.ground_truth` is
    /// taken where it is missing.
    pub answer_column: String,
    /// Draws a new order for every epoch.
    pub shuffle: bool,
    /// Times that every prompt is used; 0 goes on for as long as the run does.
    pub epochs: u64,
    /// Uses only this many prompts, the first of the file; 0 uses all.
    pub max_prompts: usize,
}

impl Default for PromptsConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            prompt_column: "prompt".to_owned(),
            answer_column: "answer".to_owned(),
            shuffle: true,
            epochs: 0,
            max_prompts: 0,
        }
    }
}

/// Whether prompts go through the policy's chat template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChatTemplateUse {
    /// Messages do, texts are continued as they are (TRL's convention).
    #[default]
    Auto,
    /// Texts do too, as a user's message.
    Always,
}

/// How groups are sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutConfig {
    /// Completions a prompt (TRL: `num_generations`).
    pub group_size: u32,
    /// Most tokens of a completion.
    pub max_completion_length: usize,
    /// Temperature of sampling, above 0.
    pub temperature: f64,
    /// Probability mass of the most probable tokens that are drawn from, in (0, 1].
    pub top_p: f64,
    /// Number of the most probable tokens that are drawn from; 0 means all.
    pub top_k: usize,
    /// Texts that end a completion.
    pub stop: Vec<String>,
    /// Whether prompts go through the policy's chat template.
    pub chat_template: ChatTemplateUse,
    /// A system message put before chats that have none.
    pub system_prompt: Option<String>,
    /// Which of the workers' matrices are FP8; `auto` means none. They are quantised anew from each
    /// version of the policy.
    pub quantization: Quantization,
    /// What keys and values are kept in.
    pub kv_dtype: KvDType,
    /// Fused kernels on a GPU; without them libtorch's own operations, which are slow.
    pub gpu_kernels: bool,
    /// Records decoding steps on a GPU and starts each as a whole.
    pub cuda_graphs: bool,
    /// On a GPU, keys and values of what decoding rows begin with alike are read once for all of them.
    pub shared_attention: bool,
    /// Most of a product's weights that a GPU fetches into its last cache before it, in MiB, while few
    /// rows leave the memory idle; 0 fetches nothing.
    pub fetch_ahead_mib: usize,
    /// Worker threads, each with a copy of the policy.
    pub workers: usize,
    /// Most samples that a worker runs at once.
    pub max_batch: usize,
    /// Most tokens that one step computes, those of running samples first; a prompt that does not fit
    /// is computed in chunks.
    pub step_tokens: usize,
    /// Memory of a worker for keys and values, in MiB; 0 takes what `max_batch` samples of the
    /// longest context need, at most an eighth of the machine's memory, or what is left of a GPU's. What
    /// finds no room waits.
    pub kv_memory_mib: usize,
    /// Keeps the keys and values of prompts for later ones that begin alike.
    pub prefix_cache: bool,
    /// Most results that wait between a worker and the trainer.
    pub queue_capacity: usize,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            group_size: 8,
            max_completion_length: 256,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            stop: Vec::new(),
            chat_template: ChatTemplateUse::Auto,
            system_prompt: None,
            quantization: Quantization::Auto,
            kv_dtype: KvDType::Auto,
            gpu_kernels: true,
            cuda_graphs: true,
            shared_attention: true,
            fetch_ahead_mib: 12,
            workers: 1,
            max_batch: 64,
            step_tokens: 2_048,
            kv_memory_mib: 0,
            prefix_cache: true,
            queue_capacity: 256,
        }
    }
}

impl RolloutConfig {
    /// All that is wrong, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.group_size < 2 {
            problems.push(format!(
                "group_size is {}, wanted at least 2: completions are compared within their group",
                self.group_size
            ));
        }
        let counts = [
            ("max_completion_length", self.max_completion_length),
            ("workers", self.workers),
            ("max_batch", self.max_batch),
            ("step_tokens", self.step_tokens),
            ("queue_capacity", self.queue_capacity),
        ];
        for (key, value) in counts {
            if value == 0 {
                problems.push(format!("{key} is 0, wanted at least 1"));
            }
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            problems.push(format!(
                "temperature is {}, wanted above 0: equal completions teach nothing",
                self.temperature
            ));
        }
        if self.stop.iter().any(String::is_empty) {
            problems.push("stop holds an empty text, wanted at least one character".to_owned());
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            problems.push(format!("top_p is {}, wanted above 0 and at most 1", self.top_p));
        }
        problems
    }
}
