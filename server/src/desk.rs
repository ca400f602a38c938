//! The way to the judge: refuses what there is no room for, hands the rest over, and gives everyone who asks
//! for the same group the one result of its one judging.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};
use tokio::sync::{oneshot, watch};

use super::ServerConfig;
use super::commands::{Asker, Chat, Command, Order, Room};
use super::figures::Figures;
use super::load::{Full, Limits, Load, estimate};
use super::queue::FairQueue;
use super::recorder::{Recorder, Restored};
use super::results::{CohortRecord, Found, GroupKey, Judged, Results, Stage, Unjudged};
use super::thread::Worker;
use super::unscored::{Unscored, of_outcome};
use joust_reward::Error;
use joust_reward::Scorer;
use joust_reward::TournamentConfig;
use joust_reward::arena::{GroupRequest, Progress};
use joust_reward::judge::{CacheStats, ChatReply, ChatRequest, JudgeError, JudgeServers};

/// Notes and cancellations that may wait for the thread, beside the groups.
const MAX_NOTES: usize = 4096;

/// What threads and requests share.
pub(crate) struct Desk {
    state: Mutex<State>,
    started: Instant,
    /// False once the thread has ended.
    is_running: watch::Sender<bool>,
    /// Changes whenever there is more room than before.
    room: watch::Sender<()>,
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
    pub(crate) fn finish(&self, judged: Arc<Judged>, client: &str, tokens: u64) {
        let now = self.now();
        let mut state = self.lock();
        state.load.finished(now, client, tokens);
        state.results.finish(now, judged.key, Ok(judged));
        self.room.send_replace(());
    }

    /// A group will not be judged.
    pub(crate) fn gone(&self, order: &Order, why: Unjudged) {
        let now = self.now();
        let mut state = self.lock();
        state.load.gone(&order.client, order.tokens);
        state.results.finish(now, order.key, Err(why));
        self.room.send_replace(());
    }

    /// Ends the judging of a group that nobody wants but `client`; false where it is not under way.
    ///
    /// # Errors
    /// How many others want it; nothing has changed then but that `client` has no job any more.
    pub(crate) fn cancel(&self, key: GroupKey, client: &str) -> Result<bool, usize> {
        let now = self.now();
        let mut state = self.lock();
        match state.results.n_wanting(key, client) {
            None => Ok(false),
            Some(0) => {
                // at once, so that who asks from now on has it judged anew
                state.results.finish(now, key, Err(Unjudged::Cancelled));
                Ok(true)
            }
            Some(others) => Err(others),
        }
    }

    /// A group whose judging was ended takes up no more room.
    pub(crate) fn leave(&self, client: &str, tokens: u64) {
        // also where a thread has panicked in the middle of something: this may run while one unwinds
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.load.gone(client, tokens);
        drop(state);
        self.room.send_replace(());
    }

    /// Groups have come further.
    pub(crate) fn advance(&self, groups: impl Iterator<Item = (GroupKey, Progress)>) {
        let mut state = self.lock();
        groups.for_each(|(key, progress)| state.results.advance(key, progress));
    }

    /// The thread has ended: nobody waits for it any more.
    pub(crate) fn stop(&self) {
        // also where the thread panicked in the middle of something
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // first, so that none begins to wait between
        self.is_running.send_replace(false);
        state.results.stop();
        self.room.send_replace(());
    }
}

/// The way to the judge's thread.
#[derive(Clone)]
pub struct ScorerHandle {
    commands: Sender<Command>,
    desk: Arc<Desk>,
    restored: Arc<Mutex<Restored>>,
    thought_tokens: usize,
    pub(crate) figures: Figures,
    pub(crate) config: Arc<ServerConfig>,
    /// What the verdict cache counts, where there is one.
    pub(crate) cache: Option<Arc<CacheStats>>,
    pub(crate) servers: Option<Arc<dyn JudgeServers>>,
    pub(crate) judge: Arc<str>,
    pub(crate) tournament: Arc<TournamentConfig>,
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
        let mut config = config;
        if let Some(dump) = &mut config.dump {
            let settings = serde_json::to_string(scorer.config());
            let settings = settings.expect("settings are plain data. This is a bug.");
            let hash = blake3::hash(settings.as_bytes()).to_hex();
            dump.judged_by = format!("{} {}", scorer.judge_name(), &hash[..16]);
        }
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
            is_running: watch::Sender::new(true),
            room: watch::Sender::new(()),
        });
        let (commands, receive) =
            bounded(2 * config.queue_capacity + restored.jobs.len() + MAX_NOTES);
        let handle = Self {
            commands,
            desk: Arc::clone(&desk),
            restored: Arc::new(Mutex::new(restored)),
            thought_tokens: scorer.config().judge.max_thinking_tokens / 2,
            figures: figures.clone(),
            cache: scorer.cache_stats(),
            servers: scorer.judge_servers(),
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
            handles: Default::default(),
            n_waiting_chats: 0,
            chats: Default::default(),
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
        for (key, (group, client)) in jobs {
            // it was accepted once: there is room for it
            let order = self.order(group.clone(), &client, None);
            let begun = self.begin(order, true).map_err(|(why, _)| why);
            if let Err(why) = begun.and_then(|_| self.keep_job(key, group, &client)) {
                tracing::warn!(job = %key, ?why, "A job of the last start could not be taken up again.");
            }
        }
    }

    fn restored(&self) -> MutexGuard<'_, Restored> {
        self.restored.lock().expect("nobody panics with it in hand. This is a bug.")
    }

    /// What was known at the start of groups whose members came one by one; given away once.
    pub(crate) fn take_restored(&self) -> Restored {
        std::mem::take(&mut self.restored())
    }

    /// Groups that wait or are being judged.
    pub(crate) fn n_open(&self) -> usize {
        self.desk.lock().load.n_groups()
    }

    /// Their estimated tokens.
    pub(crate) fn n_tokens(&self) -> u64 {
        self.desk.lock().load.n_tokens()
    }

    /// Results that are kept, and their size in bytes.
    pub(crate) fn n_kept(&self) -> (usize, usize) {
        self.desk.lock().results.n_kept()
    }

    /// Whether the judge's thread is there.
    pub(crate) fn is_running(&self) -> bool {
        *self.desk.is_running.borrow()
    }

    /// The result of a group: a known one, that of the judging that is under way, or of its own.
    pub(crate) async fn score(
        &self,
        group: GroupRequest,
        client: &str,
        cohort: Option<CohortRecord>,
    ) -> Result<Arc<Judged>, Unscored> {
        let order = self.order(group, client, cohort);
        let found = self.begin(order, false).map_err(|(why, _)| why)?;
        self.result(found).await
    }

    /// The result of a group that was found.
    pub(crate) async fn result(&self, found: Found) -> Result<Arc<Judged>, Unscored> {
        let receive = match found {
            Found::Over(judged) => return Ok(judged),
            Found::Running(receive) => receive,
        };
        match tokio::time::timeout(self.config.timeout, receive).await {
            Ok(Ok(outcome)) => of_outcome(outcome),
            Ok(Err(_)) => Err(Unscored::Stopped),
            Err(_) => Err(Unscored::TooLate(format!("no result within {:?}", self.config.timeout))),
        }
    }

    /// Hands a group over whose result is asked for later, and returns what to ask by. What was accepted is
    /// judged also where the server is killed and started again.
    pub(crate) async fn accept(
        &self,
        group: GroupRequest,
        client: &str,
    ) -> Result<GroupKey, Unscored> {
        let order = self.order(group.clone(), client, None);
        let key = order.key;
        let found = self.begin(order, false).map_err(|(why, _)| why)?;
        if let Found::Running(_) = found {
            let kept = self.keep_job(key, group, client)?;
            self.unless_stopped(kept).await?;
        }
        Ok(key)
    }

    /// Has a job kept in mind; the answer comes once it is.
    fn keep_job(
        &self,
        key: GroupKey,
        group: GroupRequest,
        client: &str,
    ) -> Result<oneshot::Receiver<()>, Unscored> {
        let (kept, answer) = oneshot::channel();
        let client = client.to_owned();
        self.desk.lock().results.hold(key, &client);
        let accept = Command::Accept { key, group: Box::new(group), client, kept };
        self.commands.try_send(accept).map_err(|_| self.refused())?;
        Ok(answer)
    }

    /// What is to be judged, with all that is known of it before.
    pub(crate) fn order(
        &self,
        group: GroupRequest,
        client: &str,
        cohort: Option<CohortRecord>,
    ) -> Box<Order> {
        let key = GroupKey::of(&group);
        let tournament = group.tournament.as_ref().unwrap_or(&self.tournament);
        let tokens = estimate(&group, tournament, self.thought_tokens);
        Box::new(Order { key, group, client: client.to_owned(), cohort, tokens })
    }

    /// Hands an order over once there is room for it, and takes it out of `order` then. To be called again
    /// where it was not waited for to the end.
    pub(crate) async fn begin_in_turn(
        &self,
        order: &mut Option<Box<Order>>,
    ) -> Result<Found, Unscored> {
        let mut room = self.desk.room.subscribe();
        loop {
            let waiting = order.take().expect("it is called with an order. This is a bug.");
            match self.begin(waiting, false) {
                Ok(found) => return Ok(found),
                Err((Unscored::Full(full), waiting)) => {
                    *order = Some(waiting);
                    // room that nobody tells of: the judge has become faster, its thread has caught up
                    let _ = tokio::time::timeout(full.after, room.changed()).await;
                }
                Err((why, _)) => return Err(why),
            }
        }
    }

    /// Hands an order over, where nobody has asked for the same; gives it back where it is refused.
    /// `is_accepted` finds room for it always.
    fn begin(&self, order: Box<Order>, is_accepted: bool) -> Result<Found, (Unscored, Box<Order>)> {
        let (key, tokens) = (order.key, order.tokens);
        let now = self.desk.now();
        let mut state = self.desk.lock();
        if let Some(found) = state.results.find(now, key) {
            self.figures.was_known();
            return Ok(found);
        }
        if !self.is_running() {
            return Err((Unscored::Stopped, order));
        }
        if is_accepted {
            state.load.add(now, &order.client, tokens);
        } else if let Err(full) = state.load.take(now, &order.client, tokens) {
            return Err((Unscored::Full(full), order));
        }
        let receive = state.results.begin(key);
        match self.commands.try_send(Command::Judge(order)) {
            Ok(()) => Ok(Found::Running(receive)),
            Err(error) => {
                let Command::Judge(order) = error.into_inner() else {
                    unreachable!("what was sent comes back. This is a bug.")
                };
                state.load.gone(&order.client, tokens);
                state.results.withdraw(key);
                Err((self.refused(), order))
            }
        }
    }

    /// Waits for what the thread says; it may end instead.
    async fn unless_stopped<T>(&self, answer: oneshot::Receiver<T>) -> Result<T, Unscored> {
        let mut is_running = self.desk.is_running.subscribe();
        tokio::select! {
            answer = answer => answer.map_err(|_| Unscored::Stopped),
            _ = is_running.wait_for(|is_running| !is_running) => Err(Unscored::Stopped),
        }
    }

    /// Why the thread takes nothing now.
    fn refused(&self) -> Unscored {
        if !self.is_running() {
            return Unscored::Stopped;
        }
        Unscored::Full(Full {
            reason: "too much waits for the judge's thread".to_owned(),
            after: Duration::from_secs(1),
        })
    }

    /// How far a group is; none where it is not known.
    pub(crate) fn stage(&self, key: GroupKey) -> Option<Stage> {
        let now = self.desk.now();
        self.desk.lock().results.stage(now, key)
    }

    /// Hears of every stage of a group that is under way.
    pub(crate) fn watch(&self, key: GroupKey) -> Option<watch::Receiver<Stage>> {
        self.desk.lock().results.watch(key)
    }

    /// Ends a group's judging, where nobody wants it but `client`.
    pub(crate) async fn cancel(&self, key: GroupKey, client: &str) -> Result<(), Unscored> {
        let (answer, ended) = oneshot::channel();
        let cancel = Command::Cancel { key, client: client.to_owned(), answer };
        self.commands.try_send(cancel).map_err(|_| self.refused())?;
        self.unless_stopped(ended).await?.map_err(Unscored::Wanted)
    }

    /// A member of a group whose members came one by one has got its answer.
    pub(crate) fn delivered(&self, key: GroupKey, member: usize) {
        // where there is no room for the note, a restarted server would answer that member once more
        let _ = self.commands.try_send(Command::Delivered { key, member });
    }

    /// Asks the judge's model itself.
    pub(crate) async fn chat(
        &self,
        request: ChatRequest,
        client: &str,
    ) -> Result<ChatReply, Unscored> {
        let bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
        let tokens = (bytes / 4 + request.max_tokens.unwrap_or(self.thought_tokens)) as u64;
        let now = self.desk.now();
        self.desk.lock().load.take(now, client, tokens).map_err(Unscored::Full)?;
        let room = Room { desk: Arc::clone(&self.desk), client: client.to_owned(), tokens };
        let (reply, answer) = oneshot::channel();
        let chat = Chat { request, asker: Asker { reply, room } };
        let sent = self.commands.try_send(Command::Chat(Box::new(chat)));
        sent.map_err(|_| self.refused())?;
        match tokio::time::timeout(self.config.timeout, self.unless_stopped(answer)).await {
            Ok(Ok(Ok(reply))) => Ok(reply),
            Ok(Ok(Err(JudgeError::Refused(reason)))) => Err(Unscored::Bad(reason)),
            Ok(Ok(Err(JudgeError::Failed(reason)))) => Err(Unscored::Failed(reason)),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(Unscored::TooLate(format!("no answer within {:?}", self.config.timeout))),
        }
    }
}
