//! Holds completions that arrive one by one until their group is complete: a pure state machine without
//! a clock, sockets or threads.
//!
//! A cohort is the group of one prompt on its way. Members that name themselves (a place in the group, or
//! the client's own id of the request) are told apart by that name: the same name again is a retry, which
//! attaches to the member that is there. Members without a name are told apart by what can be known: a
//! completion that is already there and whose client is still waiting is another member that says the
//! same, and one whose client has gone away is a retry of it. A retry never adds a member, and never has
//! anything judged a second time.

use std::collections::BTreeMap;
use std::time::Duration;

/// How groups are collected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CohortConfig {
    /// Members of a group.
    pub group_size: usize,
    /// Longest time from the first member to the last.
    pub collect: Duration,
    /// How long a result is kept for those who ask again.
    pub keep: Duration,
    /// What becomes of a group whose time is over.
    pub incomplete: Incomplete,
    /// Most groups that are collected or judged at once.
    pub max_open: usize,
}

/// What becomes of a group that is not complete in time.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Incomplete {
    /// Its members get an error, so that the client may try again.
    #[default]
    Fail,
    /// Those that are there are judged, if they are at least two.
    Partial,
    /// Its members get no reward and no error.
    Mask,
}

/// Which group a completion belongs to.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// The client's own id of the group, with its attempt.
    Given {
        /// The id.
        group: String,
        /// Counts up where a client has a group judged anew.
        attempt: u64,
    },
    /// Made from the prompt: all who ask the same at one time are one group.
    Content(String),
}

/// Which member a completion is, where the client says so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// Its place in the group.
    Place(u64),
    /// The client's own id of the request.
    Request(String),
}

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A group that has been handed over for judging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CohortId(pub u64);

/// What one member gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<R> {
    /// What the judging of its group gave it.
    Judged(R),
    /// Its group was judged and gave it none.
    Failed(String),
    /// Its group could not be judged; another try may do better.
    GivenUp(String),
    /// Its group was not complete in time.
    Incomplete {
        /// Members that had come.
        seen: usize,
        /// Members that the group wants.
        wanted: usize,
    },
    /// As `Incomplete`, where the policy is to answer without a reward.
    Masked,
}

/// What is to be done. `R` is what a member's judging gives, `A` what is known of a group.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<R, A = ()> {
    /// Judge these completions; then call [`Cohorts::finished`].
    Judge {
        /// The group.
        cohort: CohortId,
        /// How it is known.
        key: Key,
        /// What its first member brought along.
        about: A,
        /// What its members are called and say, in an order that is the same however they came.
        members: Vec<(Option<Name>, String)>,
    },
    /// Answer a request that waits.
    Answer(Ticket, Answer<R>),
}

/// Why a completion was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many groups are open as may be.
    Full,
    /// The member is there already and says something else.
    Conflict,
    /// The group was judged without this member.
    Late,
    /// No completions are taken any more.
    Closed,
}

#[derive(Debug)]
struct Member<R> {
    name: Option<Name>,
    completion: String,
    waiting: Vec<Ticket>,
    answer: Option<Answer<R>>,
    /// Whether somebody has got the answer.
    is_delivered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Collecting { until: Duration },
    Judging,
    Over { until: Duration },
}

#[derive(Debug)]
struct Cohort<R, A> {
    key: Key,
    about: A,
    state: State,
    members: Vec<Member<R>>,
}

/// All groups that are on their way, and those that are over and may be asked for again.
#[derive(Debug)]
pub struct Cohorts<R, A = ()> {
    config: CohortConfig,
    cohorts: BTreeMap<CohortId, Cohort<R, A>>,
    by_key: BTreeMap<Key, Vec<CohortId>>,
    /// Where each request waits.
    tickets: BTreeMap<Ticket, (CohortId, usize)>,
    n_cohorts: u64,
    n_tickets: u64,
}

impl<R: Clone, A: Clone> Cohorts<R, A> {
    /// No groups.
    pub fn new(config: CohortConfig) -> Self {
        Self {
            config,
            cohorts: BTreeMap::new(),
            by_key: BTreeMap::new(),
            tickets: BTreeMap::new(),
            n_cohorts: 0,
            n_tickets: 0,
        }
    }

    /// Groups that are collected or judged.
    pub fn n_open(&self) -> usize {
        let is_open = |cohort: &&Cohort<R, A>| !matches!(cohort.state, State::Over { .. });
        self.cohorts.values().filter(is_open).count()
    }

    /// Groups that are known, those that are over included.
    pub fn n_known(&self) -> usize {
        self.cohorts.len()
    }

    /// Takes a completion in; `about` counts where it begins a group. The request waits under the ticket; its answer may be among the events.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn join(
        &mut self,
        now: Duration,
        key: &Key,
        name: Option<Name>,
        completion: &str,
        about: A,
    ) -> Result<(Ticket, Vec<Event<R, A>>), Refused> {
        let place = match self.find(key, name.as_ref(), completion)? {
            Some(place) => place,
            None => self.add(now, key, name, completion, about)?,
        };
        self.n_tickets += 1;
        let ticket = Ticket(self.n_tickets);
        let cohort = self.cohorts.get_mut(&place.0).expect("it was just found. This is a bug.");
        let member = &mut cohort.members[place.1];
        if let Some(answer) = &member.answer {
            member.is_delivered = true;
            return Ok((ticket, vec![Event::Answer(ticket, answer.clone())]));
        }
        member.waiting.push(ticket);
        self.tickets.insert(ticket, place);
        let is_complete = cohort.members.len() == self.config.group_size;
        let is_collecting = matches!(cohort.state, State::Collecting { .. });
        let events = if is_complete && is_collecting {
            vec![judge(place.0, cohort, &mut self.tickets)]
        } else {
            vec![]
        };
        Ok((ticket, events))
    }

    /// The member that this completion is a retry of.
    fn find(
        &self,
        key: &Key,
        name: Option<&Name>,
        completion: &str,
    ) -> Result<Option<(CohortId, usize)>, Refused> {
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
                        && member.completion == completion
                        && member.waiting.is_empty()
                        && !member.is_delivered
                }),
            };
            match found {
                Some(at) if cohort.members[at].completion == completion => {
                    return Ok(Some((id, at)));
                }
                // the same place in a group that a client has judged once more without saying so
                Some(_) if is_over => {}
                Some(_) => return Err(Refused::Conflict),
                None => {}
            }
        }
        Ok(None)
    }

    /// Adds a member to the group that is being collected, or begins one.
    fn add(
        &mut self,
        now: Duration,
        key: &Key,
        name: Option<Name>,
        completion: &str,
        about: A,
    ) -> Result<(CohortId, usize), Refused> {
        let member = Member {
            name,
            completion: completion.to_owned(),
            waiting: Vec::new(),
            answer: None,
            is_delivered: false,
        };
        let known = self.by_key.get(key).map_or(&[][..], Vec::as_slice);
        let is_collecting =
            |id: &&CohortId| matches!(self.cohorts[*id].state, State::Collecting { .. });
        if let Some(&id) = known.iter().find(is_collecting) {
            let cohort = self.cohorts.get_mut(&id).expect("it is in the index. This is a bug.");
            cohort.members.push(member);
            return Ok((id, cohort.members.len() - 1));
        }
        // a group with a name is judged once; what comes after is told so, not kept waiting
        if matches!(key, Key::Given { .. }) && !known.is_empty() {
            return Err(Refused::Late);
        }
        if self.n_open() >= self.config.max_open {
            return Err(Refused::Full);
        }
        self.n_cohorts += 1;
        let id = CohortId(self.n_cohorts);
        let state = State::Collecting { until: now + self.config.collect };
        self.cohorts.insert(id, Cohort { key: key.clone(), about, state, members: vec![member] });
        self.by_key.entry(key.clone()).or_default().push(id);
        Ok((id, 0))
    }

    /// A client has gone away. Its member stays, for the client may come back.
    pub fn leave(&mut self, ticket: Ticket) {
        if let Some((id, at)) = self.tickets.remove(&ticket)
            && let Some(cohort) = self.cohorts.get_mut(&id)
        {
            cohort.members[at].waiting.retain(|waiting| *waiting != ticket);
        }
    }

    /// What a group's judging gave, member by member in the order of [`Event::Judge`].
    pub fn finished(
        &mut self,
        now: Duration,
        id: CohortId,
        answers: Vec<Answer<R>>,
    ) -> Vec<Event<R, A>> {
        let until = now + self.config.keep;
        let Some(cohort) = self.cohorts.get_mut(&id) else { return Vec::new() };
        cohort.state = State::Over { until };
        let mut events = Vec::new();
        for (member, answer) in cohort.members.iter_mut().zip(answers) {
            for ticket in std::mem::take(&mut member.waiting) {
                self.tickets.remove(&ticket);
                member.is_delivered = true;
                events.push(Event::Answer(ticket, answer.clone()));
            }
            member.answer = Some(answer);
        }
        events
    }

    /// A group that was judged before this program was started: who asks for one of its `members` again
    /// gets its answer until `until`. The last of a member says whether its client has got it.
    pub fn restore(
        &mut self,
        until: Duration,
        key: &Key,
        about: A,
        members: Vec<(Option<Name>, String, Answer<R>, bool)>,
    ) {
        self.n_cohorts += 1;
        let id = CohortId(self.n_cohorts);
        let member = |(name, completion, answer, is_delivered)| Member {
            name,
            completion,
            waiting: Vec::new(),
            answer: Some(answer),
            is_delivered,
        };
        let members = members.into_iter().map(member).collect();
        let cohort = Cohort { key: key.clone(), about, state: State::Over { until }, members };
        self.cohorts.insert(id, cohort);
        self.by_key.entry(key.clone()).or_default().push(id);
    }

    /// A group could not be judged: its members are told so, and may come again as if they had never come.
    pub fn given_up(&mut self, id: CohortId, reason: &str) -> Vec<Event<R, A>> {
        let answer = Answer::GivenUp(reason.to_owned());
        self.forget(id).into_iter().map(|ticket| Event::Answer(ticket, answer.clone())).collect()
    }

    /// Groups that wait for members.
    pub fn collecting(&self) -> Vec<CohortId> {
        let is_collecting = |state: State| matches!(state, State::Collecting { .. });
        let found = self.cohorts.iter().filter(|(_, cohort)| is_collecting(cohort.state));
        found.map(|(&id, _)| id).collect()
    }

    /// Ends what is to end by `now`.
    pub fn tick(&mut self, now: Duration) -> Vec<Event<R, A>> {
        let is_due = |state: State| match state {
            State::Collecting { until } | State::Over { until } => until <= now,
            State::Judging => false,
        };
        let due = self.cohorts.iter().filter(|(_, cohort)| is_due(cohort.state));
        let due: Vec<CohortId> = due.map(|(&id, _)| id).collect();
        let mut events = Vec::new();
        for id in due {
            let cohort = self.cohorts.get_mut(&id).expect("it was just listed. This is a bug.");
            if matches!(cohort.state, State::Over { .. }) {
                self.forget(id);
                continue;
            }
            let seen = cohort.members.len();
            if self.config.incomplete == Incomplete::Partial && seen > 1 {
                events.push(judge(id, cohort, &mut self.tickets));
                continue;
            }
            let answer = match self.config.incomplete {
                Incomplete::Mask => Answer::Masked,
                _ => Answer::Incomplete { seen, wanted: self.config.group_size },
            };
            let tickets = self.forget(id);
            events.extend(tickets.into_iter().map(|ticket| Event::Answer(ticket, answer.clone())));
        }
        events
    }

    /// When [`Cohorts::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Duration> {
        let until = |cohort: &Cohort<R, A>| match cohort.state {
            State::Collecting { until } | State::Over { until } => Some(until),
            State::Judging => None,
        };
        self.cohorts.values().filter_map(until).min()
    }

    /// Drops a group and returns the requests that waited in it.
    fn forget(&mut self, id: CohortId) -> Vec<Ticket> {
        let Some(cohort) = self.cohorts.remove(&id) else { return Vec::new() };
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

/// Hands a group over. Its members get their order: one that is judged anew is the same group then, however
/// they came.
fn judge<R, A: Clone>(
    id: CohortId,
    cohort: &mut Cohort<R, A>,
    tickets: &mut BTreeMap<Ticket, (CohortId, usize)>,
) -> Event<R, A> {
    cohort.state = State::Judging;
    let place = |member: &Member<R>| (member.name.clone(), member.completion.clone());
    cohort.members.sort_by_cached_key(place);
    for (at, member) in cohort.members.iter().enumerate() {
        tickets.extend(member.waiting.iter().map(|&ticket| (ticket, (id, at))));
    }
    let said = |member: &Member<R>| (member.name.clone(), member.completion.clone());
    let members = cohort.members.iter().map(said).collect();
    Event::Judge { cohort: id, key: cohort.key.clone(), about: cohort.about.clone(), members }
}

#[cfg(test)]
mod tests;
