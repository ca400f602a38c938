//! Handle to the judge thread: admission control, dispatch, and single flight for identical groups.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use tokio::sync::{oneshot, watch};

use super::admission::{Limits, estimate};
use super::commands::{Command, PendingChat, QueuedChat, ScoreRequest};
use super::fair_queue::FairQueue;
use super::ledger::{AdmissionPermit, Ledger};
use super::results::{Found, Results, Stage};
use super::thread::Worker;
use crate::config::ServerConfig;
use crate::dump::recorder::{Recorder, Restored};
use crate::figures::Figures;
use crate::judged::{CohortRecord, GroupKey, Judged};
use crate::problem::Problem;
use joust_reward::Error;
use joust_reward::GroupRequest;
use joust_reward::Scorer;
use joust_reward::TournamentConfig;
use joust_reward::judge::{CacheStats, ChatReply, ChatRequest, JudgeError, JudgeServers};

/// Maximum number of notes and cancellations that wait for the thread, beside the groups.
const MAX_NOTES: usize = 4096;

/// Handle to the judge thread.
#[derive(Clone)]
pub struct ScorerHandle {
    commands: Sender<Command>,
    ledger: Arc<Ledger>,
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
    /// [`Error::Config`] where no thread can be started; [`Error::Schema`] where the dump's folder
    /// cannot be used.
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
        let ledger = Arc::new(Ledger::new(limits, results));
        let (commands, receive) =
            bounded(2 * config.queue_capacity + restored.jobs.len() + MAX_NOTES);
        let handle = Self {
            commands,
            ledger: Arc::clone(&ledger),
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
            ledger,
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
        handle.resume_jobs();
        Ok((handle, thread))
    }

    /// Name of the judge.
    pub fn judge(&self) -> &str {
        &self.judge
    }

    /// Resumes the jobs that an earlier start accepted.
    fn resume_jobs(&self) {
        let jobs = std::mem::take(&mut self.restored().jobs);
        for (key, (group, client)) in jobs {
            // it was accepted once: there is room for it
            let request = self.request(group.clone(), &client, None);
            let begun = self.begin(request, true).map_err(|(why, _)| why);
            if let Err(why) = begun.and_then(|_| self.keep_job(key, group, &client)) {
                tracing::warn!(job = %key, ?why, "A job of the last start could not be resumed.");
            }
        }
    }

    fn restored(&self) -> MutexGuard<'_, Restored> {
        self.restored.lock().expect("restored state lock poisoned. This is a bug.")
    }

    /// What was known at the start of groups whose members came one by one; given away once.
    pub(crate) fn take_restored(&self) -> Restored {
        std::mem::take(&mut self.restored())
    }

    /// Number of queued and judged groups.
    pub(crate) fn n_open(&self) -> usize {
        self.ledger.lock().admission.n_groups()
    }

    /// Estimated judge tokens of those groups.
    pub(crate) fn n_tokens(&self) -> u64 {
        self.ledger.lock().admission.n_tokens()
    }

    /// Number and bytes of cached results.
    pub(crate) fn n_kept(&self) -> (usize, usize) {
        self.ledger.lock().results.n_kept()
    }

    /// False once the judge thread has ended.
    pub(crate) fn is_running(&self) -> bool {
        *self.ledger.is_running.borrow()
    }

    /// The result of a group: a known one, that of the judging that is under way, or of its own.
    pub(crate) async fn score(
        &self,
        group: GroupRequest,
        client: &str,
        cohort: Option<CohortRecord>,
    ) -> Result<Arc<Judged>, Problem> {
        let request = self.request(group, client, cohort);
        let found = self.begin(request, false).map_err(|(why, _)| why)?;
        self.result(found).await
    }

    /// The result of a group that was found.
    pub(crate) async fn result(&self, found: Found) -> Result<Arc<Judged>, Problem> {
        let receive = match found {
            Found::Over(judged) => return Ok(judged),
            Found::Running(receive) => receive,
        };
        match tokio::time::timeout(self.config.timeout, receive).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Problem::JudgeStopped),
            Err(_) => Err(Problem::TooLate(format!("no result within {:?}", self.config.timeout))),
        }
    }

    /// Hands a group over whose result is asked for later, and returns what to ask by. What was
    /// accepted is judged also where the server is killed and started again.
    pub(crate) async fn accept(
        &self,
        group: GroupRequest,
        client: &str,
    ) -> Result<GroupKey, Problem> {
        let request = self.request(group.clone(), client, None);
        let key = request.key;
        let found = self.begin(request, false).map_err(|(why, _)| why)?;
        if let Found::Running(_) = found {
            let kept = self.keep_job(key, group, client)?;
            self.unless_stopped(kept).await?;
        }
        Ok(key)
    }

    /// Records a job; the receiver completes once it is in the journal.
    fn keep_job(
        &self,
        key: GroupKey,
        group: GroupRequest,
        client: &str,
    ) -> Result<oneshot::Receiver<()>, Problem> {
        let (kept, answer) = oneshot::channel();
        let client = client.to_owned();
        self.ledger.lock().results.hold(key, &client);
        let accept = Command::Accept { key, group: Box::new(group), client, kept };
        self.commands.try_send(accept).map_err(|_| self.refused())?;
        Ok(answer)
    }

    /// What is to be judged, with all that is known of it before.
    pub(crate) fn request(
        &self,
        group: GroupRequest,
        client: &str,
        cohort: Option<CohortRecord>,
    ) -> Box<ScoreRequest> {
        let (key, group_json) = GroupKey::of(&group);
        let tournament = group.tournament.as_ref().unwrap_or(&self.tournament);
        let tokens = estimate(&group, tournament, self.thought_tokens);
        Box::new(ScoreRequest { key, group, group_json, client: client.to_owned(), cohort, tokens })
    }

    /// Hands a request over once there is room for it, and takes it out of `request` then. To be
    /// called again where it was not waited for to the end.
    pub(crate) async fn begin_in_turn(
        &self,
        request: &mut Option<Box<ScoreRequest>>,
    ) -> Result<Found, Problem> {
        let mut released = self.ledger.released.subscribe();
        loop {
            let waiting = request.take().expect("it is called with an request. This is a bug.");
            match self.begin(waiting, false) {
                Ok(found) => return Ok(found),
                Err((Problem::QueueFull { after, .. }, waiting)) => {
                    *request = Some(waiting);
                    // room that nobody tells of: the judge has become faster, its thread has caught
                    // up
                    let _ = tokio::time::timeout(after, released.changed()).await;
                }
                Err((why, _)) => return Err(why),
            }
        }
    }

    /// Hands a request over, where nobody has asked for the same; gives it back where it is
    /// refused. `is_accepted` finds room for it always.
    fn begin(
        &self,
        request: Box<ScoreRequest>,
        is_accepted: bool,
    ) -> Result<Found, (Problem, Box<ScoreRequest>)> {
        let (key, tokens) = (request.key, request.tokens);
        let now = self.ledger.now();
        let mut state = self.ledger.lock();
        if let Some(found) = state.results.find(now, key) {
            self.figures.was_known();
            return Ok(found);
        }
        if !self.is_running() {
            return Err((Problem::JudgeStopped, request));
        }
        if is_accepted {
            state.admission.admit_unchecked(now, &request.client, tokens);
        } else if let Err(full) = state.admission.try_admit(now, &request.client, tokens) {
            return Err((full, request));
        }
        let receive = state.results.begin(key);
        match self.commands.try_send(Command::Judge(request)) {
            Ok(()) => Ok(Found::Running(receive)),
            Err(error) => {
                let Command::Judge(request) = error.into_inner() else {
                    unreachable!("what was sent comes back. This is a bug.")
                };
                state.admission.release(&request.client, tokens);
                state.results.withdraw(key);
                Err((self.refused(), request))
            }
        }
    }

    /// Waits for an answer of the thread, or for its end.
    async fn unless_stopped<T>(&self, answer: oneshot::Receiver<T>) -> Result<T, Problem> {
        let mut is_running = self.ledger.is_running.subscribe();
        tokio::select! {
            answer = answer => answer.map_err(|_| Problem::JudgeStopped),
            _ = is_running.wait_for(|is_running| !is_running) => Err(Problem::JudgeStopped),
        }
    }

    /// Why the thread took no command.
    fn refused(&self) -> Problem {
        if !self.is_running() {
            return Problem::JudgeStopped;
        }
        Problem::QueueFull {
            reason: "too many commands wait for the judge thread".to_owned(),
            after: Duration::from_secs(1),
        }
    }

    /// Stage of a group; none if it is unknown.
    pub(crate) fn stage(&self, key: GroupKey) -> Option<Stage> {
        let now = self.ledger.now();
        self.ledger.lock().results.stage(now, key)
    }

    /// Receives every stage of a group in flight.
    pub(crate) fn watch(&self, key: GroupKey) -> Option<watch::Receiver<Stage>> {
        self.ledger.lock().results.watch(key)
    }

    /// Ends a group's judging, where nobody wants it but `client`.
    pub(crate) async fn cancel(&self, key: GroupKey, client: &str) -> Result<(), Problem> {
        let (answer, ended) = oneshot::channel();
        let cancel = Command::Cancel { key, client: client.to_owned(), answer };
        self.commands.try_send(cancel).map_err(|_| self.refused())?;
        self.unless_stopped(ended).await?.map_err(Problem::StillWanted)
    }

    /// A member of a group whose members came one by one has got its answer.
    pub(crate) fn delivered(&self, key: GroupKey, member: usize) {
        // where there is no room for the note, a restarted server would answer that member once
        // more
        let _ = self.commands.try_send(Command::Delivered { key, member });
    }

    /// Sends a conversation to the judge's model.
    pub(crate) async fn chat(
        &self,
        request: ChatRequest,
        client: &str,
    ) -> Result<ChatReply, Problem> {
        let bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
        let tokens = (bytes / 4 + request.max_tokens.unwrap_or(self.thought_tokens)) as u64;
        let now = self.ledger.now();
        self.ledger.lock().admission.try_admit(now, client, tokens)?;
        let permit =
            AdmissionPermit { ledger: Arc::clone(&self.ledger), client: client.to_owned(), tokens };
        let (reply, answer) = oneshot::channel();
        let chat = QueuedChat { request, pending: PendingChat { reply, permit } };
        let sent = self.commands.try_send(Command::Chat(Box::new(chat)));
        sent.map_err(|_| self.refused())?;
        match tokio::time::timeout(self.config.timeout, self.unless_stopped(answer)).await {
            Ok(Ok(Ok(reply))) => Ok(reply),
            Ok(Ok(Err(JudgeError::Refused(reason)))) => Err(Problem::Invalid(reason)),
            Ok(Ok(Err(JudgeError::Failed(reason)))) => Err(Problem::JudgeFailed(reason)),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(Problem::TooLate(format!("no answer within {:?}", self.config.timeout))),
        }
    }
}
