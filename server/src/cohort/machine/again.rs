//! Groups that are judged again, because the judge failed at all votes of some members: a retry of
//! such a member has its group judged once more, with the texts that are kept for it. The other
//! members keep their answers.

use std::time::Duration;

use super::{Cohorts, MemberPosition};
use crate::cohort::stage::{Cohort, CohortStage};
use crate::cohort::terms::{CohortEvent, CohortId, MemberAnswer};

impl<R: Clone, Q: Clone> Cohorts<R, Q> {
    /// As [`Cohorts::finish`], for a group of which some members are without an answer of the
    /// judge. `question` and `texts`, one per member, are kept for another judging.
    pub(crate) fn finish_in_part(
        &mut self,
        now: Duration,
        id: CohortId,
        answers: Vec<MemberAnswer<R>>,
        (question, texts): (Q, Vec<String>),
    ) -> Vec<CohortEvent<R, Q>> {
        if self.cohorts.get(&id).is_none_or(|cohort| cohort.stage != CohortStage::Judging) {
            return Vec::new();
        }
        let events = self.finish(now, id, answers);
        let question_bytes = self.cohorts[&id].question_bytes;
        self.keep_texts(id, (question, question_bytes), texts);
        events
    }

    /// Keeps question and texts of a judged group for another judging, with the memory for them.
    pub(crate) fn keep_texts(
        &mut self,
        id: CohortId,
        (question, question_bytes): (Q, usize),
        texts: Vec<String>,
    ) {
        let cohort = self.cohort_mut(id);
        for (member, text) in cohort.members.iter_mut().zip(texts) {
            member.put_text(text);
        }
        (cohort.question, cohort.question_bytes) = (Some(question), question_bytes);
        let (share, n_bytes) = (cohort.share.clone(), cohort.n_bytes());
        self.memory.take(&share, n_bytes);
    }

    /// Whether a member of a group that is judged has its result from an earlier judging.
    pub(crate) fn has_answers(&self, id: CohortId) -> bool {
        let has_answer =
            |cohort: &Cohort<R, Q>| cohort.members.iter().any(|member| member.answer.is_some());
        self.cohorts.get(&id).is_some_and(has_answer)
    }

    /// Takes the failure from a member whose retry came, if its group can be judged again.
    pub(super) fn want_again(&mut self, (id, idx): MemberPosition) {
        let cohort = self.cohort_mut(id);
        let is_over = matches!(cohort.stage, CohortStage::Over { .. });
        if is_over && cohort.question.is_some() && cohort.members[idx].is_lost() {
            cohort.members[idx].answer = None;
        }
    }

    /// Whether a member of a group that is over waits for an answer.
    pub(super) fn is_wanted_again(&self, id: CohortId) -> bool {
        let cohort = &self.cohorts[&id];
        let is_over = matches!(cohort.stage, CohortStage::Over { .. });
        is_over && cohort.members.iter().any(|member| member.answer.is_none())
    }

    /// Has a group judged again, for all members without an answer of the judge.
    pub(super) fn judge_again(&mut self, now: Duration, id: CohortId) -> Vec<CohortEvent<R, Q>> {
        let cohort = self.cohort_mut(id);
        for member in cohort.members.iter_mut().filter(|member| member.is_lost()) {
            member.answer = None;
        }
        let share = cohort.share.clone();
        self.open.add(&share, 1);
        self.judge(now, id)
    }
}
