//! The way to the judge: refuses what there is no room for, hands the rest over, and gives everyone who asks
//! for the same group the one result of its one judging.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, TrySendError, bounded};
use tokio::sync::{oneshot, watch};

use super::ServerConfig;
use super::figures::Figures;
use super::load::{Full, Limits, Load, estimate};
use super::queue::FairQueue;
use super::recorder::{Recorder, Restored};
use super::results::{CohortRecord, Found, GroupKey, Judged, Outcome, Results, Stage, Unjudged};
use super::thread::Worker;
use crate::arena::{GroupRequest, Progress};
use crate::config::TournamentConfig;
use crate::error::Error;
use crate::judge::{ChatReply, ChatRequest, JudgeError};
use crate::scorer::Scorer;

/// Notes and cancellations that may wait for the thread, beside the groups.
const MAX_NOTES: usize = 4096;

/// A group to be judged.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) key: GroupKey,
    pub(super) group: GroupRequest,
    /// Who asks, for fair shares.
    pub(super) client: String,
    /// Where it was put together from single completions.
    pub(super) cohort: Option<CohortRecord>,
    /// Its estimated size.
    pub(super) tokens: u64,
}

/// What the thread is told.
pub(super) enum Command {
    Judge(Box<Order>),
    Cancel(GroupKey),
    Delivered {
        key: GroupKey,
        member: usize,
    },
    /// Keep a job in mind; then say so.
    Accept {
        key: GroupKey,
        group: Box<GroupRequest>,
        client: String,
        kept: oneshot::Sender<()>,
    },
    Chat(Box<ChatRequest>, oneshot::Sender<Result<ChatReply, JudgeError>>),
}

/// Why a group has no result.
#[derive(Clone, Debug)]
pub(super) enum Unscored {
    /// There is no room for it now.
    Full(Full),
    /// The judge's thread has ended.
    Stopped,
    /// It took longer than the time limit; the work goes on, and who asks again finds it.
    TooLate(String),
    /// It was cancelled.
    Cancelled,
    /// It is no group that can be scored.
    Bad(String),
}

/// What threads and requests share.
pub(super) struct Desk {
    state: Mutex<State>,
    started: Instant,
    is_running: AtomicBool,
}

struct State {
    results: Results,
    load: Load,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the desk in hand. This is a bug.")
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A group is judged.
    pub(super) fn finish(&self, judged: Arc<Judged>, tokens: u64) {
        let now = self.now();
        let mut state = self.lock();
        state.load.finished(now, tokens);
        state.results.finish(now, judged.key, Ok(judged));
    }

    /// A group will not be judged.
    pub(super) fn gone(&self, order: &Order, why: Unjudged) {
        let now = self.now();
        let mut state = self.lock();
        state.load.gone(order.tokens);
        state.results.finish(now, order.key, Err(why));
    }

    /// Groups have come further.
    pub(super) fn advance(&self, groups: impl Iterator<Item = (GroupKey, Progress)>) {
        let mut state = self.lock();
        groups.for_each(|(key, progress)| state.results.advance(key, progress));
    }

    /// The thread has ended: nobody waits for it any more.
    pub(super) fn stop(&self) {
        self.is_running.store(false, Ordering::Release);
        // also where the thread panicked in the middle of something
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.results.stop();
    }
}

/// The way to the judge's thread.
#[derive(Clone)]
pub struct ScorerHandle {
    commands: Sender<Command>,
    desk: Arc<Desk>,
    restored: Arc<Mutex<Restored>>,
    thought_tokens: usize,
    pub(super) figures: Figures,
    pub(super) config: Arc<ServerConfig>,
    pub(super) judge: Arc<str>,
    pub(super) tournament: Arc<TournamentConfig>,
}

impl ScorerHandle {
    /// Starts the thread. It ends once every handle is gone and its groups are scored.
    ///
    /// # Errors
    /// [`Error::Config`] where no thread can be started; [`Error::Schema`] where the dump's folder cannot be
    /// used.
    pub fn spawn(
        scorer: Scorer,
        config: ServerConfig,
    ) -> Result<(Self, std::thread::JoinHandle<()>), Error> {
        let figures = Figures::new();
        let (recorder, restored) = match &config.dump {
            Some(dump) => {
                let (recorder, restored) = Recorder::open(dump, &figures)?;
                (Some(recorder), restored)
            }
            None => (None, Restored::default()),
        };
        let limits = Limits {
            groups: config.queue_capacity,
            tokens: config.queue_tokens,
            time: config.timeout,
        };
        let mut results = Results::new(config.cohorts.keep, config.keep_bytes);
        for (age, judged) in &restored.judged {
            results.restore(Duration::ZERO, *age, Arc::clone(judged));
        }
        let desk = Arc::new(Desk {
            state: Mutex::new(State { results, load: Load::new(limits) }),
            started: Instant::now(),
            is_running: AtomicBool::new(true),
        });
        let (commands, receive) = bounded(config.queue_capacity + restored.jobs.len() + MAX_NOTES);
        let handle = Self {
            commands,
            desk: Arc::clone(&desk),
            restored: Arc::new(Mutex::new(restored)),
            thought_tokens: scorer.config().judge.max_thinking_tokens / 2,
            figures: figures.clone(),
            judge: scorer.judge_name().into(),
            tournament: Arc::new(scorer.config().tournament.clone()),
            config: Arc::new(config),
        };
        let worker = Worker {
            scorer,
            commands: receive,
            desk,
            figures,
            recorder,
            queue: FairQueue::new(),
            places: Default::default(),
            playing: Default::default(),
            chats: Default::default(),
            n_chats: 0,
        };
        let thread = std::thread::Builder::new()
            .name("scorer".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| Error::Config(format!("no thread for the scorer: {error}")))?;
        handle.go_on();
        Ok((handle, thread))
    }

    /// Who judges.
    pub fn judge(&self) -> &str {
        &self.judge
    }

    /// Judges the jobs that a killed server had accepted.
    fn go_on(&self) {
        let jobs = std::mem::take(&mut self.restored().jobs);
        for (key, group, client) in jobs {
            let (kept, _) = oneshot::channel();
            let accept = |(_, _)| {
                let (group, client) = (Box::new(group.clone()), client.clone());
                self.commands
                    .try_send(Command::Accept { key, group, client, kept })
                    .map_err(|error| refused(&error))
            };
            if let Err(why) = self.begin(group.clone(), &client, None).and_then(accept) {
                tracing::warn!(job = %key, ?why, "A job of the last start could not be taken up again.");
            }
        }
    }

    fn restored(&self) -> MutexGuard<'_, Restored> {
        self.restored.lock().expect("nobody panics with it in hand. This is a bug.")
    }

    /// What was known at the start of groups whose members came one by one; given away once.
    pub(super) fn take_restored(&self) -> Restored {
        std::mem::take(&mut self.restored())
    }

    /// Groups that wait or are being judged.
    pub(super) fn n_open(&self) -> usize {
        self.desk.lock().load.n_groups()
    }

    /// Their estimated tokens.
    pub(super) fn n_tokens(&self) -> u64 {
        self.desk.lock().load.n_tokens()
    }

    /// Results that are kept, and their size in bytes.
    pub(super) fn n_kept(&self) -> (usize, usize) {
        self.desk.lock().results.n_kept()
    }

    /// Whether the judge's thread is there.
    pub(super) fn is_running(&self) -> bool {
        self.desk.is_running.load(Ordering::Acquire)
    }

    /// The result of a group: a known one, that of the judging that is under way, or of its own.
    pub(super) async fn score(
        &self,
        group: GroupRequest,
        client: &str,
        cohort: Option<CohortRecord>,
    ) -> Result<Arc<Judged>, Unscored> {
        let receive = match self.begin(group, client, cohort)? {
            (_, Found::Over(judged)) => return Ok(judged),
            (_, Found::Running(receive)) => receive,
        };
        match tokio::time::timeout(self.config.timeout, receive).await {
            Ok(Ok(outcome)) => of_outcome(outcome),
            Ok(Err(_)) => Err(Unscored::Stopped),
            Err(_) => Err(Unscored::TooLate(format!("no result within {:?}", self.config.timeout))),
        }
    }

    /// Hands a group over whose result is asked for later, and returns what to ask by. What was accepted is
    /// judged also where the server is killed and started again.
    pub(super) async fn accept(
        &self,
        group: GroupRequest,
        client: &str,
    ) -> Result<GroupKey, Unscored> {
        let (key, found) = self.begin(group.clone(), client, None)?;
        if let Found::Running(_) = found {
            let (kept, answer) = oneshot::channel();
            let client = client.to_owned();
            let accept = Command::Accept { key, group: Box::new(group), client, kept };
            self.commands.try_send(accept).map_err(|error| refused(&error))?;
            answer.await.map_err(|_| Unscored::Stopped)?;
        }
        Ok(key)
    }

    fn begin(
        &self,
        group: GroupRequest,
        client: &str,
        cohort: Option<CohortRecord>,
    ) -> Result<(GroupKey, Found), Unscored> {
        let key = GroupKey::of(&group);
        let tournament = group.tournament.as_ref().unwrap_or(&self.tournament);
        let tokens = estimate(&group, tournament, self.thought_tokens);
        let now = self.desk.now();
        let mut state = self.desk.lock();
        if let Some(found) = state.results.find(now, key) {
            self.figures.was_known();
            return Ok((key, found));
        }
        if !self.is_running() {
            return Err(Unscored::Stopped);
        }
        state.load.take(now, tokens).map_err(Unscored::Full)?;
        let receive = state.results.begin(key);
        let client = client.to_owned();
        let order = Order { key, group, client, cohort, tokens };
        if let Err(error) = self.commands.try_send(Command::Judge(Box::new(order))) {
            state.load.gone(tokens);
            state.results.withdraw(key);
            return Err(refused(&error));
        }
        Ok((key, Found::Running(receive)))
    }

    /// How far a group is; none where it is not known.
    pub(super) fn stage(&self, key: GroupKey) -> Option<Stage> {
        self.desk.lock().results.stage(key)
    }

    /// Hears of every stage of a group that is under way.
    pub(super) fn watch(&self, key: GroupKey) -> Option<watch::Receiver<Stage>> {
        self.desk.lock().results.watch(key)
    }

    /// Asks for the end of a group's judging; all who wait for it are told.
    pub(super) fn cancel(&self, key: GroupKey) -> Result<(), Unscored> {
        self.commands.try_send(Command::Cancel(key)).map_err(|error| refused(&error))
    }

    /// A member of a group whose members came one by one has got its answer.
    pub(super) fn delivered(&self, key: GroupKey, member: usize) {
        // where there is no room for the note, a restarted server would answer that member once more
        let _ = self.commands.try_send(Command::Delivered { key, member });
    }

    /// Asks the judge's model itself.
    pub(super) async fn chat(&self, request: ChatRequest) -> Result<ChatReply, Unscored> {
        let bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
        let tokens = (bytes / 4 + request.max_tokens.unwrap_or(self.thought_tokens)) as u64;
        let now = self.desk.now();
        self.desk.lock().load.take(now, tokens).map_err(Unscored::Full)?;
        let _room = Room { desk: &self.desk, tokens };
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.try_send(Command::Chat(Box::new(request), reply));
        sent.map_err(|error| refused(&error))?;
        match tokio::time::timeout(self.config.timeout, answer).await {
            Ok(Ok(Ok(reply))) => Ok(reply),
            Ok(Ok(Err(JudgeError::Refused(reason) | JudgeError::Failed(reason)))) => {
                Err(Unscored::Bad(reason))
            }
            Ok(Err(_)) => Err(Unscored::Stopped),
            Err(_) => Err(Unscored::TooLate(format!("no answer within {:?}", self.config.timeout))),
        }
    }
}

/// Given back when it goes.
struct Room<'a> {
    desk: &'a Desk,
    tokens: u64,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.desk.lock().load.gone(self.tokens);
    }
}

/// What an outcome means to who waited for it.
pub(super) fn of_outcome(outcome: Outcome) -> Result<Arc<Judged>, Unscored> {
    outcome.map_err(|why| match why {
        Unjudged::Bad(reason) => Unscored::Bad(reason),
        Unjudged::Cancelled => Unscored::Cancelled,
    })
}

fn refused<T>(error: &TrySendError<T>) -> Unscored {
    match error {
        TrySendError::Full(_) => Unscored::Full(Full {
            reason: "too much waits for the judge's thread".to_owned(),
            after: Duration::from_secs(1),
        }),
        TrySendError::Disconnected(_) => Unscored::Stopped,
    }
}
