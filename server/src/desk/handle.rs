//! Handle to the judge thread: admission control, dispatch, and single flight for identical groups.
//!
//! Knows no route and no protocol.

mod jobs;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use serde::Serialize;
use tokio::sync::{oneshot, watch};

use super::admission::{Limits, Workload, estimate, text_bytes};
use super::commands::{JudgeCommand, PendingChat, QueuedChat, ScoreRequest};
use super::ledger::{AdmissionPermit, Ledger};
use super::results::{GroupLookup, GroupStage, Results};
use super::thread::Worker;
use crate::client::Client;
use crate::config::ServerConfig;
use crate::dump::health::DumpHealth;
use crate::dump::recorder::{Recorder, Restored};
use crate::group::{NewGroup, check_work, work_of};
use crate::heavy;
use crate::judged::{CohortRecord, GroupKey, Judged};
use crate::metrics::ServerMetrics;
use crate::problem::Problem;
use joust_reward::Error;
use joust_reward::GroupRequest;
use joust_reward::Scorer;
use joust_reward::judge::{CacheStats, ChatReply, ChatRequest, JudgeError, JudgeServers};
use joust_reward::{JudgeConfig, RatingConfig, RewardConfig, RewardKind, TournamentConfig};

/// Capacity of the channel for commands other than groups: records, cancellations, conversations.
const MAX_OTHER_COMMANDS: usize = 4096;

/// Handle to the judge thread.
#[derive(Clone)]
pub struct ScorerHandle {
    commands: Sender<JudgeCommand>,
    ledger: Arc<Ledger>,
    restored: Arc<Mutex<Restored>>,
    /// Maximum tokens of a judge's thought.
    pub(crate) max_thinking_tokens: usize,
    pub(crate) metrics: ServerMetrics,
    /// Whether the dump can be written.
    pub(crate) dump_health: DumpHealth,
    pub(crate) config: Arc<ServerConfig>,
    /// Counters of the verdict cache, if there is one.
    pub(crate) cache: Option<Arc<CacheStats>>,
    /// Servers of the judge, if it calls any.
    pub(crate) servers: Option<Arc<dyn JudgeServers>>,
    /// Name of the judge.
    pub(crate) judge: Arc<str>,
    pub(crate) tournament: Arc<TournamentConfig>,
    /// False if rewards come from known answers alone.
    plays_matches: bool,
}

impl ScorerHandle {
    /// Starts the thread. It ends once every handle is dropped and its groups are judged.
    ///
    /// # Errors
    /// [`Error::Config`] if no thread can be started; [`Error::Schema`] if the dump's folder cannot
    /// be used.
    pub fn spawn(
        scorer: Scorer,
        mut config: ServerConfig,
    ) -> Result<(Self, std::thread::JoinHandle<()>), Error> {
        let metrics = ServerMetrics::new();
        if let Some(dump) = &mut config.dump {
            dump.judged_by = judge_fingerprint(&scorer);
        }
        let dump_health = DumpHealth::new(&metrics);
        let (recorder, restored) = match &config.dump {
            Some(dump) => {
                let (recorder, restored) = Recorder::open(dump, &dump_health)?;
                (Some(recorder), restored)
            }
            None => (None, Restored::default()),
        };
        let ledger = Arc::new(new_ledger(&config, &restored));
        let (commands, receive) =
            bounded(2 * config.queue_capacity + restored.jobs.len() + MAX_OTHER_COMMANDS);
        let handle = Self {
            commands,
            ledger: Arc::clone(&ledger),
            restored: Arc::new(Mutex::new(restored)),
            max_thinking_tokens: scorer.config().judge.max_thinking_tokens,
            metrics: metrics.clone(),
            dump_health,
            cache: scorer.cache_stats(),
            servers: scorer.judge_servers(),
            judge: scorer.judge_name().into(),
            tournament: Arc::new(scorer.config().tournament.clone()),
            plays_matches: scorer.config().kind != RewardKind::Correct,
            config: Arc::new(config),
        };
        let worker = Worker::new(scorer, receive, ledger, metrics, recorder);
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

    fn restored(&self) -> MutexGuard<'_, Restored> {
        self.restored.lock().expect("restored state lock poisoned. This is a bug.")
    }

    /// Takes what an earlier start knew of groups of single completions; empty at a second call.
    pub(crate) fn take_restored(&self) -> Restored {
        std::mem::take(&mut self.restored())
    }

    /// Expected tokens of a judge's thought.
    fn thought_tokens(&self) -> usize {
        self.max_thinking_tokens / 2
    }

    /// Number of queued and judged groups.
    pub(crate) fn n_open(&self) -> usize {
        self.ledger.counts.n_groups.load(Ordering::Relaxed)
    }

    /// Estimated judge tokens of those groups.
    pub(crate) fn n_tokens(&self) -> u64 {
        self.ledger.counts.n_tokens.load(Ordering::Relaxed)
    }

    /// Number and bytes of cached results.
    pub(crate) fn n_cached(&self) -> (usize, usize) {
        let counts = &self.ledger.counts;
        (counts.n_cached.load(Ordering::Relaxed), counts.cached_bytes.load(Ordering::Relaxed))
    }

    /// False once the judge thread has ended.
    pub(crate) fn is_running(&self) -> bool {
        *self.ledger.is_running.borrow()
    }

    /// The group with the server's tournament and seed where the client chose none.
    ///
    /// # Errors
    /// [`Problem::Invalid`]
    pub(crate) fn with_defaults(&self, group: NewGroup) -> Result<GroupRequest, Problem> {
        heavy::work_on(group.n_bytes(), || {
            let group = group.into_request(&self.tournament, self.config.seed)?;
            if self.plays_matches {
                check_work(&work_of(&group, &self.tournament))?;
            }
            Ok(group)
        })
    }

    /// The result of a group: cached, of the identical group in flight, or judged for this request.
    pub(crate) async fn score(
        &self,
        group: GroupRequest,
        client: &Client,
        cohort: Option<CohortRecord>,
    ) -> Result<Arc<Judged>, Problem> {
        let request = self.request(group, client, cohort);
        let begun = self.begin(request, AdmissionCheck::Enforce);
        self.result(begun.map_err(|(problem, _)| problem)?).await
    }

    /// Waits for the result of a group.
    pub(crate) async fn result(&self, lookup: GroupLookup) -> Result<Arc<Judged>, Problem> {
        let receive = match lookup {
            GroupLookup::Cached(judged) => return Ok(judged),
            GroupLookup::InFlight(receive) => receive,
        };
        match tokio::time::timeout(self.config.timeout, receive).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Problem::JudgeStopped),
            Err(_) => Err(Problem::TooLate(format!("no result within {:?}", self.config.timeout))),
        }
    }

    /// The request of a group: its key, its JSON and its estimated work.
    pub(crate) fn request(
        &self,
        group: GroupRequest,
        client: &Client,
        cohort: Option<CohortRecord>,
    ) -> Box<ScoreRequest> {
        let n_bytes = text_bytes(&group);
        let ((key, group_json), work) = heavy::work_on(n_bytes, || {
            let judging = work_of(&group, &self.tournament);
            let work =
                Workload { tokens: estimate(&judging, self.thought_tokens()), bytes: n_bytes };
            (GroupKey::of(client.tenant(), &group), work)
        });
        Box::new(ScoreRequest { key, group, group_json, client: client.clone(), cohort, work })
    }

    /// Submits a request once the queue has room for it; the request is taken out of `request`
    /// then. If the future is dropped before, call again with the same `request`.
    pub(crate) async fn begin_in_turn(
        &self,
        request: &mut Option<Box<ScoreRequest>>,
    ) -> Result<GroupLookup, Problem> {
        let mut released = self.ledger.released.subscribe();
        loop {
            let waiting = request.take().expect("the caller has a request. This is a bug.");
            match self.begin(waiting, AdmissionCheck::Enforce) {
                Ok(lookup) => return Ok(lookup),
                Err((Problem::QueueFull { after, .. }, waiting)) => {
                    *request = Some(waiting);
                    // room without a release: the judge became faster, or its thread took commands
                    let _ = tokio::time::timeout(after, released.changed()).await;
                }
                Err((problem, _)) => return Err(problem),
            }
        }
    }

    /// Submits a request, unless an identical group is in flight or cached.
    ///
    /// # Errors
    /// The problem, and the request back.
    fn begin(
        &self,
        request: Box<ScoreRequest>,
        check: AdmissionCheck,
    ) -> Result<GroupLookup, (Problem, Box<ScoreRequest>)> {
        let (key, work) = (request.key, request.work);
        let now = self.ledger.now();
        let mut state = self.ledger.lock();
        if let Some(lookup) = state.results.look_up(now, key) {
            self.metrics.count_shared_result();
            return Ok(lookup);
        }
        if !self.is_running() {
            return Err((Problem::JudgeStopped, request));
        }
        match check {
            AdmissionCheck::Skip => {
                state.admission.admit_unchecked(now, request.client.share(), work);
            }
            AdmissionCheck::Enforce => {
                if let Err(full) = state.admission.try_admit(now, request.client.share(), work) {
                    return Err((full, request));
                }
            }
        }
        let receive = state.results.begin(key, request.client.tenant());
        match self.commands.try_send(JudgeCommand::Score(request)) {
            Ok(()) => Ok(GroupLookup::InFlight(receive)),
            Err(error) => {
                let JudgeCommand::Score(request) = error.into_inner() else {
                    unreachable!("a refused command comes back as it was. This is a bug.")
                };
                state.admission.release(request.client.share(), work);
                state.results.withdraw(key);
                Err((self.why_refused(), request))
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

    /// Why a command could not be sent.
    fn why_refused(&self) -> Problem {
        if !self.is_running() {
            return Problem::JudgeStopped;
        }
        Problem::QueueFull {
            reason: "too many commands wait for the judge thread".to_owned(),
            after: Duration::from_secs(1),
        }
    }

    /// Stage of a group of the client's tenant; `None` if it is neither in flight nor cached.
    pub(crate) fn stage(&self, client: &Client, key: GroupKey) -> Option<GroupStage> {
        let now = self.ledger.now();
        self.ledger.lock().results.stage(now, client.tenant(), key)
    }

    /// Receives every stage of a group in flight.
    pub(crate) fn watch(&self, key: GroupKey) -> Option<watch::Receiver<GroupStage>> {
        self.ledger.lock().results.watch(key)
    }

    /// Cancels a group that only `client` wants.
    ///
    /// # Errors
    /// [`Problem::StillWanted`] if other requests or jobs want it.
    pub(crate) async fn cancel(&self, key: GroupKey, client: &Client) -> Result<(), Problem> {
        let (answer, ended) = oneshot::channel();
        let cancel = JudgeCommand::Cancel { key, client: client.clone(), answer };
        self.commands.try_send(cancel).map_err(|_| self.why_refused())?;
        self.unless_stopped(ended).await?.map_err(Problem::StillWanted)
    }

    /// Records that a member of a group of single completions was answered. Without the record a
    /// restarted server answers the member again, so a full channel does no harm.
    pub(crate) fn record_delivery(&self, key: GroupKey, member: usize) {
        let _ = self.commands.try_send(JudgeCommand::RecordDelivery { key, member });
    }

    /// Sends a conversation to the judge's model.
    pub(crate) async fn chat(
        &self,
        request: ChatRequest,
        client: &Client,
    ) -> Result<ChatReply, Problem> {
        let bytes: usize = request.messages.iter().map(|message| message.content.len()).sum();
        let tokens = (bytes / 4 + request.max_tokens.unwrap_or(self.thought_tokens())) as u64;
        let work = Workload { tokens, bytes };
        let now = self.ledger.now();
        self.ledger.lock().admission.try_admit(now, client.share(), work)?;
        let permit =
            AdmissionPermit { ledger: Arc::clone(&self.ledger), client: client.clone(), work };
        let (reply, answer) = oneshot::channel();
        let chat = QueuedChat { request, pending: PendingChat { reply, permit } };
        let sent = self.commands.try_send(JudgeCommand::Chat(Box::new(chat)));
        sent.map_err(|_| self.why_refused())?;
        match tokio::time::timeout(self.config.timeout, self.unless_stopped(answer)).await {
            Ok(Ok(Ok(reply))) => Ok(reply),
            Ok(Ok(Err(JudgeError::Refused(reason)))) => Err(Problem::Invalid(reason)),
            Ok(Ok(Err(JudgeError::Failed(reason)))) => Err(Problem::JudgeFailed(reason)),
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err(Problem::TooLate(format!("no answer within {:?}", self.config.timeout))),
        }
    }
}

/// Whether the limits of the queue apply to a group.
#[derive(Clone, Copy)]
enum AdmissionCheck {
    Enforce,
    /// For jobs that were accepted before.
    Skip,
}

/// The settings that a result depends on. A reward of parts is not served.
#[derive(Serialize)]
struct JudgedBy<'a> {
    kind: RewardKind,
    max_failed: f64,
    judge: &'a JudgeConfig,
    tournament: &'a TournamentConfig,
    rating: &'a RatingConfig,
}

/// Name of the judge and a hash of its settings: results of another judge are no answers.
fn judge_fingerprint(scorer: &Scorer) -> String {
    let RewardConfig { kind, max_failed, judge, tournament, rating, .. } = scorer.config();
    let settings = JudgedBy { kind: *kind, max_failed: *max_failed, judge, tournament, rating };
    let settings = serde_json::to_string(&settings);
    let settings = settings.expect("settings are plain data. This is a bug.");
    let hash = blake3::hash(settings.as_bytes()).to_hex();
    format!("{} {}", scorer.judge_name(), &hash[..16])
}

/// A ledger with the results of an earlier start.
fn new_ledger(config: &ServerConfig, restored: &Restored) -> Ledger {
    let limits = Limits {
        groups: config.queue_capacity,
        tokens: config.queue_tokens,
        bytes: config.max_body_memory,
        time: config.timeout,
    };
    let mut results = Results::new(config.cohorts.keep, config.keep_bytes);
    for (age, judged) in &restored.judged {
        results.restore(Duration::ZERO, *age, Arc::clone(judged));
    }
    Ledger::new(limits, results)
}
