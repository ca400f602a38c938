//! One prompt of a data set.

use std::sync::Arc;

use joust_schema::ids::PromptId;
use joust_schema::ordered_json::JsonFields;
use joust_schema::prompt::{Prompt, PromptUse};

/// What is needed of the prompts of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptNeeds {
    /// Who reads them beside the policy.
    pub purpose: PromptUse,
    /// Whether all columns of each row are kept.
    pub keeps_rows: bool,
}

impl From<PromptUse> for PromptNeeds {
    fn from(purpose: PromptUse) -> Self {
        Self { purpose, keeps_rows: false }
    }
}

/// One prompt of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptRow {
    /// Its id: given in the file, or a hash of the prompt.
    pub prompt_id: PromptId,
    /// The prompt.
    pub prompt: Prompt,
    /// Variables of the chat template that the row brings along, such as tools.
    pub template_kwargs: JsonFields,
    /// The known answer, where the file has one.
    pub answer: Option<String>,
    /// All columns of its row as one JSON object, where the source keeps rows.
    pub columns: Option<Arc<str>>,
}
