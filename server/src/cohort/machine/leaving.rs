//! How requests end: their answer has gone to the client, or the client has.
//!
//! A client's retry may come before its end is seen. In a group that is collected the retry is then
//! a second member, and the first one goes once the end is seen. While a group is judged the retry
//! begins another group; once the end is seen it is brought back from there.

use std::time::Duration;

use super::{Cohorts, MemberPosition};
use crate::cohort::members::{CohortMember, is_counted_twice};
use crate::cohort::stage::CohortStage;
use crate::cohort::terms::{CohortEvent, CohortId, Ticket};

impl<R: Clone, Q: Clone> Cohorts<R, Q> {
    /// Removes a request whose client got the answer.
    pub(crate) fn deliver(&mut self, now: Duration, ticket: Ticket) {
        self.memory.release(ticket);
        if let Some((id, idx)) = self.tickets.remove(&ticket) {
            self.cohort_mut(id).members[idx].deliver(now, ticket);
            self.mark_member((id, idx));
        }
    }

    /// Removes a request whose client has gone. Its member stays, because the client may retry;
    /// unless its retry is a member already.
    pub(crate) fn leave(&mut self, now: Duration, ticket: Ticket) -> Vec<CohortEvent<R, Q>> {
        self.memory.release(ticket);
        let Some((id, idx)) = self.tickets.remove(&ticket) else { return Vec::new() };
        let cohort = self.cohort_mut(id);
        cohort.members[idx].leave(now, ticket);
        if !cohort.stage.is_collecting() {
            self.mark_member((id, idx));
            return self.bring_back(now, (id, idx));
        }
        if is_counted_twice(&cohort.members, idx) {
            return self.remove_member(now, (id, idx));
        }
        self.watch_clients(now, id);
        Vec::new()
    }

    /// Brings the retry of a member of a judged group back from the group that it began or joined.
    fn bring_back(&mut self, now: Duration, (id, idx): MemberPosition) -> Vec<CohortEvent<R, Q>> {
        let cohort = &self.cohorts[&id];
        let retried = &cohort.members[idx];
        let retry = self.index.collecting(&cohort.key).find_map(|other| {
            let copies = &self.cohorts[&other].members;
            let at = copies.iter().position(|copy| retried.may_be_retried_by(copy))?;
            Some((other, at))
        });
        let Some((from, at)) = retry else { return Vec::new() };
        let (name, requests) = self.cohort_mut(from).members[at].take_requests();
        self.rename((id, idx), name);
        let member = &mut self.cohort_mut(id).members[idx];
        let answer = member.answer.clone();
        let mut events = Vec::new();
        for (ticket, request) in requests {
            member.wait(ticket, request);
            let answer = answer.clone();
            events.extend(answer.map(|answer| CohortEvent::Answer(ticket, answer)));
        }
        self.index_tickets(id);
        events.extend(self.remove_member(now, (from, at)));
        events
    }

    /// Removes a member that is counted elsewhere, and with the last one the group.
    fn remove_member(
        &mut self,
        now: Duration,
        (id, idx): MemberPosition,
    ) -> Vec<CohortEvent<R, Q>> {
        let cohort = self.cohort_mut(id);
        let gone = cohort.members.remove(idx);
        let (is_empty, share) = (cohort.members.is_empty(), cohort.share.clone());
        self.memory.give_back(&share, gone.n_bytes());
        if is_empty {
            self.forget(id);
            return Vec::new();
        }
        self.index_tickets(id);
        self.watch_clients(now, id);
        self.check_complete(now, id)
    }

    /// Begins or ends the time after which a group is forgotten in which no request waits.
    pub(super) fn watch_clients(&mut self, now: Duration, id: CohortId) {
        let cohort = &self.cohorts[&id];
        let CohortStage::Collecting { until, settled, abandoned: before } = cohort.stage else {
            return;
        };
        let is_waited_for = cohort.members.iter().any(CohortMember::is_waited_for);
        let end = before.unwrap_or(now + self.config.retry);
        let abandoned = (!is_waited_for).then_some(end);
        if abandoned != before {
            self.set_stage(id, CohortStage::Collecting { until, settled, abandoned });
        }
    }
}
