//! The completions of one prompt, and those of one step.

use std::sync::Arc;

use arrow::array::RecordBatch;
use joust_schema::group_rows::GroupRows;
use joust_schema::ids::{GroupId, PromptId};
use joust_schema::prompt::Prompt;
use joust_schema::table::Table as _;
use joust_schema::tables::Rollout;

use crate::error::Error;

/// The completions of one prompt at one step.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct RolloutGroup {
    /// Its id.
    pub group_id: GroupId,
    /// The prompt's id.
    pub prompt_id: PromptId,
    /// The prompt as its file has it.
    pub prompt: Prompt,
    /// All columns of its row as one JSON object, where the source keeps rows. They are not sent to
    /// other processes: rewards are made where the group was sampled.
    #[serde(skip)]
    pub columns: Option<Arc<str>>,
    /// The prompt as a judge is shown it, without chat template.
    pub question: String,
    /// The known answer, where there is one.
    pub answer: Option<String>,
    /// Its completions, member by member.
    pub completions: Vec<Rollout>,
}

/// A prompt that could not be sampled from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DroppedPrompt {
    /// The prompt.
    pub prompt_id: PromptId,
    /// The reason.
    pub reason: String,
}

/// The groups of a list of prompts.
#[derive(Clone, Debug, Default)]
pub struct RolloutBatch {
    /// The groups, in the order of the prompts.
    pub groups: Vec<RolloutGroup>,
    /// Prompts that could not be sampled from.
    pub dropped: Vec<DroppedPrompt>,
    /// Number of tokens sampled.
    pub n_tokens: usize,
}

impl RolloutBatch {
    /// All completions, group by group.
    pub fn completions(&self) -> impl Iterator<Item = &Rollout> {
        self.groups.iter().flat_map(|group| &group.completions)
    }

    /// The rows of each group in the order of [`RolloutBatch::completions`].
    pub fn group_rows(&self) -> GroupRows {
        self.groups.iter().map(|group| group.completions.len()).collect()
    }

    /// The `rollouts` table, in the order of [`RolloutBatch::completions`].
    ///
    /// # Errors
    /// As [`joust_schema::table::Table::to_batch`].
    pub fn to_arrow(&self) -> Result<RecordBatch, Error> {
        Ok(Rollout::to_batch(&self.completions().collect::<Vec<_>>())?)
    }
}
