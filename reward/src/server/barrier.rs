//! Between requests of one completion each and the scorer, which wants groups: the clock, the waiting and
//! the judging around [`Cohorts`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use joust_schema::prompt::Prompt;
use joust_schema::tables::Status;
use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::cohort::{Answer, CohortId, Cohorts, Event, Key, Name, Refused, Ticket};
use super::thread::{ScorerHandle, Unscored};
use super::wire::ScoreGroupRequest;
use crate::arena::GroupResult;

/// What a member's judging gave.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scored {
    pub(super) reward: f64,
    pub(super) win_rate: Option<f64>,
    pub(super) rating: Option<f64>,
    pub(super) rating_stderr: Option<f64>,
    pub(super) rank: Option<i32>,
    pub(super) wins: i32,
    pub(super) losses: i32,
}

/// What the members of a group have in common.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) prompt: Prompt,
    pub(super) answer: Option<Value>,
    pub(super) group_id: Option<String>,
}

/// One completion with what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) key: Key,
    pub(super) name: Option<Name>,
    pub(super) completion: String,
    pub(super) about: About,
}

/// Holds completions until their groups are complete.
#[derive(Clone)]
pub(super) struct Barrier {
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
    waiting: BTreeMap<Ticket, oneshot::Sender<Answer<Scored>>>,
    is_closed: bool,
}

/// A request that waits; when it is dropped, its client has gone.
pub(super) struct Waiting {
    inner: Arc<Inner>,
    ticket: Ticket,
    answer: oneshot::Receiver<Answer<Scored>>,
}

impl Barrier {
    /// A barrier before `scorer`. Must be called where tokio runs: it keeps the time in a task, which ends
    /// with the barrier.
    pub(super) fn new(scorer: ScorerHandle) -> Self {
        let config = scorer.config.cohorts;
        let state =
            State { cohorts: Cohorts::new(config), waiting: BTreeMap::new(), is_closed: false };
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
    pub(super) fn n_open(&self) -> usize {
        self.inner.lock().cohorts.n_open()
    }

    /// Requests that wait for their answers.
    pub(super) fn n_waiting(&self) -> usize {
        self.inner.lock().waiting.len()
    }

    /// Takes no more completions: groups that wait for members are told to come again.
    pub(super) fn close(&self) {
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
    /// [`Refused`]
    pub(super) fn join(&self, arrival: Arrival) -> Result<Waiting, Refused> {
        let Arrival { key, name, completion, about } = arrival;
        let (send, answer) = oneshot::channel();
        let now = self.inner.started.elapsed();
        let mut state = self.inner.lock();
        if state.is_closed {
            return Err(Refused::Closed);
        }
        let (ticket, events) = state.cohorts.join(now, &key, name, &completion, about)?;
        state.waiting.insert(ticket, send);
        let work = state.handle(events);
        drop(state);
        self.inner.judge(work);
        self.inner.changed.notify_one();
        Ok(Waiting { inner: Arc::clone(&self.inner), ticket, answer })
    }
}

impl Waiting {
    /// The answer; an error where none came within `limit`, or the server stops.
    pub(super) async fn answer(mut self, limit: Duration) -> Result<Answer<Scored>, Late> {
        match tokio::time::timeout(limit, &mut self.answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Late::Stopped),
            Err(_) => Err(Late::TimedOut),
        }
    }
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// It took too long; the work goes on, and a retry finds it.
    TimedOut,
    /// The server stops.
    Stopped,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        state.cohorts.leave(self.ticket);
        state.waiting.remove(&self.ticket);
    }
}

/// Groups that are to be judged.
type Work = Vec<(CohortId, About, Vec<String>)>;

impl State {
    /// Answers who is to be answered, and gives back what is to be judged.
    fn handle(&mut self, events: Vec<Event<Scored, About>>) -> Work {
        let mut work = Work::new();
        for event in events {
            match event {
                Event::Judge { cohort, about, completions } => {
                    work.push((cohort, about, completions));
                }
                Event::Answer(ticket, answer) => {
                    if let Some(waiting) = self.waiting.remove(&ticket) {
                        // a client that has just gone needs no answer
                        let _ = waiting.send(answer);
                    }
                }
            }
        }
        work
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the cohorts in hand. This is a bug.")
    }

    /// Changes the cohorts and does what follows.
    fn act(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Cohorts<Scored, About>, Duration) -> Vec<Event<Scored, About>>,
    ) {
        let mut state = self.lock();
        let events = change(&mut state.cohorts, self.started.elapsed());
        let work = state.handle(events);
        drop(state);
        self.judge(work);
    }

    fn judge(self: &Arc<Self>, work: Work) {
        for (cohort, about, completions) in work {
            let inner = Arc::clone(self);
            tokio::spawn(async move {
                let scored = inner.scored(about, completions).await;
                inner.act(|cohorts, now| match &scored {
                    Ok(result) => cohorts.finished(now, cohort, answers(result)),
                    Err(reason) => cohorts.given_up(cohort, reason),
                });
            });
        }
    }

    async fn scored(&self, about: About, completions: Vec<String>) -> Result<GroupResult, String> {
        let config = &self.scorer.config;
        let request = ScoreGroupRequest {
            prompt: Some(about.prompt),
            completions: completions.into_iter().map(Prompt::Text).collect(),
            answer: about.answer,
            group_id: about.group_id,
            ..ScoreGroupRequest::default()
        };
        let group = request.into_group(&self.scorer.tournament, config.seed)?;
        self.scorer.score(group).await.map_err(|why| match why {
            Unscored::Full(reason) | Unscored::TooLate(reason) | Unscored::Bad(reason) => reason,
            Unscored::Stopped => "the judge has stopped".to_owned(),
        })
    }
}

/// Answers of a group's members, in their order.
fn answers(result: &GroupResult) -> Vec<Answer<Scored>> {
    let answer = |row: &joust_schema::tables::Reward| match row.reward {
        Some(reward) if row.status == Status::Scored => Answer::Judged(Scored {
            reward,
            win_rate: row.win_rate,
            rating: row.rating,
            rating_stderr: row.rating_stderr,
            rank: row.rank,
            wins: row.wins,
            losses: row.losses,
        }),
        _ => Answer::Failed(format!("the judge gave no valid vote ({})", row.status)),
    };
    result.rewards.iter().map(answer).collect()
}
