//! Cohorts: groups whose completions arrive one request each. A pure state machine: no clock,
//! sockets or threads.
//!
//! A retry attaches to its member: it adds no member, and the group is not judged again. Which
//! completion is a retry is said in [`super::members`]. A group that is complete only because of
//! equal completions waits a moment before it is judged ([`CohortConfig::settle`]): by then the
//! server has seen which clients have gone.
//!
//! A request waits until its answer has gone to the client ([`Cohorts::deliver`]), or the client
//! has ([`Cohorts::leave`]): an answer that nobody got is kept for the retry.

mod again;
mod finding;
mod leaving;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::index::CohortIndex;
use super::members::{CohortMember, DigestedText, NewMember, RequestNumber, has_unsure_twins};
use super::memory::WaitingMemory;
use super::stage::{Cohort, CohortStage};
use super::terms::{
    CohortConfig, CohortEvent, CohortId, CohortKey, Incomplete, MemberAnswer, MemberName, Ticket,
};
use crate::problem::Problem;
use crate::share_counts::ShareCounts;

/// Position of a member: its group, and its index there.
type MemberPosition = (CohortId, usize);

/// All groups that are collected or judged, and those whose answers are kept for retries.
#[derive(Debug)]
pub(crate) struct Cohorts<R, Q = ()> {
    config: CohortConfig,
    cohorts: BTreeMap<CohortId, Cohort<R, Q>>,
    index: CohortIndex,
    /// Groups by the time at which their stage ends.
    deadlines: BTreeSet<(Duration, CohortId)>,
    /// Groups that are collected or judged.
    open: ShareCounts,
    /// The member that each request waits for.
    tickets: BTreeMap<Ticket, MemberPosition>,
    /// Memory of what waits.
    memory: WaitingMemory,
    n_cohorts: u64,
    n_tickets: u64,
}

impl<R: Clone, Q: Clone> Cohorts<R, Q> {
    /// Without any group.
    pub(crate) fn new(config: CohortConfig) -> Self {
        Self {
            config,
            cohorts: BTreeMap::new(),
            index: CohortIndex::default(),
            deadlines: BTreeSet::new(),
            open: ShareCounts::default(),
            tickets: BTreeMap::new(),
            memory: WaitingMemory::new(config.max_bytes),
            n_cohorts: 0,
            n_tickets: 0,
        }
    }

    /// Number of groups that are collected or judged.
    pub(crate) fn n_open(&self) -> usize {
        self.open.n()
    }

    #[cfg(test)]
    /// Number of groups in any stage.
    pub(crate) fn n_known(&self) -> usize {
        self.cohorts.len()
    }

    /// Takes a completion in; the question of a group's first completion is kept. The request waits
    /// under the ticket; its answer may be among the events. Every ticket ends with
    /// [`Cohorts::deliver`] or [`Cohorts::leave`].
    ///
    /// # Errors
    /// [`Problem`]; nothing has changed then.
    pub(crate) fn join(
        &mut self,
        now: Duration,
        new: NewMember<Q>,
    ) -> Result<(Ticket, Vec<CohortEvent<R, Q>>), Problem> {
        self.check_question(&new)?;
        let (request, held_bytes) = (new.request, new.held_bytes);
        let (is_new, (id, idx)) = match self.find_member(now, &new)? {
            Some((id, idx)) => {
                if self.cohorts[&id].members[idx].answer.is_none() {
                    self.memory.check(&self.cohorts[&id].share, held_bytes)?;
                }
                self.rename((id, idx), new.name);
                (false, (id, idx))
            }
            None => (true, self.add_member(now, new)?),
        };
        let ticket = self.wait_at((id, idx), request);
        self.want_again((id, idx));
        if let Some(answer) = self.cohorts[&id].members[idx].answer.clone() {
            return Ok((ticket, vec![CohortEvent::Answer(ticket, answer)]));
        }
        self.memory.hold(ticket, &self.cohorts[&id].share, held_bytes);
        self.watch_clients(now, id);
        if self.is_wanted_again(id) {
            return Ok((ticket, self.judge_again(now, id)));
        }
        // another member makes no other one sure: a group that settles is not searched for each
        let cohort = &self.cohorts[&id];
        if is_new && cohort.stage.settles() && idx >= self.config.group_size {
            return Ok((ticket, Vec::new()));
        }
        Ok((ticket, self.check_complete(now, id)))
    }

    /// Adds a request to those that wait for a member.
    fn wait_at(&mut self, (id, idx): MemberPosition, request: RequestNumber) -> Ticket {
        self.n_tickets += 1;
        let ticket = Ticket(self.n_tickets);
        self.cohort_mut(id).members[idx].wait(ticket, request);
        self.tickets.insert(ticket, (id, idx));
        ticket
    }

    fn cohort_mut(&mut self, id: CohortId) -> &mut Cohort<R, Q> {
        self.cohorts.get_mut(&id).expect("the group was just found. This is a bug.")
    }

    /// Changes the stage of a group, and with it its deadline.
    fn set_stage(&mut self, id: CohortId, stage: CohortStage) {
        let cohort = self.cohorts.get_mut(&id).expect("the group was just found. This is a bug.");
        let before = std::mem::replace(&mut cohort.stage, stage);
        self.index.set_collecting(&cohort.key, id, stage.is_collecting());
        if let Some(deadline) = before.deadline() {
            self.deadlines.remove(&(deadline, id));
        }
        self.deadlines.extend(stage.deadline().map(|deadline| (deadline, id)));
    }

    /// Adds a member to the group that is being collected, or begins one.
    fn add_member(&mut self, now: Duration, new: NewMember<Q>) -> Result<MemberPosition, Problem> {
        let found = self.index.collecting(&new.key).next();
        // a named group is judged once: a late member is refused at once and does not wait
        let is_known =
            matches!(new.key, CohortKey::Given { .. }) && self.index.ids(&new.key).next().is_some();
        if found.is_none() && is_known {
            return Err(Problem::GroupClosed);
        }
        if found.is_none() && !self.open.has_room(&new.share, 1, self.config.max_open) {
            return Err(Problem::TooManyCohorts);
        }
        let n_more = new.completion.n_bytes() + found.map_or(new.question_bytes, |_| 0);
        let share = found.map_or(&new.share, |id| &self.cohorts[&id].share);
        self.memory.check(share, n_more + new.held_bytes)?;
        self.memory.take(share, n_more);
        let member = CohortMember::new(new.name, new.completion);
        if let Some(id) = found {
            let members = &mut self.cohort_mut(id).members;
            members.push(member);
            return Ok((id, members.len() - 1));
        }
        let mut cohort = Cohort::new(new.key, Some(new.question_hash), vec![member]);
        cohort.share = new.share;
        cohort.question = Some(new.question);
        cohort.question_bytes = new.question_bytes;
        Ok((self.begin(now, cohort), 0))
    }

    /// Begins to collect a group.
    fn begin(&mut self, now: Duration, mut cohort: Cohort<R, Q>) -> CohortId {
        self.open.add(&cohort.share, 1);
        let until = now + self.config.collect;
        cohort.stage = CohortStage::Collecting { until, settled: None, abandoned: None };
        self.insert(cohort)
    }

    fn insert(&mut self, cohort: Cohort<R, Q>) -> CohortId {
        self.n_cohorts += 1;
        let id = CohortId(self.n_cohorts);
        self.deadlines.extend(cohort.stage.deadline().map(|deadline| (deadline, id)));
        self.index.add(&cohort.key, id);
        self.index.set_collecting(&cohort.key, id, cohort.stage.is_collecting());
        self.cohorts.insert(id, cohort);
        id
    }

    /// Has a group judged that has its members, or lets it settle if some of them may be retries.
    fn check_complete(&mut self, now: Duration, id: CohortId) -> Vec<CohortEvent<R, Q>> {
        let cohort = &self.cohorts[&id];
        let CohortStage::Collecting { until, settled, abandoned } = cohort.stage else {
            return Vec::new();
        };
        if cohort.members.len() < self.config.group_size {
            let settled = settled.filter(|_| until <= now);
            self.set_stage(id, CohortStage::Collecting { until, settled, abandoned });
            return Vec::new();
        }
        if !has_unsure_twins(&cohort.members) {
            return self.judge(now, id);
        }
        self.settle(now, id);
        Vec::new()
    }

    /// Lets a collected group wait until clients that have gone are seen leaving.
    fn settle(&mut self, now: Duration, id: CohortId) {
        if let CohortStage::Collecting { until, settled, abandoned } = self.cohorts[&id].stage {
            let settled = settled.or(Some(now + self.config.settle));
            self.set_stage(id, CohortStage::Collecting { until, settled, abandoned });
        }
    }

    /// Hands a collected group over for judging. Members beyond the group's size begin the next
    /// groups of the same key: each that is complete is handed over, too, unless some of these
    /// members may be retries. A group with a name has no next group.
    fn judge(&mut self, now: Duration, id: CohortId) -> Vec<CohortEvent<R, Q>> {
        let size = self.config.group_size;
        let cohort = self.cohort_mut(id);
        let beyond = cohort.members.split_off(size.min(cohort.members.len()));
        let question = cohort.question.clone();
        let is_given = matches!(cohort.key, CohortKey::Given { .. });
        let mut events = vec![self.hand_over(id)];
        // members without twins have none in a part of them either
        let are_sure = !is_given && !has_unsure_twins(&beyond);
        let mut beyond = beyond.into_iter();
        while are_sure && beyond.len() >= size {
            let members = beyond.by_ref().take(size).collect();
            let next = self.begin_next(now, id, members, question.clone());
            events.push(self.hand_over(next));
        }
        let rest: Vec<CohortMember<R>> = beyond.collect();
        if rest.is_empty() {
            return events;
        }
        let is_complete = rest.len() >= size;
        let next = self.begin_next(now, id, rest, question);
        match is_given {
            true => events.extend(self.forget_with(next, &Err(Problem::GroupClosed))),
            false if is_complete => self.settle(now, next),
            false => {}
        }
        events
    }

    /// Begins to collect the members beyond the size of a group that is judged.
    fn begin_next(
        &mut self,
        now: Duration,
        judged: CohortId,
        members: Vec<CohortMember<R>>,
        question: Option<Q>,
    ) -> CohortId {
        let cohort = &self.cohorts[&judged];
        let mut next = Cohort::new(cohort.key.clone(), cohort.question_hash, members);
        next.share = cohort.share.clone();
        next.question = question;
        next.question_bytes = cohort.question_bytes;
        self.memory.take(&next.share, next.question_bytes);
        let id = self.begin(now, next);
        self.index_tickets(id);
        self.watch_clients(now, id);
        id
    }

    /// The event by which a group is judged. Its members are sorted, so that their order does not
    /// depend on the order in which the requests arrived.
    fn hand_over(&mut self, id: CohortId) -> CohortEvent<R, Q> {
        self.set_stage(id, CohortStage::Judging);
        let cohort = self.cohort_mut(id);
        cohort.members.sort_by(|a, b| a.order().cmp(&b.order()));
        let n_bytes: usize = cohort.members.iter().map(CohortMember::n_bytes).sum();
        let members = cohort.members.iter_mut().map(CohortMember::take_text).collect();
        let question = cohort.question.take();
        let question = question.expect("the group is being collected. This is a bug.");
        let (key, share) = (cohort.key.clone(), cohort.share.clone());
        let n_bytes = n_bytes + cohort.question_bytes;
        self.memory.give_back(&share, n_bytes);
        self.index_tickets(id);
        self.mark_members(id);
        CohortEvent::Judge { cohort: id, key, question, members }
    }

    /// Records where the requests of a group's members wait, after the members have moved.
    fn index_tickets(&mut self, id: CohortId) {
        let members = self.cohorts[&id].members.iter().enumerate();
        let tickets = members
            .flat_map(|(idx, member)| member.tickets().map(move |ticket| (ticket, (id, idx))));
        self.tickets.extend(tickets);
    }

    /// Takes the answers of a judged group, one per member in the order of [`CohortEvent::Judge`].
    pub(crate) fn finish(
        &mut self,
        now: Duration,
        id: CohortId,
        answers: Vec<MemberAnswer<R>>,
    ) -> Vec<CohortEvent<R, Q>> {
        let until = now + self.config.keep;
        let is_judging = |cohort: &&mut Cohort<R, Q>| cohort.stage == CohortStage::Judging;
        let Some(cohort) = self.cohorts.get_mut(&id).filter(is_judging) else {
            return Vec::new();
        };
        let mut events = Vec::new();
        let members = cohort.members.iter_mut().zip(answers);
        // a member that has its result keeps it when the group is judged again
        for (member, answer) in members.filter(|(member, _)| member.answer.is_none()) {
            let answer_of = |ticket| CohortEvent::Answer(ticket, answer.clone());
            events.extend(member.tickets().map(answer_of));
            member.answer = Some(answer);
        }
        self.open.remove(&cohort.share, 1);
        self.set_stage(id, CohortStage::Over { until });
        events
    }

    /// Adds a group that an earlier start judged. Until `until`, a retry of one of its `members`
    /// gets the answer. The last field of a member tells whether a client got its result already;
    /// the others may have waited until now.
    pub(crate) fn restore(
        &mut self,
        until: Duration,
        key: &CohortKey,
        members: Vec<(Option<MemberName>, &str, MemberAnswer<R>, bool)>,
    ) -> CohortId {
        let member = |(name, completion, answer, is_delivered): (_, &str, _, _)| {
            let completion = DigestedText::new(completion.to_owned());
            CohortMember::judged(name, completion, answer, is_delivered)
        };
        let members = members.into_iter().map(member).collect();
        let mut cohort = Cohort::new(key.clone(), None, members);
        cohort.stage = CohortStage::Over { until };
        let id = self.insert(cohort);
        self.mark_members(id);
        id
    }

    /// Gives up a group that could not be judged. Its members get `problem`; a retry begins a new
    /// group.
    pub(crate) fn give_up(&mut self, id: CohortId, problem: Problem) -> Vec<CohortEvent<R, Q>> {
        self.forget_with(id, &Err(problem))
    }

    /// Number of groups that wait for members.
    pub(crate) fn n_collecting(&self) -> usize {
        self.index.n_collecting()
    }

    /// Ids of the groups that wait for members.
    pub(crate) fn collecting(&self) -> Vec<CohortId> {
        let found = self.cohorts.iter().filter(|(_, cohort)| cohort.stage.is_collecting());
        found.map(|(&id, _)| id).collect()
    }

    /// Ends every stage whose time is over at `now`.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<CohortEvent<R, Q>> {
        let mut events = Vec::new();
        while let Some(&(deadline, id)) = self.deadlines.first()
            && deadline <= now
        {
            let cohort = &self.cohorts[&id];
            let seen = cohort.members.len();
            if let CohortStage::Collecting { until, settled, abandoned } = cohort.stage {
                if abandoned.is_some_and(|end| end <= now) {
                    self.forget(id);
                    events.push(CohortEvent::Forgotten { n_members: seen });
                    continue;
                }
                let is_enough = seen >= self.config.group_size
                    || (until <= now && self.config.incomplete == Incomplete::Partial && seen > 1);
                if is_enough && (settled.is_some() || !has_unsure_twins(&cohort.members)) {
                    events.extend(self.judge(now, id));
                    continue;
                }
                if is_enough {
                    let settled = Some(now + self.config.settle);
                    self.set_stage(id, CohortStage::Collecting { until, settled, abandoned });
                    if self.config.settle.is_zero() {
                        events.extend(self.judge(now, id));
                    }
                    continue;
                }
            }
            let answer = match self.config.incomplete {
                Incomplete::Mask => Err(Problem::Masked),
                _ => {
                    let (wanted, within) = (self.config.group_size, self.config.collect);
                    Err(Problem::Incomplete { seen, wanted, within })
                }
            };
            // all requests of a group that is over are answered
            events.extend(self.forget_with(id, &answer));
        }
        events
    }

    /// Time at which [`Cohorts::tick`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    /// Drops a group and answers the requests that waited in it.
    fn forget_with(&mut self, id: CohortId, answer: &MemberAnswer<R>) -> Vec<CohortEvent<R, Q>> {
        let tickets = self.forget(id).into_iter();
        tickets.map(|ticket| CohortEvent::Answer(ticket, answer.clone())).collect()
    }

    /// Drops a group and returns the requests that waited in it for an answer.
    fn forget(&mut self, id: CohortId) -> Vec<Ticket> {
        let Some(cohort) = self.cohorts.remove(&id) else { return Vec::new() };
        if let Some(deadline) = cohort.stage.deadline() {
            self.deadlines.remove(&(deadline, id));
        }
        self.memory.give_back(&cohort.share, cohort.n_bytes());
        if !matches!(cohort.stage, CohortStage::Over { .. }) {
            self.open.remove(&cohort.share, 1);
        }
        let marks = cohort.members.iter().flat_map(CohortMember::marks);
        self.index.remove(&cohort.key, id, marks);
        let mut unanswered = Vec::new();
        for member in &cohort.members {
            for ticket in member.tickets() {
                self.tickets.remove(&ticket);
                unanswered.extend(member.answer.is_none().then_some(ticket));
            }
        }
        unanswered
    }
}

#[cfg(test)]
mod tests;
