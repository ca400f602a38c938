//! Groups for the tests of parts, and what a part alone says about them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam::channel::unbounded;
use joust_schema::prompt::Prompt;
use joust_schema::seed::Seed;
use joust_schema::tables::FinishReason;

use super::group::{PartGroup, PartMember};
use super::outcome::PartOutcome;
use super::source::{AnswerSender, PartQuestions, PartSource};
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

/// What a part says about groups, in their order.
pub(super) fn said(part: &mut dyn PartSource, groups: &[PartGroup]) -> Vec<PartOutcome> {
    let (ask, asked) = unbounded();
    let (send, receive) = unbounded();
    let placed = groups.iter().cloned().map(Arc::new).enumerate();
    placed.for_each(|placed| ask.send(placed).unwrap());
    drop(ask);
    let max_completions = groups.iter().map(|group| group.request.completions.len()).sum();
    let answers = AnswerSender { part_idx: 0, send, is_given_up: Arc::new(AtomicBool::new(false)) };
    part.score(PartQuestions { groups: asked, answers, max_completions });
    let mut said: Vec<_> = receive.iter().map(|answer| (answer.place, answer.outcome)).collect();
    said.sort_by_key(|(place, _)| *place);
    said.into_iter().map(|(_, outcome)| outcome).collect()
}
