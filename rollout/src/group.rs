//! A prompt with its completions, and one step's worth of them.

use arrow::array::RecordBatch;
use joust_schema::ids::{GroupId, PromptId};
use joust_schema::prompt::Prompt;
use joust_schema::table::Table as _;
use joust_schema::tables::Rollout;

use crate::error::Error;

/// The completions of one prompt at one step.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its id.
    pub group_id: GroupId,
    /// The prompt's id.
    pub prompt_id: PromptId,
    /// The prompt as the data set has it.
    pub prompt: Prompt,
    /// The known answer, where there is one.
    pub answer: Option<String>,
    /// Its completions, member by member.
    pub completions: Vec<Rollout>,
}

/// A prompt that could not be sampled from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The prompt.
    pub prompt_id: PromptId,
    /// Why.
    pub reason: String,
}

/// What the workers made of a list of prompts.
#[derive(Clone, Debug, Default)]
pub struct RolloutBatch {
    /// The groups, in the order of the prompts.
    pub groups: Vec<Group>,
    /// Prompts that could not be sampled from.
    pub dropped: Vec<Dropped>,
    /// Tokens sampled.
    pub n_tokens: usize,
}

impl RolloutBatch {
    /// The `rollouts` table, group by group.
    ///
    /// # Errors
    /// As [`joust_schema::table::Table::to_batch`].
    pub fn to_arrow(&self) -> Result<RecordBatch, Error> {
        let rows: Vec<Rollout> =
            self.groups.iter().flat_map(|group| group.completions.iter().cloned()).collect();
        Ok(Rollout::to_batch(&rows)?)
    }
}
