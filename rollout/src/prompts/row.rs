//! One prompt of a data set.

use joust_schema::ids::PromptId;
use joust_schema::ordered_json::JsonFields;
use joust_schema::prompt::Prompt;

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
}
