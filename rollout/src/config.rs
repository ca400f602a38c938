//! Settings of prompt sources and of sampling.

mod servers;

use std::path::PathBuf;

use joust_engine::EngineConfig;
use joust_schema::config::check::validate;
use joust_schema::config::keys::ConfigKeys;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use servers::{SamplerKind, ServersConfig, WeightsDType, WeightsVia};

/// The prompts and their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PromptsConfig {
    /// File of prompts: JSON Lines (.jsonl, .ndjson, .json) or Parquet (.parquet).
    #[schemars(length(min = 1))]
    pub path: PathBuf,
    /// Column with the prompt: a text or chat messages. If the file has no such column, the column
    /// `messages` is read.
    pub prompt_column: String,
    /// Column with the known answer, which is optional. If the file has no such column, verl's
    /// `reward_model.ground_truth` is read.
    pub answer_column: String,
    /// Column with the id of a prompt. `auto`: `prompt_id`, else `id`, where the file has them.
    /// `none`: ids are made from the prompts. Given ids are unique in the file.
    pub id_column: IdColumn,
    /// Whether each epoch has a new random order.
    pub shuffle: bool,
    /// Number of times that each prompt is used; then the run ends. 0: no limit.
    pub epochs: u64,
    /// Maximum number of prompts, counted from the beginning of the file. 0: all prompts.
    pub max_prompts: usize,
}

impl Default for PromptsConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            prompt_column: "prompt".to_owned(),
            answer_column: "answer".to_owned(),
            id_column: IdColumn::Auto,
            shuffle: true,
            epochs: 0,
            max_prompts: 0,
        }
    }
}

/// The column with the ids of prompts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum IdColumn {
    /// `prompt_id`, else `id`, where the file has them.
    #[default]
    Auto,
    /// Ids are made from the prompts.
    None,
    /// The column of this name.
    Named(String),
}

impl From<String> for IdColumn {
    fn from(name: String) -> Self {
        match name.as_str() {
            "auto" => Self::Auto,
            "none" => Self::None,
            _ => Self::Named(name),
        }
    }
}

impl From<IdColumn> for String {
    fn from(column: IdColumn) -> Self {
        match column {
            IdColumn::Auto => "auto".to_owned(),
            IdColumn::None => "none".to_owned(),
            IdColumn::Named(name) => name,
        }
    }
}

/// Prompts that are rendered by the policy's chat template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChatTemplateUse {
    /// Chat messages are rendered; a text is continued as it is. This is TRL's convention.
    #[default]
    Auto,
    /// Chat messages are rendered, and a text is rendered as a message of the user.
    Always,
}

/// Sampling of groups of completions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutConfig {
    /// What samples from the policy.
    pub kind: SamplerKind,
    /// Number of completions per prompt, which are compared with each other (TRL:
    /// `num_generations`).
    #[schemars(range(min = 2, max = 1024))]
    pub group_size: u32,
    /// Maximum number of tokens of a completion.
    #[schemars(range(min = 1, max = 1048576))]
    pub max_completion_length: usize,
    /// Temperature of the sampling. At 0 all completions of a group would be equal.
    #[schemars(range(min = 0.01, max = 100.0))]
    pub temperature: f64,
    /// Probability mass of the most probable tokens that are sampled from.
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1.0))]
    pub top_p: f64,
    /// Number of the most probable tokens that are sampled from. 0: all tokens.
    pub top_k: usize,
    /// Texts that end a completion. The text itself is not part of the completion.
    #[schemars(inner(length(min = 1)))]
    pub stop: Vec<String>,
    /// Prompts that are rendered by the policy's chat template.
    pub chat_template: ChatTemplateUse,
    /// System message for chats without one.
    pub system_prompt: Option<String>,
    /// Number of worker threads. Each has an engine of its own.
    #[schemars(range(min = 1, max = 256))]
    pub workers: usize,
    /// Maximum number of results that wait between the workers and the trainer; then the workers
    /// wait.
    #[schemars(range(min = 1, max = 1048576))]
    pub queue_capacity: usize,
    /// Engine of each worker. With servers, its `max_context`, `template_date` and
    /// `chat_template_kwargs` alone have an effect. Its `device` is the device of the policy, and
    /// `auto` as its `quantization` means no FP8. FP8 matrices are quantised again from each
    /// version of the policy.
    pub engine: EngineConfig,
    /// Inference servers that sample from the policy, and get each version of it. Only for the
    /// kinds `vllm` and `sglang`.
    pub servers: ServersConfig,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            kind: SamplerKind::Engine,
            group_size: 8,
            max_completion_length: 256,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            stop: Vec::new(),
            chat_template: ChatTemplateUse::Auto,
            system_prompt: None,
            workers: 1,
            queue_capacity: 256,
            engine: EngineConfig { max_queue: 65_536, ..EngineConfig::default() },
            servers: ServersConfig::default(),
        }
    }
}

impl RolloutConfig {
    /// All problems, each named by its key.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = validate(self, &ConfigKeys::of::<Self>());
        problems.extend(self.contradictions());
        problems
    }

    /// Problems between keys.
    fn contradictions(&self) -> Vec<String> {
        let mut problems = self.servers.contradictions(self.kind);
        if !self.kind.is_servers() {
            return problems;
        }
        let kind = self.kind.key();
        if self.workers != 1 {
            problems.push(format!(
                "workers is {}, wanted 1 with kind = \"{kind}\": the servers sample",
                self.workers
            ));
        }
        for key in servers::differing_keys(&self.engine, &Self::default().engine) {
            if !ENGINE_KEYS_OF_PROMPTS.contains(&&*key) {
                problems.push(format!(
                    "engine.{key} has no effect with kind = \"{kind}\": the servers have engines \
                     of their own"
                ));
            }
        }
        problems
    }
}

/// Keys of `engine` that say how prompts are made and how long they are, whoever samples.
const ENGINE_KEYS_OF_PROMPTS: [&str; 3] = ["max_context", "template_date", "chat_template_kwargs"];
