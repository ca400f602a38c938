//! A group as the parts of a reward see it.
//!
//! Plain data. It does not know how a group is scored.

use std::sync::Arc;

use joust_schema::prompt::Prompt;
use joust_schema::tables::FinishReason;

use crate::arena::GroupRequest;

/// A group to be scored by parts.
#[derive(Clone, Debug)]
pub struct PartGroup {
    /// The group as a judge and rules see it.
    pub request: GroupRequest,
    /// The prompt as the data file has it.
    pub prompt: Prompt,
    /// How each completion was sampled, member by member.
    pub members: Vec<PartMember>,
    /// All columns of the prompt's row as one JSON object; only where a part reads them.
    pub columns: Option<Arc<str>>,
}

/// How a completion was sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartMember {
    /// Why sampling ended.
    pub finish_reason: FinishReason,
    /// Number of tokens sampled.
    pub n_tokens: usize,
}
