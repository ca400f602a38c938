//! Cohorts: groups whose completions arrive one request each. A pure state machine: no clock,
//! sockets or threads.
//!
//! A retry attaches to its member: it adds no member, and the group is not judged again. A member
//! with a name (its index in the group, or the client's request id) is found by that name. A member
//! without a name is found by its text: if the request of the member with that text still waits,
//! the new request is another member with the same text; if its client has disconnected, the new
//! request is a retry.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

use super::terms::{
    CohortConfig, CohortEvent, CohortId, CohortKey, Incomplete, MemberAnswer, MemberName, Ticket,
};
use crate::problem::Problem;

#[derive(Debug)]
struct CohortMember<R> {
    name: Option<MemberName>,
    /// The completion; empty once the group is being judged.
    completion: String,
    /// Hash of the completion, to recognise a retry.
    digest: Digest,
    waiting: Vec<Ticket>,
    answer: Option<MemberAnswer<R>>,
    /// Whether a request got the answer.
    is_delivered: bool,
}

/// Hash of a completion.
type Digest = [u8; 16];

/// A hash that is stable within this process.
fn hash_of(question: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    question.hash(&mut hasher);
    hasher.finish()
}

fn digest(completion: &str) -> Digest {
    let hash = blake3::hash(completion.as_bytes());
    hash.as_bytes()[..16].try_into().expect("a hash has 32 bytes. This is a bug.")
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum CohortStage {
    /// Waits for members.
    Collecting {
        until: Duration,
    },
    Judging,
    /// Has its answers, which are kept for retries.
    Over {
        until: Duration,
    },
}

impl CohortStage {
    /// Time at which [`Cohorts::tick`] ends the stage.
    fn until(self) -> Option<Duration> {
        match self {
            Self::Collecting { until } | Self::Over { until } => Some(until),
            Self::Judging => None,
        }
    }
}

#[derive(Debug)]
struct Cohort<R, Q> {
    key: CohortKey,
    /// The question, until the group is handed over for judging.
    question: Option<Q>,
    /// Hash of the question; `None` for a group of an earlier start.
    question_hash: Option<u64>,
    stage: CohortStage,
    members: Vec<CohortMember<R>>,
}

/// Position of a member: its group, and its index there.
type MemberPosition = (CohortId, usize);

/// All groups that are collected or judged, and those whose answers are kept for retries.
#[derive(Debug)]
pub(crate) struct Cohorts<R, Q = ()> {
    config: CohortConfig,
    cohorts: BTreeMap<CohortId, Cohort<R, Q>>,
    by_key: BTreeMap<CohortKey, Vec<CohortId>>,
    /// Groups by the time at which their stage ends.
    deadlines: BTreeSet<(Duration, CohortId)>,
    /// Number of groups that are collected or judged.
    n_open: usize,
    /// The member that each request waits for.
    tickets: BTreeMap<Ticket, MemberPosition>,
    n_cohorts: u64,
    n_tickets: u64,
}

impl<R: Clone, Q: Hash> Cohorts<R, Q> {
    /// Without any group.
    pub(crate) fn new(config: CohortConfig) -> Self {
        Self {
            config,
            cohorts: BTreeMap::new(),
            by_key: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            n_open: 0,
            tickets: BTreeMap::new(),
            n_cohorts: 0,
            n_tickets: 0,
        }
    }

    /// Number of groups that are collected or judged.
    pub(crate) fn n_open(&self) -> usize {
        self.n_open
    }

    #[cfg(test)]
    /// Number of groups in any stage.
    pub(crate) fn n_known(&self) -> usize {
        self.cohorts.len()
    }

    /// Takes a completion in; the `question` of a group's first completion is kept. The request
    /// waits under the ticket; its answer may be among the events.
    ///
    /// # Errors
    /// [`Problem`]; nothing has changed then.
    pub(crate) fn join(
        &mut self,
        now: Duration,
        key: &CohortKey,
        name: Option<MemberName>,
        completion: &str,
        question: Q,
    ) -> Result<(Ticket, Vec<CohortEvent<R, Q>>), Problem> {
        let (digest, hash) = (digest(completion), hash_of(&question));
        let differs = |id| self.cohorts[id].question_hash.is_some_and(|other| other != hash);
        if self.ids_of(key).iter().any(differs) {
            return Err(Problem::QuestionDiffers);
        }
        let position = match self.find_member(key, name.as_ref(), digest)? {
            Some(position) => position,
            None => {
                let completion = completion.to_owned();
                let member = CohortMember {
                    name,
                    completion,
                    digest,
                    waiting: Vec::new(),
                    answer: None,
                    is_delivered: false,
                };
                self.add_member(now, key, member, question)?
            }
        };
        Ok(self.wait_at(position))
    }

    /// Adds a request to those that wait for a member.
    fn wait_at(&mut self, (id, idx): MemberPosition) -> (Ticket, Vec<CohortEvent<R, Q>>) {
        self.n_tickets += 1;
        let ticket = Ticket(self.n_tickets);
        let cohort = self.cohorts.get_mut(&id).expect("the group was just found. This is a bug.");
        let member = &mut cohort.members[idx];
        if let Some(answer) = &member.answer {
            member.is_delivered = true;
            return (ticket, vec![CohortEvent::Answer(ticket, answer.clone())]);
        }
        member.waiting.push(ticket);
        self.tickets.insert(ticket, (id, idx));
        let is_complete = cohort.members.len() == self.config.group_size;
        let is_collecting = matches!(cohort.stage, CohortStage::Collecting { .. });
        let events = if is_complete && is_collecting { vec![self.judge(id)] } else { vec![] };
        (ticket, events)
    }

    /// The groups of a key, oldest first.
    fn ids_of(&self, key: &CohortKey) -> &[CohortId] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }

    /// The member that this completion is a retry of.
    fn find_member(
        &self,
        key: &CohortKey,
        name: Option<&MemberName>,
        digest: Digest,
    ) -> Result<Option<MemberPosition>, Problem> {
        // an index alone does not tell which group of the same prompt is meant
        let may_be_new = matches!((key, name), (CohortKey::Content(_), Some(MemberName::Index(_))));
        // newest first: a retry belongs to the last attempt
        for &id in self.ids_of(key).iter().rev() {
            let cohort = &self.cohorts[&id];
            let is_over = matches!(cohort.stage, CohortStage::Over { .. });
            let found = match name {
                Some(name) => {
                    let by_name = |member: &CohortMember<R>| member.name.as_ref() == Some(name);
                    cohort.members.iter().position(by_name)
                }
                None => cohort.members.iter().position(|member| {
                    member.name.is_none()
                        && member.digest == digest
                        && member.waiting.is_empty()
                        && !member.is_delivered
                }),
            };
            match found {
                Some(idx) if may_be_new && cohort.members[idx].is_delivered => {}
                Some(idx) if cohort.members[idx].digest == digest => return Ok(Some((id, idx))),
                // a client has the group judged again under the same name, with new completions
                Some(_) if is_over => {}
                Some(_) => return Err(Problem::MemberDiffers),
                None => {}
            }
        }
        Ok(None)
    }

    /// Adds a member to the group that is being collected, or begins one.
    fn add_member(
        &mut self,
        now: Duration,
        key: &CohortKey,
        member: CohortMember<R>,
        question: Q,
    ) -> Result<MemberPosition, Problem> {
        let is_collecting =
            |id: &&CohortId| matches!(self.cohorts[*id].stage, CohortStage::Collecting { .. });
        if let Some(&id) = self.ids_of(key).iter().find(is_collecting) {
            let cohort = self.cohorts.get_mut(&id).expect("the key's group exists. This is a bug.");
            cohort.members.push(member);
            return Ok((id, cohort.members.len() - 1));
        }
        // a named group is judged once: a late member is refused at once and does not wait
        if matches!(key, CohortKey::Given { .. }) && !self.ids_of(key).is_empty() {
            return Err(Problem::GroupClosed);
        }
        if self.n_open() >= self.config.max_open {
            return Err(Problem::TooManyCohorts);
        }
        let stage = CohortStage::Collecting { until: now + self.config.collect };
        self.n_open += 1;
        let question_hash = Some(hash_of(&question));
        let (key, question, members) = (key.clone(), Some(question), vec![member]);
        Ok((self.insert(Cohort { key, question, question_hash, stage, members }), 0))
    }

    fn insert(&mut self, cohort: Cohort<R, Q>) -> CohortId {
        self.n_cohorts += 1;
        let id = CohortId(self.n_cohorts);
        self.deadlines.extend(cohort.stage.until().map(|until| (until, id)));
        self.by_key.entry(cohort.key.clone()).or_default().push(id);
        self.cohorts.insert(id, cohort);
        id
    }

    /// Hands a collected group over for judging. Its members are sorted, so that their order does
    /// not depend on the order in which the requests arrived.
    fn judge(&mut self, id: CohortId) -> CohortEvent<R, Q> {
        const IS_COLLECTED: &str = "the group is being collected. This is a bug.";
        let cohort = self.cohorts.get_mut(&id).expect(IS_COLLECTED);
        let question = cohort.question.take().expect(IS_COLLECTED);
        if let Some(until) = cohort.stage.until() {
            self.deadlines.remove(&(until, id));
        }
        cohort.stage = CohortStage::Judging;
        cohort.members.sort_by(|a, b| (&a.name, &a.completion).cmp(&(&b.name, &b.completion)));
        for (idx, member) in cohort.members.iter().enumerate() {
            self.tickets.extend(member.waiting.iter().map(|&ticket| (ticket, (id, idx))));
        }
        let take_text = |member: &mut CohortMember<R>| {
            (member.name.clone(), std::mem::take(&mut member.completion))
        };
        let members = cohort.members.iter_mut().map(take_text).collect();
        CohortEvent::Judge { cohort: id, key: cohort.key.clone(), question, members }
    }

    /// Removes a request whose client has disconnected. Its member stays, because the client may
    /// retry.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        if let Some((id, idx)) = self.tickets.remove(&ticket)
            && let Some(cohort) = self.cohorts.get_mut(&id)
        {
            cohort.members[idx].waiting.retain(|waiting| *waiting != ticket);
        }
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
        cohort.stage = CohortStage::Over { until };
        self.deadlines.insert((until, id));
        self.n_open -= 1;
        let mut events = Vec::new();
        for (member, answer) in cohort.members.iter_mut().zip(answers) {
            for ticket in std::mem::take(&mut member.waiting) {
                self.tickets.remove(&ticket);
                member.is_delivered = true;
                events.push(CohortEvent::Answer(ticket, answer.clone()));
            }
            member.answer = Some(answer);
        }
        events
    }

    /// Adds a group that an earlier start judged. Until `until`, a retry of one of its `members`
    /// gets the answer. The last field of a member tells whether a request got the answer already.
    pub(crate) fn restore(
        &mut self,
        until: Duration,
        key: &CohortKey,
        members: Vec<(Option<MemberName>, &str, MemberAnswer<R>, bool)>,
    ) {
        let member = |(name, completion, answer, is_delivered)| CohortMember {
            name,
            completion: String::new(),
            digest: digest(completion),
            waiting: Vec::new(),
            answer: Some(answer),
            is_delivered,
        };
        let members = members.into_iter().map(member).collect();
        let (key, stage) = (key.clone(), CohortStage::Over { until });
        self.insert(Cohort { key, question: None, question_hash: None, stage, members });
    }

    /// Gives up a group that could not be judged. Its members get `problem`; a retry begins a new
    /// group.
    pub(crate) fn give_up(&mut self, id: CohortId, problem: Problem) -> Vec<CohortEvent<R, Q>> {
        self.forget_with(id, &Err(problem))
    }

    /// Number of groups that wait for members.
    pub(crate) fn n_collecting(&self) -> usize {
        let is_collecting = |stage| matches!(stage, CohortStage::Collecting { .. });
        self.cohorts.values().filter(|cohort| is_collecting(cohort.stage)).count()
    }

    /// Ids of the groups that wait for members.
    pub(crate) fn collecting(&self) -> Vec<CohortId> {
        let is_collecting = |stage| matches!(stage, CohortStage::Collecting { .. });
        let found = self.cohorts.iter().filter(|(_, cohort)| is_collecting(cohort.stage));
        found.map(|(&id, _)| id).collect()
    }

    /// Ends every stage whose time is over at `now`.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<CohortEvent<R, Q>> {
        let mut events = Vec::new();
        while let Some(&(until, id)) = self.deadlines.first()
            && until <= now
        {
            let cohort = &self.cohorts[&id];
            let seen = cohort.members.len();
            let is_collecting = matches!(cohort.stage, CohortStage::Collecting { .. });
            if is_collecting && self.config.incomplete == Incomplete::Partial && seen > 1 {
                events.push(self.judge(id));
                continue;
            }
            let answer = match self.config.incomplete {
                Incomplete::Mask => Err(Problem::Masked),
                _ => {
                    let (wanted, within) = (self.config.group_size, self.config.collect);
                    Err(Problem::Incomplete { seen, wanted, within })
                }
            };
            // no request waits in a group that is over
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

    /// Drops a group and returns the requests that waited in it.
    fn forget(&mut self, id: CohortId) -> Vec<Ticket> {
        let Some(cohort) = self.cohorts.remove(&id) else { return Vec::new() };
        if let Some(until) = cohort.stage.until() {
            self.deadlines.remove(&(until, id));
        }
        if !matches!(cohort.stage, CohortStage::Over { .. }) {
            self.n_open -= 1;
        }
        if let Some(ids) = self.by_key.get_mut(&cohort.key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_key.remove(&cohort.key);
            }
        }
        let tickets: Vec<Ticket> =
            cohort.members.into_iter().flat_map(|member| member.waiting).collect();
        for ticket in &tickets {
            self.tickets.remove(ticket);
        }
        tickets
    }
}

#[cfg(test)]
mod tests;
