//! Barrier between requests of one completion each and the scorer, which takes groups: it gives
//! [`Cohorts`] a clock, waiting requests and the judge.
//!
//! Knows no protocol.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use joust_schema::prompt::Prompt;
use joust_schema::tables::{Reward, Status};
use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::machine::Cohorts;
use super::terms::{CohortEvent, CohortId, CohortKey, MemberAnswer, MemberName, Ticket};
use crate::desk::handle::ScorerHandle;
use crate::dump::recorder::Restored;
use crate::judged::{CohortRecord, GroupKey, Judged, problem_of};
use crate::problem::Problem;
use crate::wire::ScoreGroupRequest;

/// What a member's judging gave.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    /// Its group, and its place in it.
    pub(crate) group: GroupKey,
    pub(crate) member: usize,
    pub(crate) reward: f64,
    pub(crate) win_rate: Option<f64>,
    pub(crate) rating: Option<f64>,
    pub(crate) rating_stderr: Option<f64>,
    pub(crate) rank: Option<i32>,
    pub(crate) wins: i32,
    pub(crate) losses: i32,
}

/// What the members of a group have in common.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) prompt: Prompt,
    pub(crate) answer: Option<Value>,
    pub(crate) group_id: Option<String>,
    /// Who asks, for fair shares.
    pub(crate) client: String,
}

/// Of one group where prompt and known answer are the same.
impl Hash for About {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.prompt.to_column().hash(state);
        self.answer.as_ref().map(Value::to_string).hash(state);
    }
}

/// One completion with what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) key: CohortKey,
    pub(crate) name: Option<MemberName>,
    pub(crate) completion: String,
    pub(crate) about: About,
}

/// Holds completions until their groups are complete.
#[derive(Clone)]
pub(crate) struct Barrier {
    inner: Arc<Inner>,
}

struct Inner {
    scorer: ScorerHandle,
    state: Mutex<State>,
    /// Told when there may be an earlier deadline.
    changed: Notify,
    started: Instant,
}

struct State {
    cohorts: Cohorts<Scored, About>,
    waiting: BTreeMap<Ticket, oneshot::Sender<MemberAnswer<Scored>>>,
    is_closed: bool,
}

/// A request that waits; when it is dropped, its client has gone.
pub(crate) struct Waiting {
    inner: Arc<Inner>,
    ticket: Ticket,
    answer: oneshot::Receiver<MemberAnswer<Scored>>,
}

impl Barrier {
    /// A barrier before `scorer`. Must be called where tokio runs: it keeps the time in a task,
    /// which ends with the barrier.
    pub(crate) fn new(scorer: ScorerHandle) -> Self {
        let config = scorer.config.cohorts;
        let mut cohorts = Cohorts::new(config);
        restore(&mut cohorts, config.keep, scorer.take_restored());
        let state = State { cohorts, waiting: BTreeMap::new(), is_closed: false };
        let inner = Arc::new(Inner {
            scorer,
            state: Mutex::new(state),
            changed: Notify::new(),
            started: Instant::now(),
        });
        let weak = Arc::downgrade(&inner);
        tokio::spawn(async move {
            loop {
                let Some(inner) = weak.upgrade() else { return };
                let next = inner.lock().cohorts.next_deadline();
                // looks up now and then whether the barrier is still there
                let most = inner.started.elapsed() + Duration::from_secs(1);
                let until = inner.started + next.map_or(most, |next| next.min(most));
                tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = inner.changed.notified() => {}
                }
                inner.act(|cohorts, now| cohorts.tick(now));
            }
        });
        Self { inner }
    }

    /// Groups that are collected or judged.
    pub(crate) fn n_open(&self) -> usize {
        self.inner.lock().cohorts.n_open()
    }

    /// Requests that wait for their answers.
    pub(crate) fn n_waiting(&self) -> usize {
        self.inner.lock().waiting.len()
    }

    /// Takes no more completions: groups that wait for members are told to come again.
    pub(crate) fn close(&self) {
        // first, so that none comes between
        self.inner.lock().is_closed = true;
        self.inner.act(|cohorts, _| {
            let waiting = cohorts.collecting();
            let told = waiting.into_iter().flat_map(|id| cohorts.given_up(id, "the server stops"));
            told.collect()
        });
    }

    /// Takes a completion in and gives the way to its answer.
    ///
    /// # Errors
    /// [`Problem`]
    pub(crate) fn join(&self, arrival: Arrival) -> Result<Waiting, Problem> {
        let Arrival { key, name, completion, about } = arrival;
        let (send, answer) = oneshot::channel();
        let now = self.inner.started.elapsed();
        let mut state = self.inner.lock();
        if state.is_closed {
            return Err(Problem::ServerStopping);
        }
        let (ticket, events) = state.cohorts.join(now, &key, name, &completion, about)?;
        state.waiting.insert(ticket, send);
        let work = state.handle(events, &self.inner.scorer);
        drop(state);
        self.inner.judge(work);
        self.inner.changed.notify_one();
        Ok(Waiting { inner: Arc::clone(&self.inner), ticket, answer })
    }
}

impl Waiting {
    /// The answer; an error where none came within `limit`, or the server stops.
    pub(crate) async fn answer(mut self, limit: Duration) -> MemberAnswer<Scored> {
        match tokio::time::timeout(limit, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Problem::ServerStopping),
            Err(_) => Err(Problem::TooLate("no result in time; a retry finds it".to_owned())),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.cohorts.leave(self.ticket);
        state.waiting.remove(&self.ticket);
    }
}

/// A group that is to be judged.
struct Complete {
    cohort: CohortId,
    key: CohortKey,
    about: About,
    members: Vec<(Option<MemberName>, String)>,
}

/// Groups that are to be judged.
type Work = Vec<Complete>;

type ScoredCohorts = Cohorts<Scored, About>;
type ScoredEvent = CohortEvent<Scored, About>;

impl State {
    /// Answers who is to be answered, and gives back what is to be judged.
    fn handle(&mut self, events: Vec<CohortEvent<Scored, About>>, scorer: &ScorerHandle) -> Work {
        let mut work = Work::new();
        for event in events {
            match event {
                CohortEvent::Judge { cohort, key, about, members } => {
                    work.push(Complete { cohort, key, about, members });
                }
                CohortEvent::Answer(ticket, answer) => {
                    let place = match &answer {
                        Ok(scored) => Some((scored.group, scored.member)),
                        _ => None,
                    };
                    // a client that has just gone needs no answer
                    let waiting = self.waiting.remove(&ticket);
                    let is_told = waiting.is_some_and(|waiting| waiting.send(answer).is_ok());
                    if let (true, Some((group, member))) = (is_told, place) {
                        scorer.delivered(group, member);
                    }
                }
            }
        }
        work
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("barrier lock poisoned. This is a bug.")
    }

    /// Changes the cohorts and does what follows.
    fn act(
        self: &Arc<Self>,
        change: impl FnOnce(&mut ScoredCohorts, Duration) -> Vec<ScoredEvent>,
    ) {
        let mut state = self.lock();
        let events = change(&mut state.cohorts, self.started.elapsed());
        let work = state.handle(events, &self.scorer);
        drop(state);
        self.judge(work);
    }

    fn judge(self: &Arc<Self>, work: Work) {
        for complete in work {
            let inner = Arc::clone(self);
            tokio::spawn(async move {
                let cohort = complete.cohort;
                let scored = inner.scored(complete).await;
                inner.act(|cohorts, now| match &scored {
                    Ok(judged) => cohorts.finished(now, cohort, answers(judged)),
                    Err(why) => cohorts.given_up(cohort, &why.to_string()),
                });
            });
        }
    }

    /// The group's result. One in which the judge failed for all is none: who comes again has it
    /// judged again.
    async fn scored(&self, complete: Complete) -> Result<Arc<Judged>, Problem> {
        let Complete { key, about, members, .. } = complete;
        let config = &self.scorer.config;
        let (names, completions): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let request = ScoreGroupRequest {
            prompt: Some(about.prompt),
            completions: completions.into_iter().map(Prompt::Text).collect(),
            answer: about.answer,
            group_id: about.group_id,
            ..ScoreGroupRequest::default()
        };
        let group = request.into_group(&self.scorer.tournament, config.seed)?;
        let cohort = Some(CohortRecord { key, names });
        let scored = self.scorer.score(group, &about.client, cohort).await;
        let judged = scored?;
        match problem_of(&judged.result) {
            Some(why @ Problem::JudgeFailed(_)) => Err(why),
            _ => Ok(judged),
        }
    }
}

/// Answers of a group's members, in their order.
fn answers(judged: &Judged) -> Vec<MemberAnswer<Scored>> {
    let refused = judged.result.why_all_failed().filter(|_| judged.result.is_refused);
    let answer = |(member, row): (usize, &Reward)| match row.reward {
        Some(reward) if row.status == Status::Scored => Ok(Scored {
            group: judged.key,
            member,
            reward,
            win_rate: row.win_rate,
            rating: row.rating,
            rating_stderr: row.rating_stderr,
            rank: row.rank,
            wins: row.wins,
            losses: row.losses,
        }),
        _ => match &refused {
            Some(reason) => Err(Problem::Invalid(reason.clone())),
            None => {
                let status = row.status;
                Err(Problem::NoVotes(format!("the judge gave no valid vote ({status})")))
            }
        },
    };
    judged.result.rewards.iter().enumerate().map(answer).collect()
}

/// Groups whose members came one by one before this start, and which of them have got their
/// answers.
fn restore(cohorts: &mut Cohorts<Scored, About>, keep: Duration, restored: Restored) {
    for (age, judged) in restored.judged {
        let Some(CohortRecord { key, names }) = &judged.cohort else { continue };
        if judged.result.why_all_failed().is_some() {
            continue;
        }
        let said = judged.group.completions.iter().map(String::as_str);
        let members = names.iter().cloned().zip(said).zip(answers(&judged)).enumerate();
        let member = |(at, ((name, completion), answer))| {
            (name, completion, answer, restored.delivered.contains(&(judged.key, at)))
        };
        let until = keep.saturating_sub(age);
        cohorts.restore(until, key, members.map(member).collect());
    }
}
