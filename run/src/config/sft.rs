//! The config of `joust sft`.

use std::path::PathBuf;

use crate::error::Error;
use joust_data::TaskConfig;
use joust_engine::Tokenizer;
use joust_engine::config::{Family, ModelConfig, PassthroughKeys};
use joust_engine::device::{DType, DeviceChoice};
use joust_engine::tokenizer::train::BpeConfig;
use joust_trainer::SftConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Supervised fine-tuning: a model, data, and how to train.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SftRun {
    /// The run and its folder.
    pub run: super::RunSection,
    /// Where the model comes from.
    pub model: ModelSection,
    /// What it is trained on.
    pub data: DataSection,
    /// How it is trained.
    pub trainer: SftConfig,
    /// When training states are saved.
    pub checkpoint: super::CheckpointSection,
    /// The finished model, beside the last checkpoint.
    pub export: ExportSection,
}

impl SftRun {
    /// Refuses what makes no sense, all problems at once.
    pub fn validate(&self) -> Result<(), Error> {
        let mut problems: Vec<String> =
            self.trainer.validate().into_iter().map(|p| format!("trainer.{p}")).collect();
        problems
            .extend(self.data.arithmetic.validate().iter().map(|p| format!("data.arithmetic.{p}")));
        if self.model.path.is_some() == self.model.new.is_some() {
            problems.push("wanted either `model.path` or `model.new`, not both or none".to_owned());
        }
        if let Some(new) = &self.model.new {
            problems.extend(new.validate().iter().map(|p| format!("model.new.{p}")));
        }
        super::refuse(problems)
    }
}

/// The model to train: an existing one, or a fresh one with a fresh tokenizer.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSection {
    /// Model folder or GGUF file to start from; leave out to start from nothing.
    pub path: Option<PathBuf>,
    /// Where it trains.
    pub device: DeviceChoice,
    /// Architecture of a fresh model.
    pub new: Option<NewModel>,
    /// Tokenizer of a fresh model, trained on the first examples.
    pub tokenizer: Option<NewTokenizer>,
}

/// A fresh Qwen2-architecture decoder, its weights drawn at random.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewModel {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub n_layers: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key/value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Longest context in tokens.
    pub max_position: usize,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
}

impl NewModel {
    fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("n_kv_heads", self.n_kv_heads),
            ("max_position", self.max_position),
        ];
        for (key, value) in sizes {
            if value == 0 {
                problems.push(format!("{key} is 0, wanted at least 1"));
            }
        }
        let n_heads = self.n_heads.max(1);
        if !self.hidden_size.is_multiple_of(2 * n_heads) {
            problems.push(format!(
                "hidden_size is {}, wanted a multiple of twice n_heads ({n_heads})",
                self.hidden_size
            ));
        }
        if !n_heads.is_multiple_of(self.n_kv_heads.max(1)) {
            problems.push(format!(
                "n_kv_heads is {}, wanted a divisor of n_heads ({n_heads})",
                self.n_kv_heads
            ));
        }
        problems
    }

    /// The model's constants, with the vocabulary of `tokenizer`.
    pub fn config(&self, tokenizer: &Tokenizer) -> ModelConfig {
        ModelConfig {
            family: Family::QWEN2,
            vocab_size: tokenizer.vocab_size(),
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            n_layers: self.n_layers,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.hidden_size / self.n_heads,
            max_position: self.max_position,
            rms_norm_eps: 1e-6,
            rope_theta: self.rope_theta,
            rope_scaling: None,
            tie_word_embeddings: true,
            attention_bias: true,
            bos_token_id: tokenizer.bos_id(),
            eos_token_ids: tokenizer.eos_ids().to_vec(),
            torch_dtype: None,
            fp8: None,
            kept: PassthroughKeys::default(),
        }
    }
}

/// A fresh tokenizer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTokenizer {
    /// How the byte-pair encoding is trained.
    pub bpe: BpeConfig,
    /// Number of examples whose text it is trained on.
    pub n_examples: usize,
}

/// Training data: a file or a built-in task.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSection {
    /// JSON Lines with `prompt` (text or chat messages) and `completion` (text).
    pub path: Option<PathBuf>,
    /// Renders text prompts as a user's chat message.
    pub chat: bool,
    /// A built-in task whose examples are drawn afresh at every step.
    pub task: Option<TaskKind>,
    /// Settings of the built-in task.
    pub arithmetic: TaskConfig,
}

/// A built-in task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Arithmetic questions with worked answers that forget carries.
    ArithmeticPolicy,
    /// Pairs of answers to arithmetic questions, with a judge's thought and verdict.
    ArithmeticJudge,
}

/// Where the finished model is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExportSection {
    /// Model folder to write; leave out to keep only the checkpoints.
    pub path: Option<PathBuf>,
    /// What its weights are written in.
    pub dtype: DType,
}
