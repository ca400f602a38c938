//! A group of two completions, for tests below the protocols.

use joust_schema::ids::GroupId;
use joust_schema::seed::Seed;

use joust_reward::arena::GroupRequest;

/// A group of two completions.
pub(crate) fn pair(question: &str) -> GroupRequest {
    GroupRequest {
        step: 0,
        group_id: GroupId("g".to_owned()),
        question: question.to_owned(),
        completions: vec!["a".to_owned(), "b".to_owned()],
        reference: None,
        seed: Seed::new(1),
        tournament: None,
    }
}
