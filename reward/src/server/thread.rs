//! The thread that owns the judge: takes groups from the queue, plays them together, answers each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use joust_schema::ids::GroupId;
use tokio::sync::oneshot;

use super::ServerConfig;
use super::figures::Figures;
use crate::arena::{GroupRequest, GroupResult};
use crate::config::TournamentConfig;
use crate::dump;
use crate::error::Error;
use crate::scorer::Scorer;

/// An idle scorer writes what it has scored after this long.
const IDLE: Duration = Duration::from_secs(5);

type Reply = Result<GroupResult, String>;

/// A group on its way to the scorer, with the way back.
struct Job {
    group: GroupRequest,
    reply: oneshot::Sender<Reply>,
}

/// Why a group was not taken.
enum Refused {
    /// The queue is full.
    Full,
    /// The scorer's thread has ended.
    Stopped,
}

/// Why a group has no result.
pub(super) enum Unscored {
    /// The queue is full.
    Full(String),
    /// The scorer's thread has ended.
    Stopped,
    /// It took longer than the time limit.
    TooLate(String),
    /// It is no group that can be scored.
    Bad(String),
}

/// The way to the scorer's thread.
#[derive(Clone)]
pub struct ScorerHandle {
    jobs: Sender<Job>,
    open: Arc<AtomicUsize>,
    is_running: Arc<AtomicBool>,
    pub(super) figures: Figures,
    pub(super) config: Arc<ServerConfig>,
    pub(super) judge: Arc<str>,
    pub(super) tournament: Arc<TournamentConfig>,
}

impl ScorerHandle {
    /// Starts the thread. It ends once every handle is gone and its groups are scored.
    ///
    /// # Errors
    /// [`Error::Config`] where no thread can be started or the dump's folder cannot be made.
    pub fn spawn(
        scorer: Scorer,
        config: ServerConfig,
    ) -> Result<(Self, std::thread::JoinHandle<()>), Error> {
        if let Some(dir) = &config.dump {
            std::fs::create_dir_all(dir)
                .map_err(|source| Error::Schema(joust_schema::Error::io(dir, source)))?;
        }
        let (jobs, receive) = bounded(config.queue_capacity);
        let open = Arc::new(AtomicUsize::new(0));
        let config = Arc::new(config);
        let (is_running, figures) = (Arc::new(AtomicBool::new(true)), Figures::new());
        let handle = Self {
            jobs,
            open: Arc::clone(&open),
            is_running: Arc::clone(&is_running),
            figures: figures.clone(),
            judge: scorer.judge_name().into(),
            tournament: Arc::new(scorer.config().tournament.clone()),
            config: Arc::clone(&config),
        };
        let writer = Writer::new(&config);
        let thread = std::thread::Builder::new()
            .name("scorer".to_owned())
            .spawn(move || {
                // also where the thread panics
                let _running = Running(is_running);
                run(scorer, &receive, &open, &figures, writer);
            })
            .map_err(|error| Error::Config(format!("no thread for the scorer: {error}")))?;
        Ok((handle, thread))
    }

    /// Groups that wait or are being judged.
    pub(super) fn n_open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Whether the scorer's thread is there.
    pub(super) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Acquire)
    }

    /// Scores a group: hands it over and waits for its result.
    pub(super) async fn score(&self, group: GroupRequest) -> Result<GroupResult, Unscored> {
        let answer = self.submit(group).map_err(|refused| match refused {
            Refused::Full => {
                let capacity = self.config.queue_capacity;
                Unscored::Full(format!("the queue of {capacity} groups is full"))
            }
            Refused::Stopped => Unscored::Stopped,
        })?;
        match tokio::time::timeout(self.config.timeout, answer).await {
            Ok(Ok(result)) => result.map_err(Unscored::Bad),
            Ok(Err(_)) => Err(Unscored::Stopped),
            Err(_) => Err(Unscored::TooLate(format!("no result within {:?}", self.config.timeout))),
        }
    }

    /// Hands a group over.
    fn submit(&self, group: GroupRequest) -> Result<oneshot::Receiver<Reply>, Refused> {
        // counted before it is sent, so that the limit holds for groups in play as well
        let n_open = self.open.fetch_add(1, Ordering::AcqRel);
        let give_back = || self.open.fetch_sub(1, Ordering::AcqRel);
        if n_open >= self.config.queue_capacity {
            give_back();
            return Err(Refused::Full);
        }
        let (reply, answer) = oneshot::channel();
        match self.jobs.try_send(Job { group, reply }) {
            Ok(()) => Ok(answer),
            Err(error) => {
                give_back();
                Err(if error.is_full() { Refused::Full } else { Refused::Stopped })
            }
        }
    }
}

/// Set to false when it goes.
struct Running(Arc<AtomicBool>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn run(
    mut scorer: Scorer,
    jobs: &Receiver<Job>,
    open: &AtomicUsize,
    figures: &Figures,
    mut writer: Writer,
) {
    let mut waiting: BTreeMap<GroupId, Vec<oneshot::Sender<Reply>>> = BTreeMap::new();
    let mut n_taken: u64 = 0;
    loop {
        // wait only while there is nothing to do
        let next = match scorer.n_open() {
            0 => jobs.recv_timeout(IDLE).map_err(|error| error == RecvTimeoutError::Timeout),
            _ => jobs.try_recv().map_err(|error| error == TryRecvError::Empty),
        };
        match next {
            Ok(Job { mut group, reply }) => {
                // two clients may use one group id at once; inside, ids are unique
                n_taken += 1;
                let shown = group.group_id.clone();
                group.group_id = GroupId(format!("{n_taken}\u{0}{shown}"));
                let inner = group.group_id.clone();
                match scorer.add(group) {
                    Ok(()) => waiting.entry(inner).or_default().push(reply),
                    Err(error) => {
                        open.fetch_sub(1, Ordering::AcqRel);
                        // a client that has gone away needs no answer
                        let _ = reply.send(Err(error.to_string()));
                    }
                }
                continue;
            }
            Err(is_open) => {
                if scorer.n_open() == 0 {
                    writer.flush();
                    if !is_open {
                        return;
                    }
                    continue;
                }
            }
        }
        for mut result in scorer.pump() {
            let replies = waiting.remove(&result.group_id).unwrap_or_default();
            let shown = result.group_id.0.split_once('\u{0}').map(|(_, id)| id.to_owned());
            rename(&mut result, GroupId(shown.unwrap_or_default()));
            open.fetch_sub(1, Ordering::AcqRel);
            figures.judged(&result);
            writer.add(result.clone());
            for reply in replies {
                let _ = reply.send(Ok(result.clone()));
            }
        }
    }
}

/// Gives a result another group id, and its matches theirs.
fn rename(result: &mut GroupResult, group_id: GroupId) {
    let inner = std::mem::replace(&mut result.group_id, group_id.clone());
    let renamed = |text: &str| match text.strip_prefix(&inner.0) {
        Some(rest) => format!("{group_id}{rest}"),
        None => text.to_owned(),
    };
    for row in &mut result.rewards {
        row.group_id = group_id.clone();
    }
    for row in &mut result.matches {
        row.group_id = group_id.clone();
        row.match_id.0 = renamed(&row.match_id.0);
    }
    for row in &mut result.votes {
        row.match_id.0 = renamed(&row.match_id.0);
    }
}

/// Writes scored groups in sets, where a folder is configured.
struct Writer {
    dir: Option<PathBuf>,
    every: usize,
    n_written: usize,
    results: Vec<GroupResult>,
}

impl Writer {
    fn new(config: &ServerConfig) -> Self {
        let n_written = config.dump.as_deref().map_or(0, next_set);
        Self { dir: config.dump.clone(), every: config.dump_every, n_written, results: Vec::new() }
    }

    /// Takes a group in. Where its id is in the set already, the dump tells the two apart.
    fn add(&mut self, mut result: GroupResult) {
        if self.dir.is_some() {
            let shown = result.group_id.0.clone();
            for number in 2.. {
                if self.results.iter().all(|known| known.group_id != result.group_id) {
                    break;
                }
                rename(&mut result, GroupId(format!("{shown}#{number}")));
            }
            self.results.push(result);
            if self.results.len() >= self.every {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        let Some(dir) = &self.dir else { return };
        if self.results.is_empty() {
            return;
        }
        let set = dir.join(format!("set_{:05}", self.n_written));
        match dump::write(&set, &self.results) {
            Ok(_) => {
                self.n_written += 1;
                self.results.clear();
            }
            // a full disk must not stop the rewards; the groups wait for the next try
            Err(error) => {
                tracing::error!(%error, "Could not write the dump; it will be tried again.")
            }
        }
    }
}

/// The number after the last set that is there.
fn next_set(dir: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let numbers = names.filter_map(|name| name.strip_prefix("set_")?.parse::<usize>().ok());
    numbers.max().map_or(0, |last| last + 1)
}
