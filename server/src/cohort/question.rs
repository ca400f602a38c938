//! The question of a group of single completions: what all of its members have in common.
//!
//! Knows no cohort and no request.

use std::hash::{Hash, Hasher};

use joust_schema::prompt::Prompt;
use serde_json::Value;

use crate::client::Client;
use crate::judged::Judged;

/// Prompt, known answer and origin of a group: the same for all of its members.
#[derive(Clone, Debug)]
pub(crate) struct CohortQuestion {
    pub(crate) prompt: Prompt,
    /// The known answer.
    pub(crate) answer: Option<Value>,
    pub(crate) group_id: Option<String>,
    /// Client of the first member, for fair shares.
    pub(crate) client: Client,
}

/// Hashes prompt and known answer: members of one group have both in common.
impl Hash for CohortQuestion {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.prompt.to_column().hash(state);
        self.answer.as_ref().map(Value::to_string).hash(state);
    }
}

impl CohortQuestion {
    /// The question of a judged group, which makes the same group again.
    pub(super) fn of(judged: &Judged) -> Self {
        Self {
            prompt: Prompt::Text(judged.group.question.clone()),
            answer: judged.group.reference.clone().map(Value::String),
            group_id: Some(judged.group.group_id.0.clone()),
            client: Client::of_tenant(&judged.tenant, None),
        }
    }

    /// Size of the texts.
    pub(super) fn n_bytes(&self) -> usize {
        let answer = self.answer.as_ref().and_then(Value::as_str).map_or(0, str::len);
        self.prompt.to_column().len() + answer
    }
}
