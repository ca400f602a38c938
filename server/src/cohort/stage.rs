//! One cohort: its stage and its members.
//!
//! Plain data; knows no other cohort and no requests.

use std::time::Duration;

use super::members::CohortMember;
use super::terms::CohortKey;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CohortStage {
    /// Waits for members.
    Collecting {
        until: Duration,
        /// Time at which the group is judged, set while it has its members and waits for clients to
        /// be seen leaving.
        settled: Option<Duration>,
        /// Time at which the group is forgotten, set while no request waits in it.
        abandoned: Option<Duration>,
    },
    Judging,
    /// Has its answers, which are kept for retries.
    Over {
        until: Duration,
    },
}

impl CohortStage {
    /// Time at which `Cohorts::tick` acts on the stage.
    pub(super) fn deadline(self) -> Option<Duration> {
        match self {
            Self::Collecting { until, settled, abandoned } => {
                let end = settled.unwrap_or(until);
                Some(abandoned.map_or(end, |abandoned| end.min(abandoned)))
            }
            Self::Over { until } => Some(until),
            Self::Judging => None,
        }
    }

    /// Whether it has its members and waits for clients to be seen leaving.
    pub(super) fn settles(self) -> bool {
        matches!(self, Self::Collecting { settled: Some(_), .. })
    }

    pub(super) fn is_collecting(self) -> bool {
        matches!(self, Self::Collecting { .. })
    }
}

#[derive(Debug)]
pub(super) struct Cohort<R, Q> {
    pub(super) key: CohortKey,
    /// Share of the client of the first member.
    pub(super) share: String,
    /// The question, until the group is handed over for judging.
    pub(super) question: Option<Q>,
    /// Size of the question.
    pub(super) question_bytes: usize,
    /// Hash of the question; `None` for a group of an earlier start.
    pub(super) question_hash: Option<u64>,
    pub(super) stage: CohortStage,
    pub(super) members: Vec<CohortMember<R>>,
}

impl<R, Q> Cohort<R, Q> {
    /// A cohort without a question, which is not collected yet.
    pub(super) fn new(
        key: CohortKey,
        question_hash: Option<u64>,
        members: Vec<CohortMember<R>>,
    ) -> Self {
        let stage = CohortStage::Judging;
        let share = String::new();
        Self { key, share, question: None, question_bytes: 0, question_hash, stage, members }
    }

    /// Size of the texts that wait for the group.
    pub(super) fn n_bytes(&self) -> usize {
        let question = self.question.as_ref().map_or(0, |_| self.question_bytes);
        question + self.members.iter().map(CohortMember::n_bytes).sum::<usize>()
    }
}
