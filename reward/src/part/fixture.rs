//! Groups for the tests of parts.

use joust_schema::prompt::Prompt;
use joust_schema::seed::Seed;
use joust_schema::tables::FinishReason;

use super::group::{PartGroup, PartMember};
use crate::arena::GroupRequest;

/// A group of these completions, whose known answer is 2.
pub(super) fn group(id: &str, completions: &[&str]) -> PartGroup {
    let member = |(idx, _): (usize, &&str)| PartMember {
        finish_reason: FinishReason::Stop,
        n_tokens: 10 * (idx + 1),
    };
    PartGroup {
        request: GroupRequest {
            step: 3,
            group_id: id.into(),
            question: "1+1?".to_owned(),
            completions: completions.iter().map(|&text| text.to_owned()).collect(),
            reference: Some("2".to_owned()),
            seed: Seed::new(7),
            tournament: None,
        },
        prompt: Prompt::Text("1+1?".to_owned()),
        members: completions.iter().enumerate().map(member).collect(),
        columns: Some("{\"prompt\":\"1+1?\",\"answer\":2,\"level\":0.50}".into()),
    }
}
