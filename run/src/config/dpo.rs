//! The config of `joust dpo`.

use std::path::PathBuf;

use joust_engine::device::DeviceChoice;
use joust_engine::tokenizer::DEFAULT_TEMPLATE_DATE;
use joust_schema::ordered_json::JsonFields;
use joust_trainer::DpoConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sft::ExportSection;
use super::tuning::{TemplateSettings, TuningEvalSection, length_problems};
use super::{CheckpointSection, RunSection, of_section, refuse};
use crate::error::Error;
use crate::inputs::InputPath;

/// Preference optimisation: a model, pairs of completions, and how to train.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DpoRun {
    /// The run and its run folder.
    pub run: RunSection,
    /// The model in training, and the reference.
    pub model: DpoModelSection,
    /// Preference pairs.
    pub data: PairsSection,
    /// Direct preference optimisation of the model. Names and meanings are those of TRL's
    /// `DPOConfig`.
    pub trainer: DpoConfig,
    /// Measurement of progress: the loss of held-out pairs, which are not learned from.
    pub eval: TuningEvalSection,
    /// Checkpoints: saved training states from which the run goes on.
    pub checkpoint: CheckpointSection,
    /// Model folder that is written when the run ends.
    pub export: ExportSection,
}

/// The model in training, and the reference that it is held at.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DpoModelSection {
    /// Model folder or GGUF file to start from.
    #[schemars(length(min = 1))]
    pub path: PathBuf,
    /// Model folder or GGUF file of the reference, with the same tokenizer. Default: `path`.
    pub reference: Option<PathBuf>,
    /// Device that both models are on.
    pub device: DeviceChoice,
}

impl DpoModelSection {
    /// The files of the reference.
    pub(crate) fn reference(&self) -> &PathBuf {
        self.reference.as_ref().unwrap_or(&self.path)
    }
}

/// Preference pairs: a file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PairsSection {
    /// File of pairs. JSON Lines, a JSON array or Parquet with `prompt` (text or chat messages; or
    /// ShareGPT's `conversations`, Alpaca's `instruction`), `chosen` and `rejected` (text or one
    /// message of the assistant); or with `chosen` and `rejected` alone, two texts or two chats
    /// whose common beginning is the prompt. `joust dump pairs` writes such files.
    #[schemars(length(min = 1))]
    pub path: PathBuf,
    /// Whether a text prompt is rendered as a chat message of the user.
    pub chat: bool,
    /// Date that chat templates take for the present day, as year, month and day.
    pub template_date: String,
    /// Further variables of the chat template, such as `{ enable_thinking = false }`. Those of a
    /// row (columns `tools` and `chat_template_kwargs`) take precedence.
    pub chat_template_kwargs: JsonFields,
}

impl Default for PairsSection {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            chat: false,
            template_date: DEFAULT_TEMPLATE_DATE.to_owned(),
            chat_template_kwargs: JsonFields::default(),
        }
    }
}

impl PairsSection {
    /// What the chat template sees.
    pub(crate) fn template_settings(&self) -> TemplateSettings<'_> {
        TemplateSettings {
            template_date: &self.template_date,
            template_kwargs: &self.chat_template_kwargs,
        }
    }
}

impl DpoRun {
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
        problems.extend(self.trainer.validate().iter().map(|text| format!("trainer.{text}")));
        problems.extend(self.eval.problems());
        problems.extend(of_section("checkpoint", &self.checkpoint));
        let schedule = &self.trainer.learner.optim.schedule;
        problems.extend(length_problems(&self.trainer.length(), schedule));
        problems
    }

    /// The files and folders that the run reads.
    pub(crate) fn inputs(&self) -> Vec<InputPath> {
        let mut inputs = vec![
            InputPath::model("model.path", &self.model.path),
            InputPath::file("data.path", &self.data.path),
        ];
        inputs.extend(self.eval.input());
        let reference = self.model.reference.iter();
        inputs.extend(reference.map(|path| InputPath::model("model.reference", path)));
        inputs
    }
}
