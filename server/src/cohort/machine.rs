//! Cohorts: groups whose completions arrive one request each. A pure state machine: no clock,
//! sockets or threads.
//!
//! A retry attaches to its member: it adds none and has nothing judged a second time. A member with
//! a name (its place in the group, or the client's request id) is found by that name. A member
//! without a name is found by its text: if the request of the member with that text still waits,
//! the new request is another member with the same text; if its client has gone, the new request is
//! a retry.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

use super::terms::{
    CohortConfig, CohortEvent, CohortId, CohortKey, Incomplete, MemberAnswer, MemberName, Ticket,
};
use crate::problem::Problem;

#[derive(Debug)]
struct Member<R> {
    name: Option<MemberName>,
    /// What it says, until its group is handed over.
    completion: String,
    /// Knows it again.
    digest: Digest,
    waiting: Vec<Ticket>,
    answer: Option<MemberAnswer<R>>,
    /// Whether somebody has got the answer.
    is_delivered: bool,
}

/// A hash of what a member says.
type Digest = [u8; 16];

/// Tells groups apart within this process.
fn hash_of(about: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    about.hash(&mut hasher);
    hasher.finish()
}

fn digest(completion: &str) -> Digest {
    let hash = blake3::hash(completion.as_bytes());
    hash.as_bytes()[..16].try_into().expect("a hash has 32 bytes. This is a bug.")
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Collecting { until: Duration },
    Judging,
    Over { until: Duration },
}

impl State {
    /// When it ends by itself.
    fn until(self) -> Option<Duration> {
        match self {
            Self::Collecting { until } | Self::Over { until } => Some(until),
            Self::Judging => None,
        }
    }
}

#[derive(Debug)]
struct Cohort<R, A> {
    key: CohortKey,
    /// None once it has been handed over.
    about: Option<A>,
    /// A hash of what it is about; none where it is from before this start.
    asked: Option<u64>,
    state: State,
    members: Vec<Member<R>>,
}

/// All groups that are on their way, and those that are over and may be asked for again.
#[derive(Debug)]
pub(crate) struct Cohorts<R, A = ()> {
    config: CohortConfig,
    cohorts: BTreeMap<CohortId, Cohort<R, A>>,
    by_key: BTreeMap<CohortKey, Vec<CohortId>>,
    /// Groups by when they end by themselves.
    deadlines: BTreeSet<(Duration, CohortId)>,
    /// Groups that are collected or judged.
    n_open: usize,
    /// Where each request waits.
    tickets: BTreeMap<Ticket, (CohortId, usize)>,
    n_cohorts: u64,
    n_tickets: u64,
}

impl<R: Clone, A: Hash> Cohorts<R, A> {
    /// No groups.
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

    /// Groups that are collected or judged.
    pub(crate) fn n_open(&self) -> usize {
        self.n_open
    }

    #[cfg(test)]
    /// Groups that are known, those that are over included.
    pub(crate) fn n_known(&self) -> usize {
        self.cohorts.len()
    }

    /// Takes a completion in; `about` counts where it begins a group. The request waits under the
    /// ticket; its answer may be among the events.
    ///
    /// # Errors
    /// [`Problem`]; nothing has changed then.
    pub(crate) fn join(
        &mut self,
        now: Duration,
        key: &CohortKey,
        name: Option<MemberName>,
        completion: &str,
        about: A,
    ) -> Result<(Ticket, Vec<CohortEvent<R, A>>), Problem> {
        let (digest, asked) = (digest(completion), hash_of(&about));
        let known = self.by_key.get(key).map_or(&[][..], Vec::as_slice);
        let differs = |id| self.cohorts[id].asked.is_some_and(|other| other != asked);
        if known.iter().any(differs) {
            return Err(Problem::QuestionDiffers);
        }
        let place = match self.find(key, name.as_ref(), digest)? {
            Some(place) => place,
            None => {
                let completion = completion.to_owned();
                let member = Member {
                    name,
                    completion,
                    digest,
                    waiting: Vec::new(),
                    answer: None,
                    is_delivered: false,
                };
                self.add(now, key, member, about)?
            }
        };
        self.n_tickets += 1;
        let ticket = Ticket(self.n_tickets);
        let cohort = self.cohorts.get_mut(&place.0).expect("it was just found. This is a bug.");
        let member = &mut cohort.members[place.1];
        if let Some(answer) = &member.answer {
            member.is_delivered = true;
            return Ok((ticket, vec![CohortEvent::Answer(ticket, answer.clone())]));
        }
        member.waiting.push(ticket);
        self.tickets.insert(ticket, place);
        let is_complete = cohort.members.len() == self.config.group_size;
        let is_collecting = matches!(cohort.state, State::Collecting { .. });
        let events = if is_complete && is_collecting { vec![self.judge(place.0)] } else { vec![] };
        Ok((ticket, events))
    }

    /// The member that this completion is a retry of.
    fn find(
        &self,
        key: &CohortKey,
        name: Option<&MemberName>,
        digest: Digest,
    ) -> Result<Option<(CohortId, usize)>, Problem> {
        let known = self.by_key.get(key).map_or(&[][..], Vec::as_slice);
        // the newest first: a retry belongs to the last attempt
        for &id in known.iter().rev() {
            let cohort = &self.cohorts[&id];
            let is_over = matches!(cohort.state, State::Over { .. });
            let found = match name {
                Some(name) => {
                    let by_name = |member: &Member<R>| member.name.as_ref() == Some(name);
                    cohort.members.iter().position(by_name)
                }
                None => cohort.members.iter().position(|member| {
                    member.name.is_none()
                        && member.digest == digest
                        && member.waiting.is_empty()
                        && !member.is_delivered
                }),
            };
            // a place says nothing of which of the prompt's groups it is in, where that has no name
            let may_be_new =
                matches!((key, name), (CohortKey::Content(_), Some(MemberName::Place(_))));
            match found {
                Some(at) if may_be_new && cohort.members[at].is_delivered => {}
                Some(at) if cohort.members[at].digest == digest => {
                    return Ok(Some((id, at)));
                }
                // the same place in a group that a client has judged once more without saying so
                Some(_) if is_over => {}
                Some(_) => return Err(Problem::MemberDiffers),
                None => {}
            }
        }
        Ok(None)
    }

    /// Adds a member to the group that is being collected, or begins one.
    fn add(
        &mut self,
        now: Duration,
        key: &CohortKey,
        member: Member<R>,
        about: A,
    ) -> Result<(CohortId, usize), Problem> {
        let known = self.by_key.get(key).map_or(&[][..], Vec::as_slice);
        let is_collecting =
            |id: &&CohortId| matches!(self.cohorts[*id].state, State::Collecting { .. });
        if let Some(&id) = known.iter().find(is_collecting) {
            let cohort = self.cohorts.get_mut(&id).expect("it is in the index. This is a bug.");
            cohort.members.push(member);
            return Ok((id, cohort.members.len() - 1));
        }
        // a group with a name is judged once; what comes after is told so, not kept waiting
        if matches!(key, CohortKey::Given { .. }) && !known.is_empty() {
            return Err(Problem::GroupClosed);
        }
        if self.n_open() >= self.config.max_open {
            return Err(Problem::TooManyCohorts);
        }
        let state = State::Collecting { until: now + self.config.collect };
        self.n_open += 1;
        let asked = Some(hash_of(&about));
        let (key, about, members) = (key.clone(), Some(about), vec![member]);
        Ok((self.insert(Cohort { key, about, asked, state, members }), 0))
    }

    fn insert(&mut self, cohort: Cohort<R, A>) -> CohortId {
        self.n_cohorts += 1;
        let id = CohortId(self.n_cohorts);
        self.deadlines.extend(cohort.state.until().map(|until| (until, id)));
        self.by_key.entry(cohort.key.clone()).or_default().push(id);
        self.cohorts.insert(id, cohort);
        id
    }

    /// Hands a group over that is being collected. Its members get their order: one that is judged
    /// anew is the same group then, however they came.
    fn judge(&mut self, id: CohortId) -> CohortEvent<R, A> {
        const KNOWN: &str = "a group that is collected is known. This is a bug.";
        let cohort = self.cohorts.get_mut(&id).expect(KNOWN);
        let about = cohort.about.take().expect(KNOWN);
        if let Some(until) = cohort.state.until() {
            self.deadlines.remove(&(until, id));
        }
        cohort.state = State::Judging;
        cohort.members.sort_by(|a, b| (&a.name, &a.completion).cmp(&(&b.name, &b.completion)));
        for (at, member) in cohort.members.iter().enumerate() {
            self.tickets.extend(member.waiting.iter().map(|&ticket| (ticket, (id, at))));
        }
        let said =
            |member: &mut Member<R>| (member.name.clone(), std::mem::take(&mut member.completion));
        let members = cohort.members.iter_mut().map(said).collect();
        CohortEvent::Judge { cohort: id, key: cohort.key.clone(), about, members }
    }

    /// A client has gone away. Its member stays, for the client may come back.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        if let Some((id, at)) = self.tickets.remove(&ticket)
            && let Some(cohort) = self.cohorts.get_mut(&id)
        {
            cohort.members[at].waiting.retain(|waiting| *waiting != ticket);
        }
    }

    /// What a group's judging gave, member by member in the order of [`CohortEvent::Judge`].
    pub(crate) fn finished(
        &mut self,
        now: Duration,
        id: CohortId,
        answers: Vec<MemberAnswer<R>>,
    ) -> Vec<CohortEvent<R, A>> {
        let until = now + self.config.keep;
        let judging = self.cohorts.get_mut(&id).filter(|cohort| cohort.state == State::Judging);
        let Some(cohort) = judging else { return Vec::new() };
        cohort.state = State::Over { until };
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

    /// A group that was judged before this program was started: who asks for one of its `members`
    /// again gets its answer until `until`. The last of a member says whether its client has got
    /// it.
    pub(crate) fn restore(
        &mut self,
        until: Duration,
        key: &CohortKey,
        members: Vec<(Option<MemberName>, &str, MemberAnswer<R>, bool)>,
    ) {
        let member = |(name, completion, answer, is_delivered)| Member {
            name,
            completion: String::new(),
            digest: digest(completion),
            waiting: Vec::new(),
            answer: Some(answer),
            is_delivered,
        };
        let members = members.into_iter().map(member).collect();
        let state = State::Over { until };
        self.insert(Cohort { key: key.clone(), about: None, asked: None, state, members });
    }

    /// A group could not be judged: its members are told so, and may come again as if they had
    /// never come.
    pub(crate) fn given_up(&mut self, id: CohortId, reason: &str) -> Vec<CohortEvent<R, A>> {
        let answer = Err(Problem::GivenUp(reason.to_owned()));
        self.forget(id)
            .into_iter()
            .map(|ticket| CohortEvent::Answer(ticket, answer.clone()))
            .collect()
    }

    /// Groups that wait for members.
    pub(crate) fn collecting(&self) -> Vec<CohortId> {
        let is_collecting = |state: State| matches!(state, State::Collecting { .. });
        let found = self.cohorts.iter().filter(|(_, cohort)| is_collecting(cohort.state));
        found.map(|(&id, _)| id).collect()
    }

    /// Ends what is to end by `now`.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<CohortEvent<R, A>> {
        let mut events = Vec::new();
        while let Some(&(until, id)) = self.deadlines.first()
            && until <= now
        {
            let cohort = self.cohorts.get(&id).expect("it has a deadline. This is a bug.");
            let seen = cohort.members.len();
            let is_collecting = matches!(cohort.state, State::Collecting { .. });
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
            // nobody waits in one that is over
            let tickets = self.forget(id);
            events.extend(
                tickets.into_iter().map(|ticket| CohortEvent::Answer(ticket, answer.clone())),
            );
        }
        events
    }

    /// When [`Cohorts::tick`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    /// Drops a group and returns the requests that waited in it.
    fn forget(&mut self, id: CohortId) -> Vec<Ticket> {
        let Some(cohort) = self.cohorts.remove(&id) else { return Vec::new() };
        if let Some(until) = cohort.state.until() {
            self.deadlines.remove(&(until, id));
        }
        if !matches!(cohort.state, State::Over { .. }) {
            self.n_open -= 1;
        }
        if let Some(known) = self.by_key.get_mut(&cohort.key) {
            known.retain(|other| *other != id);
            if known.is_empty() {
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
