//! The interface of all parts but the judge's: the groups of a step come in, answers go out.
//!
//! It does not know where groups come from, nor what becomes of the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::channel::{Receiver, Sender};

use super::group::PartGroup;
use super::outcome::PartOutcome;

/// A source of numbers for the members of groups.
pub(super) trait PartSource: Send {
    /// Answers the questions of a step as they come, in any order, until there will be no more.
    /// What it says about a group does not depend on time, as far as the source itself does not.
    fn score(&mut self, questions: PartQuestions);

    /// Whether the groups are to come in the order of the step's prompts: for a source that may
    /// remember earlier ones.
    fn needs_order(&self) -> bool {
        false
    }
}

/// A group that a part is asked about, with its place in the step.
pub(super) type PlacedGroup = (usize, Arc<PartGroup>);

/// What a part says about the group at a place.
pub(super) struct PartAnswer {
    pub(super) part_idx: usize,
    pub(super) place: usize,
    pub(super) outcome: PartOutcome,
}

/// The questions that a step has for a part.
pub(super) struct PartQuestions {
    pub(super) groups: Receiver<PlacedGroup>,
    pub(super) answers: AnswerSender,
    /// Maximum number of completions in the groups of the step.
    pub(super) max_completions: usize,
}

impl PartQuestions {
    /// Answers the questions one after the other.
    pub(super) fn answer_each(self, mut answer: impl FnMut(&PartGroup) -> PartOutcome) {
        for (place, group) in &self.groups {
            if self.answers.are_unwanted() {
                return;
            }
            self.answers.send(place, answer(&group));
        }
    }
}

/// Where a part's answers go.
#[derive(Clone)]
pub(super) struct AnswerSender {
    pub(super) part_idx: usize,
    pub(super) send: Sender<PartAnswer>,
    /// Set where the step is given up.
    pub(super) is_given_up: Arc<AtomicBool>,
}

impl AnswerSender {
    pub(super) fn send(&self, place: usize, outcome: PartOutcome) {
        // sending fails only where the step is given up
        drop(self.send.send(PartAnswer { part_idx: self.part_idx, place, outcome }));
    }

    /// Whether nobody waits for answers any more.
    pub(super) fn are_unwanted(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }
}
