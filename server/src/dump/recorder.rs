//! Recorder of the judge thread: writes each result to the journal before it is answered, and
//! closes a set once it has enough groups, bytes or age.
//!
//! A full disk does not stop rewards: failed writes are counted, the groups stay in memory and
//! their write is retried.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};
use serde_json::value::RawValue;

use super::journal::{self, Journal, JournalEntry, JournalLine, unix_now};
use super::sets::{ClosedSet, SetWriter, ShutdownFlag, try_mark_written, write_set};
use crate::config::DumpConfig;
use crate::judged::{GroupKey, Judged};
use crate::metrics::ServerMetrics;
use joust_reward::{Error, GroupRequest};

/// Maximum number of closed sets that wait for the disk; while they wait, the open set grows.
const MAX_WAITING_SETS: usize = 4;

/// State of an earlier start, from its journal.
#[derive(Default)]
pub(crate) struct Restored {
    /// Judged groups, with their age.
    pub(crate) judged: Vec<(Duration, Arc<Judged>)>,
    /// Members of groups of single completions that were answered.
    pub(crate) delivered: BTreeSet<(GroupKey, usize)>,
    /// Jobs that are not over: group and client.
    pub(crate) jobs: BTreeMap<GroupKey, (GroupRequest, String)>,
}

/// Writes results; owned by the judge thread.
pub(crate) struct Recorder {
    config: DumpConfig,
    journal: Journal,
    /// Groups of the open set.
    groups: Vec<Arc<Judged>>,
    /// Jobs that are not over: each new segment records them again.
    jobs: BTreeMap<GroupKey, RecordedJob>,
    /// Time of the open set's first group.
    began: Instant,
    writer: Sender<ClosedSet>,
    shutdown: ShutdownFlag,
    thread: JoinHandle<()>,
    metrics: ServerMetrics,
}

/// A job in the journal.
struct RecordedJob {
    group_json: Arc<RawValue>,
    client: String,
}

impl Recorder {
    /// Opens the folder: reads the state of an earlier start, and writes the sets that it left in
    /// the journal.
    ///
    /// # Errors
    /// [`Error::Schema`] if the folder cannot be read or written, or another server writes into it.
    pub(crate) fn open(
        config: &DumpConfig,
        metrics: &ServerMetrics,
    ) -> Result<(Self, Restored), Error> {
        let dir = &config.dir;
        // takes the lock before it touches files that another server may be writing
        let journal = Journal::open(dir)?;
        joust_schema::atomic::sweep(dir)?;
        let restored = restore(config, journal.number())?;
        let (writer, sets) = bounded(MAX_WAITING_SETS);
        let shutdown = ShutdownFlag::default();
        let set_writer = SetWriter {
            config: config.clone(),
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("dump".to_owned())
            .spawn(move || set_writer.run(&sets))
            .map_err(|error| Error::Config(format!("no thread for the dump: {error}")))?;
        let recorder = Self {
            config: config.clone(),
            journal,
            groups: Vec::new(),
            jobs: BTreeMap::new(),
            began: Instant::now(),
            writer,
            shutdown,
            thread,
            metrics: metrics.clone(),
        };
        Ok((recorder, restored))
    }

    /// Records a judged group; must be called before it is answered.
    pub(crate) fn record_result(&mut self, judged: &Arc<Judged>, group_json: &RawValue) {
        self.jobs.remove(&judged.key);
        let line = JournalLine::judged(unix_now(), &self.config.judged_by, judged, group_json);
        let written = self.journal.append(&line);
        self.count_failure(written);
        if self.groups.is_empty() {
            self.began = Instant::now();
        }
        self.groups.push(Arc::clone(judged));
        if self.groups.len() >= self.config.every_groups
            || self.journal.n_bytes() >= self.config.max_set_bytes
        {
            self.rotate();
        }
    }

    /// Records a job, unless it is recorded already.
    pub(crate) fn record_job(&mut self, key: GroupKey, group_json: Arc<RawValue>, client: String) {
        if self.jobs.contains_key(&key) {
            return;
        }
        self.append(&JournalLine::Accepted { key, group: &group_json, client: &client });
        self.jobs.insert(key, RecordedJob { group_json, client });
    }

    /// Records that a group was cancelled.
    pub(crate) fn record_cancel(&mut self, key: GroupKey) {
        self.append(&JournalLine::Cancelled { key });
        self.jobs.remove(&key);
    }

    /// Records that a member of a group of single completions was answered.
    pub(crate) fn record_delivery(&mut self, key: GroupKey, member: usize) {
        self.append(&JournalLine::Delivered { key, member });
    }

    fn append(&mut self, line: &JournalLine<'_>) {
        let written = self.journal.append(line);
        self.count_failure(written);
    }

    fn count_failure(&self, written: Result<(), joust_schema::Error>) {
        if let Err(error) = written {
            self.metrics.count_dump_error();
            tracing::error!(%error, "Could not write the journal; rewards go on.");
        }
    }

    /// Closes the open set once it is old enough.
    pub(crate) fn tick(&mut self) {
        if !self.groups.is_empty() && self.began.elapsed() >= self.config.every {
            self.rotate();
        }
    }

    fn rotate(&mut self) {
        // while sets wait for a slow or full disk, the open set grows
        if self.writer.is_full() || self.groups.is_empty() {
            return;
        }
        match self.journal.rotate() {
            Ok(number) => {
                let groups = std::mem::take(&mut self.groups);
                for (&key, RecordedJob { group_json, client }) in &self.jobs {
                    let line = JournalLine::Accepted { key, group: group_json, client };
                    let written = self.journal.append(&line);
                    self.count_failure(written);
                }
                // only this thread sends, and the channel was not full
                let _ = self.writer.try_send(ClosedSet { number, groups });
            }
            Err(error) => {
                self.metrics.count_dump_error();
                tracing::error!(
                    %error,
                    "Could not begin a journal segment; the old one is continued."
                );
            }
        }
    }

    /// Writes the last set, and waits until it is written.
    pub(crate) fn close(mut self) {
        self.shutdown.0.store(true, Ordering::Release);
        self.thread.thread().unpark();
        if !self.groups.is_empty() {
            match self.journal.rotate() {
                Ok(number) => {
                    let groups = std::mem::take(&mut self.groups);
                    let _ = self.writer.send(ClosedSet { number, groups });
                }
                Err(error) => tracing::error!(%error, "The last groups are in the journal only."),
            }
        }
        drop(self.writer);
        if self.thread.join().is_err() {
            tracing::error!("The thread that writes the dump panicked; the next start writes it.");
        }
    }
}

/// Reads the segments before number `next`, and writes their missing sets.
fn restore(config: &DumpConfig, next: usize) -> Result<Restored, Error> {
    let dir = &config.dir;
    let sets: BTreeSet<usize> = journal::set_numbers(dir)?.into_iter().collect();
    let (mut restored, now) = (Restored::default(), unix_now());
    let mut n_incomplete = 0;
    let segments = journal::segments(dir)?.into_iter().filter(|segment| segment.number < next);
    for journal::Segment { number, is_written, path } in segments {
        let (entries, n_unreadable) = journal::read_segment(&path)?;
        n_incomplete += n_unreadable;
        let is_empty = entries.is_empty();
        let groups = restored.take_entries(entries, config, now);
        if is_empty {
            fs::remove_file(&path).map_err(|source| joust_schema::Error::io(&path, source))?;
        } else if !is_written {
            // a segment without groups has no set; its open jobs are recorded in the new segment
            if !groups.is_empty() && !sets.contains(&number) {
                write_set(dir, number, &groups)?;
                let groups = groups.len();
                tracing::info!(set = number, groups, "Wrote a set that an earlier start left.");
            }
            try_mark_written(dir, number);
        }
    }
    if n_incomplete > 0 {
        tracing::warn!(lines = n_incomplete, "Skipped incomplete lines of the journal.");
    }
    Ok(restored)
}

impl Restored {
    /// Takes the entries of a segment in, and returns its judged groups.
    fn take_entries(
        &mut self,
        entries: Vec<JournalEntry>,
        config: &DumpConfig,
        now: f64,
    ) -> Vec<Arc<Judged>> {
        let mut groups = Vec::new();
        for entry in entries {
            match entry {
                JournalEntry::Judged { at, by, judged } => {
                    self.jobs.remove(&judged.key);
                    let age = Duration::from_secs_f64((now - at).clamp(0.0, 1e12));
                    // the result of another judge belongs into its set, but answers no request
                    if age < config.keep && by == config.judged_by {
                        self.judged.push((age, Arc::clone(&judged)));
                    }
                    groups.push(judged);
                }
                JournalEntry::Delivered { key, member } => {
                    self.delivered.insert((key, member));
                }
                JournalEntry::Accepted { key, group, client } => {
                    self.jobs.insert(key, (*group, client));
                }
                JournalEntry::Cancelled { key } => drop(self.jobs.remove(&key)),
            }
        }
        groups
    }
}
