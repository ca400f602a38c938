//! The config of `joust sft`.

use std::path::PathBuf;

use joust_data::TaskConfig;
use joust_engine::Tokenizer;
use joust_engine::config::{Family, ModelConfig, PassthroughKeys};
use joust_engine::device::{DType, DeviceChoice};
use joust_engine::tokenizer::DEFAULT_TEMPLATE_DATE;
use joust_engine::tokenizer::train::BpeConfig;
use joust_schema::ordered_json::JsonFields;
use joust_trainer::SftConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tuning::{TemplateSettings, TuningEvalSection, length_problems};
use super::{CheckpointSection, RunSection, of_section, refuse};
use crate::error::Error;
use crate::inputs::InputPath;

/// Supervised fine-tuning: a model, data, and how to train.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SftRun {
    /// The run and its run folder.
    pub run: RunSection,
    /// The model in training: either an existing one (`path`), or a fresh one (`new`).
    pub model: ModelSection,
    /// Training data: a file or a built-in task.
    pub data: DataSection,
    /// Supervised fine-tuning of the model.
    pub trainer: SftConfig,
    /// Measurement of progress: the loss of held-out examples, which are not learned from.
    pub eval: TuningEvalSection,
    /// Checkpoints: saved training states from which the run goes on.
    pub checkpoint: CheckpointSection,
    /// Model folder that is written when the run ends.
    pub export: ExportSection,
}

impl SftRun {
    /// Refuses what makes no sense, all problems at once.
    ///
    /// # Errors
    /// [`Error::Input`]
    pub fn validate(&self) -> Result<(), Error> {
        refuse(self.problems())
    }

    /// All problems, each named by its key.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.run.problems();
        problems.extend(of_section("model", &self.model));
        problems.extend(of_section("data", &self.data));
        problems.extend(self.data.template_settings().problems());
        problems.extend(of_section("trainer", &self.trainer));
        problems.extend(self.eval.problems());
        problems.extend(of_section("checkpoint", &self.checkpoint));
        if self.data.task.is_some() {
            let found = self.data.arithmetic.contradictions();
            problems.extend(found.iter().map(|problem| format!("data.arithmetic.{problem}")));
        }
        let schedule = &self.trainer.learner.optim.schedule;
        problems.extend(length_problems(&self.trainer.length(), schedule));
        if self.data.task.is_some() && self.trainer.epochs.is_some() {
            problems.push(
                "trainer.epochs is set with data.task, whose examples do not repeat; wanted \
                 trainer.steps"
                    .to_owned(),
            );
        }
        if self.data.task.is_some() && self.data.trained_turns == TrainedTurns::All {
            problems.push(
                "data.trained_turns is all with data.task, whose examples have one turn; wanted \
                 last"
                    .to_owned(),
            );
        }
        if self.model.path.is_some() == self.model.new.is_some() {
            problems.push("wanted either `model.path` or `model.new`, not both or none".to_owned());
        }
        if self.model.new.is_some() && self.trainer.learner.lora.is_some() {
            problems.push(
                "trainer.learner.lora is set with model.new, wanted model.path: adapters belong to \
                 a model that stays as it is"
                    .to_owned(),
            );
        }
        if self.model.new.is_some() && self.model.tokenizer.is_none() {
            problems.push("model.tokenizer is missing: a fresh model has a fresh one".to_owned());
        }
        if let Some(new) = &self.model.new {
            problems.extend(new.contradictions().iter().map(|p| format!("model.new.{p}")));
        }
        problems
    }

    /// The files and folders that the run reads.
    pub(crate) fn inputs(&self) -> Vec<InputPath> {
        let model = self.model.path.iter().map(|path| InputPath::model("model.path", path));
        let data = self.data.path.iter().map(|path| InputPath::file("data.path", path));
        model.chain(data).chain(self.eval.input()).collect()
    }
}

/// The model in training: an existing one, or a fresh one with a fresh tokenizer.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSection {
    /// Model folder or GGUF file to start from. Without it, `new` describes a fresh model.
    pub path: Option<PathBuf>,
    /// Device that the model is trained on.
    pub device: DeviceChoice,
    /// Architecture of a fresh model: a Qwen2 decoder with random weights.
    pub new: Option<NewModel>,
    /// Tokenizer of a fresh model. It is trained on the first examples.
    pub tokenizer: Option<NewTokenizer>,
}

/// A fresh Qwen2-architecture decoder, its weights drawn at random.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewModel {
    /// Width of the residual stream, a multiple of twice `n_heads`.
    #[schemars(range(min = 1, max = 65536))]
    pub hidden_size: usize,
    /// Width of the gated MLP.
    #[schemars(range(min = 1, max = 1048576))]
    pub intermediate_size: usize,
    /// Number of layers.
    #[schemars(range(min = 1, max = 1024))]
    pub n_layers: usize,
    /// Number of query heads.
    #[schemars(range(min = 1, max = 1024))]
    pub n_heads: usize,
    /// Number of key/value heads, a divisor of `n_heads`.
    #[schemars(range(min = 1, max = 1024))]
    pub n_kv_heads: usize,
    /// Maximum number of tokens of a context.
    #[schemars(range(min = 1, max = 16777216))]
    pub max_position: usize,
    /// Base of the rotary embedding.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub rope_theta: f64,
}

impl NewModel {
    /// Problems between keys, each named by its key.
    fn contradictions(&self) -> Vec<String> {
        let mut problems = Vec::new();
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
    /// Training of the byte-pair encoding.
    pub bpe: BpeConfig,
    /// Number of examples whose text the tokenizer is trained on.
    #[schemars(range(min = 1, max = 100000000))]
    pub n_examples: usize,
}

/// Training data: a file or a built-in task.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSection {
    /// File of examples. JSON Lines, a JSON array or Parquet with `prompt` (text or chat messages)
    /// and `completion` (text or one message of the assistant), which is learned; or with
    /// `messages` (ShareGPT's `conversations`, Alpaca's `instruction` and `output`) alone, of which
    /// `trained_turns` are learned.
    pub path: Option<PathBuf>,
    /// Turns of the assistant that are learned, of rows without `completion`.
    pub trained_turns: TrainedTurns,
    /// Whether a text prompt is rendered as a chat message of the user.
    pub chat: bool,
    /// Date that chat templates take for the present day, as year, month and day.
    pub template_date: String,
    /// Further variables of the chat template, such as `{ enable_thinking = false }`. Those of a
    /// row (columns `tools` and `chat_template_kwargs`) take precedence.
    pub chat_template_kwargs: JsonFields,
    /// Built-in task. Its examples are drawn anew at every step.
    pub task: Option<TaskKind>,
    /// Settings of the built-in task.
    pub arithmetic: TaskConfig,
}

impl Default for DataSection {
    fn default() -> Self {
        Self {
            path: None,
            trained_turns: TrainedTurns::Last,
            chat: false,
            template_date: DEFAULT_TEMPLATE_DATE.to_owned(),
            chat_template_kwargs: JsonFields::default(),
            task: None,
            arithmetic: TaskConfig::default(),
        }
    }
}

impl DataSection {
    /// What the chat template sees.
    pub(crate) fn template_settings(&self) -> TemplateSettings<'_> {
        TemplateSettings {
            template_date: &self.template_date,
            template_kwargs: &self.chat_template_kwargs,
        }
    }
}

/// Turns of the assistant that are learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainedTurns {
    /// The last message, which has to be of the assistant, as a completion of those before it. Of
    /// it, `content` is learned: tool calls and thoughts beside it are refused.
    #[default]
    Last,
    /// All turns of the assistant, as the chat template renders them in the whole chat, each with
    /// the token that ends it (TRL's `assistant_only_loss`). Tool calls and thoughts are learned
    /// where the template writes them; templates of reasoning models drop the thoughts of earlier
    /// turns. A message with `weight = 0` is not learned. The turns are found by the template's
    /// `{% generation %}` marks, and without marks by rendering what precedes each of them; a
    /// template that renders that otherwise within the whole chat is refused.
    All,
}

/// A built-in task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Arithmetic questions, with worked answers that forget carries.
    ArithmeticPolicy,
    /// Pairs of answers to arithmetic questions, with the thought and the verdict of a judge.
    ArithmeticJudge,
}

/// Model folder that is written when a run ends.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExportSection {
    /// Model folder to write. Without it, only the checkpoints are written.
    pub path: Option<PathBuf>,
    /// Number format of the written weights.
    pub dtype: DType,
}
