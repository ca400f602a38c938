//! Barrier between requests of one completion each and the judge thread, which takes groups: gives
//! [`Cohorts`] a clock, waiting requests and the judge.
//!
//! Knows no protocol.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

pub(crate) use super::answers::MemberScore;
use super::answers::{member_answers, problem_of_members};
use super::machine::Cohorts;
use super::members::{DigestedText, NewMember, RequestNumber};
pub(crate) use super::question::CohortQuestion;
use super::stall::{StallWatch, WaitingCounts};
use super::terms::{CohortEvent, CohortId, CohortKey, MemberAnswer, MemberName, Ticket};
use crate::connection_end::ConnectionEnd;
use crate::counted::{Counted, CountedGuard};
use crate::desk::handle::ScorerHandle;
use crate::dump::recorder::Restored;
use crate::group::{NewGroup, known_answer};
use crate::heavy;
use crate::judged::{CohortRecord, GroupKey, Judged, problem_of};
use crate::metrics::ServerMetrics;
use crate::problem::Problem;

/// Maximum time between two checks of the clock task whether the barrier still exists.
const MAX_CLOCK_PAUSE: Duration = Duration::from_secs(1);

/// A completion that arrives, with its group and its name there.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) key: CohortKey,
    pub(crate) name: Option<MemberName>,
    pub(crate) completion: String,
    pub(crate) question: CohortQuestion,
    /// Size of what the request holds beside these texts while it waits.
    pub(crate) held_bytes: usize,
}

/// Holds completions until their groups are complete.
#[derive(Clone)]
pub(crate) struct Barrier {
    shared: Arc<BarrierShared>,
}

struct BarrierShared {
    scorer: ScorerHandle,
    state: Mutex<BarrierState>,
    /// Read without the lock: a probe never waits for it.
    counts: BarrierCounts,
    /// Notified when there may be an earlier deadline.
    changed: Notify,
    started: Instant,
    /// Number of HTTP requests with single completions.
    n_requests: AtomicU64,
}

/// State behind the lock.
struct BarrierState {
    cohorts: ScoredCohorts,
    waiting: BTreeMap<Ticket, oneshot::Sender<MemberAnswer<MemberScore>>>,
    stall: StallWatch,
    is_closed: bool,
}

/// Numbers of the barrier since the lock was last released.
#[derive(Default)]
struct BarrierCounts {
    /// Number of groups that are collected or judged.
    n_open: AtomicUsize,
    /// Number of requests that wait for their answers.
    n_waiting: AtomicUsize,
}

impl Counted for BarrierState {
    type Counts = BarrierCounts;

    fn write_counts(&self, counts: &BarrierCounts) {
        counts.n_open.store(self.cohorts.n_open(), Ordering::Relaxed);
        counts.n_waiting.store(self.waiting.len(), Ordering::Relaxed);
    }
}

type ScoredCohorts = Cohorts<MemberScore, CohortQuestion>;
type ScoredEvent = CohortEvent<MemberScore, CohortQuestion>;

/// A request that waits for its answer. It is dropped when its client disconnects.
pub(crate) struct WaitingMember {
    shared: Arc<BarrierShared>,
    ticket: Ticket,
    answer: oneshot::Receiver<MemberAnswer<MemberScore>>,
    is_answered: bool,
    /// Group of the result that came, and index there.
    result: Option<(GroupKey, usize)>,
    end: ConnectionEnd,
    is_delivered: bool,
}

impl Barrier {
    /// A barrier before `scorer`. Must be called inside a tokio runtime: a task keeps the time
    /// until the barrier is dropped.
    pub(crate) fn new(scorer: ScorerHandle) -> Self {
        let config = scorer.config.cohorts;
        let mut cohorts = Cohorts::new(config);
        restore(&mut cohorts, config.keep, scorer.take_restored());
        let stall = StallWatch::new(config.collect);
        let state = BarrierState { cohorts, waiting: BTreeMap::new(), stall, is_closed: false };
        let shared = Arc::new(BarrierShared {
            scorer,
            state: Mutex::new(state),
            counts: BarrierCounts::default(),
            changed: Notify::new(),
            started: Instant::now(),
            n_requests: AtomicU64::new(0),
        });
        let weak = Arc::downgrade(&shared);
        tokio::spawn(async move {
            while let Some(shared) = weak.upgrade() {
                shared.wait_for_deadline().await;
                shared.change(|cohorts, now| cohorts.tick(now));
                shared.warn_of_stall();
            }
        });
        Self { shared }
    }

    /// Number of groups that are collected or judged.
    pub(crate) fn n_open(&self) -> usize {
        self.shared.counts.n_open.load(Ordering::Relaxed)
    }

    /// Number of requests that wait for their answers.
    pub(crate) fn n_waiting(&self) -> usize {
        self.shared.counts.n_waiting.load(Ordering::Relaxed)
    }

    /// Whether a group of this key is collected, or has a member of this text whose clients have
    /// gone.
    pub(crate) fn is_awaited(&self, key: &CohortKey, said: &str) -> bool {
        let completion = DigestedText::new(said.to_owned());
        self.shared.lock().cohorts.is_awaited(key, &completion)
    }

    /// Refuses further completions and gives up the groups that wait for members.
    pub(crate) fn close(&self) {
        // first, so that no completion joins in between
        self.shared.lock().is_closed = true;
        self.shared.change(|cohorts, _| {
            let collecting = cohorts.collecting().into_iter();
            collecting.flat_map(|id| cohorts.give_up(id, Problem::ServerStopping)).collect()
        });
    }

    /// Takes the completions of an HTTP request in, and returns what waits for their answers. `end`
    /// is that of the request's connection.
    ///
    /// # Errors
    /// [`Problem`]; the completions before it have left again.
    pub(crate) fn join(
        &self,
        arrivals: Vec<Arrival>,
        end: &ConnectionEnd,
    ) -> Result<Vec<WaitingMember>, Problem> {
        let request = self.shared.n_requests.fetch_add(1, Ordering::Relaxed);
        arrivals.into_iter().map(|arrival| self.join_one(arrival, request, end)).collect()
    }

    fn join_one(
        &self,
        arrival: Arrival,
        request: RequestNumber,
        end: &ConnectionEnd,
    ) -> Result<WaitingMember, Problem> {
        let Arrival { key, name, completion, question, held_bytes } = arrival;
        let question_bytes = question.n_bytes();
        // hashes the texts before the lock is taken
        let new = heavy::work_on(completion.len() + question_bytes, || {
            let share = question.client.share().to_owned();
            NewMember::new(key, name, completion, (question, question_bytes), request)
                .of_share(&share)
                .holding(held_bytes)
        });
        let (send, answer) = oneshot::channel();
        let now = self.shared.started.elapsed();
        let mut state = self.shared.lock();
        if state.is_closed {
            return Err(Problem::ServerStopping);
        }
        let (ticket, events) = state.cohorts.join(now, new)?;
        state.waiting.insert(ticket, send);
        state.stall.moved(now);
        let complete = state.handle(events, &self.shared.scorer.metrics);
        drop(state);
        self.shared.judge(complete);
        self.shared.changed.notify_one();
        let (shared, end) = (Arc::clone(&self.shared), end.clone());
        Ok(WaitingMember {
            shared,
            ticket,
            answer,
            is_answered: false,
            result: None,
            end,
            is_delivered: false,
        })
    }
}

impl WaitingMember {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The problem of the group; [`Problem::TooLate`] after `limit`.
    pub(crate) async fn answer(&mut self, limit: Duration) -> MemberAnswer<MemberScore> {
        match tokio::time::timeout(limit, &mut self.answer).await {
            Ok(Ok(answer)) => {
                self.is_answered = true;
                self.result = answer.as_ref().ok().map(|score| (score.group, score.member));
                answer
            }
            Ok(Err(_)) => Err(Problem::ServerStopping),
            Err(_) => Err(Problem::TooLate("no result in time; a retry finds it".to_owned())),
        }
    }

    /// The answer that came goes to the client now. A client whose end was seen may never read it,
    /// so its retry is to find it.
    pub(crate) fn deliver(mut self) {
        self.is_delivered = self.is_answered && !self.end.is_seen();
        if let (true, Some((group, member))) = (self.is_delivered, self.result) {
            self.shared.scorer.record_delivery(group, member);
        }
    }
}

impl Drop for WaitingMember {
    fn drop(&mut self) {
        let (ticket, is_delivered) = (self.ticket, self.is_delivered);
        self.shared.lock().waiting.remove(&ticket);
        self.shared.change(|cohorts, now| match is_delivered {
            true => {
                cohorts.deliver(now, ticket);
                Vec::new()
            }
            false => cohorts.leave(now, ticket),
        });
        self.shared.changed.notify_one();
    }
}

/// A group that is ready to be judged.
struct CompleteCohort {
    id: CohortId,
    key: CohortKey,
    question: CohortQuestion,
    members: Vec<(Option<MemberName>, String)>,
}

impl BarrierState {
    /// Answers requests as the events say, and returns the groups that are ready to be judged.
    fn handle(&mut self, events: Vec<ScoredEvent>, metrics: &ServerMetrics) -> Vec<CompleteCohort> {
        let mut complete = Vec::new();
        for event in events {
            match event {
                CohortEvent::Judge { cohort: id, key, question, members } => {
                    complete.push(CompleteCohort { id, key, question, members });
                }
                CohortEvent::Answer(ticket, answer) => {
                    // the request may have been dropped a moment ago
                    if let Some(waiting) = self.waiting.remove(&ticket) {
                        let _ = waiting.send(answer);
                    }
                }
                CohortEvent::Forgotten { n_members } => {
                    metrics.count_forgotten_group();
                    tracing::info!(
                        n_members,
                        "A group of single completions is forgotten: its clients have gone, and \
                         none has tried again for serve.retry_s."
                    );
                }
            }
        }
        complete
    }
}

impl BarrierShared {
    fn lock(&self) -> CountedGuard<'_, BarrierState> {
        let state = self.state.lock().expect("barrier lock poisoned. This is a bug.");
        CountedGuard::new(state, &self.counts)
    }

    /// Waits for the next deadline, a change of it, or [`MAX_CLOCK_PAUSE`].
    async fn wait_for_deadline(&self) {
        let next = self.lock().cohorts.next_deadline();
        let latest = self.started.elapsed() + MAX_CLOCK_PAUSE;
        let until = self.started + next.map_or(latest, |next| next.min(latest));
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = self.changed.notified() => {}
        }
    }

    /// Warns once if groups wait for members that a client seems unable to send.
    fn warn_of_stall(&self) {
        let now = self.started.elapsed();
        let mut state = self.lock();
        let (n_collecting, n_requests) = (state.cohorts.n_collecting(), state.waiting.len());
        let n_judging = state.cohorts.n_open() - n_collecting;
        let waiting = WaitingCounts { n_collecting, n_judging, n_requests };
        if state.stall.is_news(now, waiting) {
            tracing::warn!(
                groups = n_collecting,
                requests = n_requests,
                "No completion came for {:?}, and no group is complete. If the client has more \
                 to send, its limit of connections or threads is too low: it needs one for each \
                 completion that waits (see examples/README.md).",
                state.stall.pause()
            );
        }
    }

    /// Changes the cohorts, and acts on the events of the change.
    fn change(
        self: &Arc<Self>,
        change: impl FnOnce(&mut ScoredCohorts, Duration) -> Vec<ScoredEvent>,
    ) {
        let mut state = self.lock();
        let events = change(&mut state.cohorts, self.started.elapsed());
        let complete = state.handle(events, &self.scorer.metrics);
        drop(state);
        self.judge(complete);
    }

    /// Has each group judged in a task of its own.
    fn judge(self: &Arc<Self>, complete: Vec<CompleteCohort>) {
        for cohort in complete {
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                let (id, question) = (cohort.id, cohort.question.clone());
                let is_again = shared.lock().cohorts.has_answers(id);
                let texts = cohort.members.iter().map(|(_, text)| text.clone());
                let texts = is_again.then(|| texts.collect::<Vec<_>>());
                let scored = shared.score(cohort).await;
                shared.change(|cohorts, now| match (&scored, texts) {
                    (Ok(judged), _) if judged.result.lost_members().contains(&true) => {
                        let kept = (question, judged.group.completions.clone());
                        cohorts.finish_in_part(now, id, member_answers(judged), kept)
                    }
                    (Ok(judged), _) => cohorts.finish(now, id, member_answers(judged)),
                    // the members that have their results keep them
                    (Err(problem), Some(texts)) => {
                        let answers = vec![Err(problem_of_members(problem)); texts.len()];
                        cohorts.finish_in_part(now, id, answers, (question, texts))
                    }
                    (Err(problem), None) => cohorts.give_up(id, problem_of_members(problem)),
                });
            });
        }
    }

    /// The result of a group. A result in which the judge failed for all members is a problem: a
    /// retry has the group judged again.
    async fn score(&self, cohort: CompleteCohort) -> Result<Arc<Judged>, Problem> {
        let CompleteCohort { key, question, members, .. } = cohort;
        let (names, completions): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        let CohortQuestion { prompt, answer, group_id, client } = question;
        let mut group = NewGroup::new(&prompt, completions)?;
        // the group has its text
        drop(prompt);
        group.reference = known_answer(answer)?;
        group.group_id = group_id;
        let group = self.scorer.with_defaults(group)?;
        let record = CohortRecord { key, names };
        let judged = self.scorer.score(group, &client, Some(record)).await?;
        match problem_of(&judged.result) {
            Some(problem @ Problem::JudgeFailed(_)) => Err(problem),
            _ => Ok(judged),
        }
    }
}

/// Restores the groups of single completions that an earlier start judged, and which of their
/// members were answered.
fn restore(cohorts: &mut ScoredCohorts, keep: Duration, restored: Restored) {
    for (age, judged) in restored.judged {
        let Some(CohortRecord { key, names }) = &judged.cohort else { continue };
        if judged.result.why_all_failed().is_some() {
            continue;
        }
        let completions = judged.group.completions.iter().map(String::as_str);
        let members = names.iter().cloned().zip(completions).zip(member_answers(&judged));
        let member = |(idx, ((name, completion), answer))| {
            (name, completion, answer, restored.delivered.contains(&(judged.key, idx)))
        };
        let until = keep.saturating_sub(age);
        let id = cohorts.restore(until, key, members.enumerate().map(member).collect());
        if judged.result.lost_members().contains(&true) {
            let question = CohortQuestion::of(&judged);
            let question_bytes = question.n_bytes();
            cohorts.keep_texts(id, (question, question_bytes), judged.group.completions.clone());
        }
    }
}
