//! How the member is found that a completion is a retry of, also among many groups of one prompt:
//! the work grows with the groups that may have it, not with all that are known.

use std::time::Duration;

use super::{Cohorts, MemberPosition};
use crate::cohort::members::{
    DigestedText, MemberMark, Membership, NewMember, RetryRules, TextMatch,
};
use crate::cohort::members::{marks_of, place};
use crate::cohort::stage::CohortStage;
use crate::cohort::terms::{CohortId, CohortKey, MemberName};
use crate::problem::Problem;

impl<R: Clone, Q: Clone> Cohorts<R, Q> {
    /// Refuses a completion whose group has another question. The key of a group without a name
    /// is made from the question.
    ///
    /// # Errors
    /// [`Problem::QuestionDiffers`]
    pub(super) fn check_question(&self, new: &NewMember<Q>) -> Result<(), Problem> {
        let hash = new.question_hash;
        let differs =
            |id: CohortId| self.cohorts[&id].question_hash.is_some_and(|other| other != hash);
        let is_other = match new.key {
            CohortKey::Given { .. } => self.index.ids(&new.key).any(differs),
            CohortKey::Content(_) => self.index.collecting(&new.key).any(differs),
        };
        if is_other { Err(Problem::QuestionDiffers) } else { Ok(()) }
    }

    /// The member that this completion is a retry of, newest first: a retry belongs to the last
    /// attempt.
    ///
    /// # Errors
    /// [`Problem::MemberDiffers`]
    pub(super) fn find_member(
        &mut self,
        now: Duration,
        new: &NewMember<Q>,
    ) -> Result<Option<MemberPosition>, Problem> {
        let key = &new.key;
        let whole: Vec<CohortId> = match key {
            // few: one attempt at a named group has one group
            CohortKey::Given { .. } => self.index.ids(key).rev().collect(),
            CohortKey::Content(_) => self.index.collecting(key).rev().collect(),
        };
        for id in whole {
            if let Membership::Retry(idx) = self.place_in(id, self.rules(now, id, new), new)? {
                return Ok(Some((id, idx)));
            }
        }
        let marks = marks_of(new.name.as_ref(), &new.completion);
        let mut before = None;
        while let Some(id) = self.index.newest_marked(key, &marks, before) {
            before = Some(id);
            let rules = self.rules(now, id, new);
            if let Membership::Retry(idx) = self.place_in(id, rules, new)? {
                return Ok(Some((id, idx)));
            }
            self.forget_old_marks(id, &marks, rules);
        }
        Ok(None)
    }

    /// Whether a group of this key is collected, or a member of a judged one has this text and no
    /// client.
    pub(crate) fn is_awaited(&self, key: &CohortKey, completion: &DigestedText) -> bool {
        let marks = marks_of(None, completion);
        let is_collected = self.index.collecting(key).next().is_some();
        is_collected || self.index.newest_marked(key, &marks, None).is_some()
    }

    fn place_in(
        &self,
        id: CohortId,
        rules: RetryRules,
        new: &NewMember<Q>,
    ) -> Result<Membership, Problem> {
        place(&self.cohorts[&id].members, new.name.as_ref(), &new.completion, rules)
    }

    /// How a retry is recognised among the members of a group.
    fn rules(&self, now: Duration, id: CohortId, new: &NewMember<Q>) -> RetryRules {
        let NewMember { key, name, .. } = new;
        let stage = &self.cohorts[&id].stage;
        // an index alone does not tell which group of the same prompt is meant
        let may_be_new = matches!((key, name), (CohortKey::Content(_), Some(MemberName::Index(_))));
        let by_text = match key {
            _ if stage.is_collecting() => TextMatch::Vacant,
            // a named group is judged once: an equal text can only be a retry
            CohortKey::Given { .. } => TextMatch::Any,
            CohortKey::Content(_) => TextMatch::RecentlyVacant,
        };
        // an index that comes again while its group is judged is one of the next group
        let is_over = match stage {
            CohortStage::Over { .. } => true,
            CohortStage::Judging => may_be_new,
            CohortStage::Collecting { .. } => false,
        };
        RetryRules { is_over, may_be_new, by_text, since: now.saturating_sub(self.config.retry) }
    }

    /// Takes the marks from a group that none of its members has any more.
    fn forget_old_marks(&mut self, id: CohortId, marks: &[MemberMark], rules: RetryRules) {
        let cohort = &self.cohorts[&id];
        for mark in marks {
            if !cohort.members.iter().any(|member| member.has_mark(mark, rules)) {
                self.index.unmark(&cohort.key, id, mark);
            }
        }
    }

    /// Marks the members of a group that is not collected any more.
    pub(super) fn mark_members(&mut self, id: CohortId) {
        let n = self.cohorts[&id].members.len();
        (0..n).for_each(|idx| self.mark_member((id, idx)));
    }

    /// Marks a member whose name or clients have changed. Named groups and those that are collected
    /// are searched without marks.
    pub(super) fn mark_member(&mut self, (id, idx): MemberPosition) {
        let cohort = &self.cohorts[&id];
        if matches!(cohort.key, CohortKey::Content(_)) && !cohort.stage.is_collecting() {
            for mark in cohort.members[idx].marks() {
                self.index.mark(&cohort.key, id, mark);
            }
        }
    }

    /// A request of this name, the newest, takes a member over.
    pub(super) fn rename(&mut self, (id, idx): MemberPosition, name: Option<MemberName>) {
        let cohort = self.cohorts.get_mut(&id).expect("the group was just found. This is a bug.");
        for mark in cohort.members[idx].marks() {
            self.index.unmark(&cohort.key, id, &mark);
        }
        cohort.members[idx].take_over(name);
        self.mark_member((id, idx));
    }
}
