//! Recorder of the judge thread: writes each result to the journal before it is answered, and
//! closes a set once it has enough groups, bytes or age.
//!
//! A full disk does not stop rewards: what cannot be written waits in memory, within a limit, and
//! is written once there is room. Only a job is refused, because its client relies on the journal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};
use serde_json::value::RawValue;

use super::backlog::{Backlog, WaitingLine};
use super::health::{DumpHealth, DumpPart};
use super::journal::{self, Journal, JournalEntry, JournalLine, unix_now};
use super::sets::{ClosedSet, SetState, SetWriter};
use crate::client::Client;
use crate::config::DumpConfig;
use crate::judged::{GroupKey, Judged};
use joust_reward::{Error, GroupRequest};

/// Maximum number of closed sets that wait for their thread in memory; others are read from the
/// journal.
const MAX_WAITING_SETS: usize = 4;

/// Maximum memory for lines that the journal has no room for, in bytes.
const MAX_BACKLOG_BYTES: usize = 64 << 20;

/// Time between two attempts to write these lines while nothing else is written.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// State of an earlier start, from its journal.
#[derive(Default)]
pub(crate) struct Restored {
    /// Judged groups, with their age: the newest ones, within the limit of memory.
    pub(crate) judged: VecDeque<(Duration, Arc<Judged>)>,
    /// Size of these groups.
    n_bytes: usize,
    /// Members of groups of single completions that were answered.
    pub(crate) delivered: BTreeSet<(GroupKey, usize)>,
    /// Jobs that are not over: group and client.
    pub(crate) jobs: BTreeMap<GroupKey, (GroupRequest, Client)>,
}

/// Writes results; owned by the judge thread.
pub(crate) struct Recorder {
    config: DumpConfig,
    journal: Journal,
    /// Lines that the journal has no room for.
    backlog: Backlog,
    /// Time of the last attempt to write them.
    tried: Instant,
    /// Groups of the open set.
    groups: Vec<Arc<Judged>>,
    /// Jobs that are not over: each new segment records them again.
    jobs: BTreeMap<GroupKey, RecordedJob>,
    /// Jobs that an earlier segment holds and the newest does not yet; also those of an earlier
    /// start until they are resumed.
    unrecorded: BTreeSet<GroupKey>,
    /// Time of the open set's first group.
    began: Instant,
    writer: Sender<ClosedSet>,
    sets: SetState,
    thread: JoinHandle<()>,
    health: DumpHealth,
}

/// A job in the journal.
struct RecordedJob {
    group_json: Arc<RawValue>,
    client: Client,
}

impl Recorder {
    /// Opens the folder and reads the state of an earlier start; a thread writes the sets that it
    /// left in the journal.
    ///
    /// # Errors
    /// [`Error::Schema`] if the folder cannot be read or written, or another server writes into it.
    /// A full disk is no error.
    pub(crate) fn open(
        config: &DumpConfig,
        health: &DumpHealth,
    ) -> Result<(Self, Restored), Error> {
        let dir = &config.dir;
        // takes the lock before it touches files that another server may be writing
        let journal = Journal::open(dir)?;
        let restored = match dir.exists() {
            true => {
                joust_schema::atomic::sweep(dir, journal::is_set)?;
                restore(config, journal.number())?
            }
            false => Restored::default(),
        };
        let (writer, sets) = bounded(MAX_WAITING_SETS);
        let state = SetState::default();
        state.is_behind.store(true, Ordering::Release);
        state.open_segment.store(journal.number(), Ordering::Release);
        state.needs_segments.store(!restored.jobs.is_empty(), Ordering::Release);
        let (config, health) = (config.clone(), health.clone());
        let set_writer =
            SetWriter { config: config.clone(), health: health.clone(), state: state.clone() };
        let thread = std::thread::Builder::new()
            .name("dump".to_owned())
            .spawn(move || set_writer.run(&sets))
            .map_err(|error| Error::Config(format!("no thread for the dump: {error}")))?;
        let recorder = Self {
            config,
            journal,
            backlog: Backlog::new(MAX_BACKLOG_BYTES),
            tried: Instant::now(),
            groups: Vec::new(),
            jobs: BTreeMap::new(),
            unrecorded: restored.jobs.keys().copied().collect(),
            began: Instant::now(),
            writer,
            sets: state,
            thread,
            health,
        };
        Ok((recorder, restored))
    }

    /// Records a judged group; must be called before it is answered.
    pub(crate) fn record_result(&mut self, judged: &Arc<Judged>, group_json: &RawValue) {
        self.jobs.remove(&judged.key);
        let line = JournalLine::judged(unix_now(), &self.config.judged_by, judged, group_json);
        self.append(line.to_text(), Some(judged));
        if !self.backlog.contains(judged.key) {
            self.is_in_newest(judged.key);
        }
        self.rotate_if_full();
    }

    /// Records a job, unless it is in the journal already: in its newest segment, or in an earlier
    /// one that is kept until the newest has the job, too.
    ///
    /// # Errors
    /// Why it is not in the journal; nothing has changed then.
    pub(crate) fn record_job(
        &mut self,
        key: GroupKey,
        group_json: &Arc<RawValue>,
        client: &Client,
    ) -> Result<(), String> {
        if self.jobs.contains_key(&key) {
            return Ok(());
        }
        if !self.flush() {
            return Err("the journal waits for the disk".to_owned());
        }
        let line = JournalLine::Accepted { key, group: group_json, client };
        self.write(&line.to_text()).map_err(|error| error.to_string())?;
        self.is_in_newest(key);
        let job = RecordedJob { group_json: Arc::clone(group_json), client: client.clone() };
        self.jobs.insert(key, job);
        Ok(())
    }

    /// Records a job of an earlier start. Until that succeeds, the journal of that start holds it.
    pub(crate) fn resume_job(
        &mut self,
        key: GroupKey,
        group_json: &Arc<RawValue>,
        client: &Client,
    ) {
        if self.record_job(key, group_json, client).is_err() {
            let job = RecordedJob { group_json: Arc::clone(group_json), client: client.clone() };
            self.jobs.insert(key, job);
            self.are_in_earlier(&[key]);
        }
    }

    /// The newest segment holds a job, or what became of it.
    fn is_in_newest(&mut self, key: GroupKey) {
        self.unrecorded.remove(&key);
        self.sets.needs_segments.store(!self.unrecorded.is_empty(), Ordering::Release);
    }

    /// Only earlier segments hold these jobs.
    fn are_in_earlier(&mut self, keys: &[GroupKey]) {
        self.unrecorded.extend(keys);
        self.sets.needs_segments.store(!self.unrecorded.is_empty(), Ordering::Release);
    }

    /// Whether the result of a group still waits for the disk.
    pub(crate) fn is_waiting(&self, key: GroupKey) -> bool {
        self.backlog.contains(key)
    }

    /// Records that a group is refused, if it is a job.
    pub(crate) fn record_refusal(&mut self, key: GroupKey) {
        if self.jobs.contains_key(&key) || self.unrecorded.contains(&key) {
            self.record_cancel(key);
        }
    }

    /// Records that a group was cancelled.
    pub(crate) fn record_cancel(&mut self, key: GroupKey) {
        self.jobs.remove(&key);
        self.append(JournalLine::Cancelled { key }.to_text(), None);
        self.is_in_newest(key);
    }

    /// Records that a member of a group of single completions was answered.
    pub(crate) fn record_delivery(&mut self, key: GroupKey, member: usize) {
        self.append(JournalLine::Delivered { key, member }.to_text(), None);
    }

    /// Writes a line to the journal.
    fn write(&mut self, text: &str) -> Result<(), joust_schema::Error> {
        let written = self.journal.append(text);
        self.sets.open_segment.store(self.journal.number(), Ordering::Release);
        match &written {
            Ok(()) => self.health.succeeded(DumpPart::Journal),
            Err(error) => self.health.failed(DumpPart::Journal, error),
        }
        written
    }

    /// Writes a line after those that wait, or lets it wait.
    fn append(&mut self, text: String, judged: Option<&Arc<Judged>>) {
        if self.flush() && self.write(&text).is_ok() {
            self.groups.extend(judged.cloned());
            return;
        }
        let is_kept = self.backlog.push(WaitingLine { text, judged: judged.cloned() });
        if !is_kept {
            self.health.lost();
        }
    }

    /// Writes the lines that wait; false if the disk still has no room.
    fn flush(&mut self) -> bool {
        self.tried = Instant::now();
        while let Some(text) = self.backlog.first() {
            let text = text.to_owned();
            if self.write(&text).is_err() {
                return false;
            }
            let judged = self.backlog.pop().and_then(|line| line.judged);
            if let Some(judged) = &judged {
                self.is_in_newest(judged.key);
            }
            self.groups.extend(judged);
            self.rotate_if_full();
        }
        for key in self.unrecorded.clone() {
            let Some(RecordedJob { group_json, client }) = self.jobs.get(&key) else { continue };
            let line = JournalLine::Accepted { key, group: group_json, client }.to_text();
            if self.write(&line).is_err() {
                return false;
            }
            self.is_in_newest(key);
        }
        true
    }

    /// Tries what could not be written again, and closes the open set once it is old enough.
    pub(crate) fn tick(&mut self) {
        let waits = !self.backlog.is_empty() || !self.unrecorded.is_empty();
        if waits && self.tried.elapsed() >= RETRY_INTERVAL {
            self.flush();
        }
        if !self.groups.is_empty() && self.began.elapsed() >= self.config.every {
            self.rotate();
        }
    }

    fn rotate_if_full(&mut self) {
        if self.groups.len() == 1 {
            self.began = Instant::now();
        }
        if self.groups.len() >= self.config.every_groups
            || self.journal.n_bytes() >= self.config.max_set_bytes
        {
            self.rotate();
        }
    }

    /// Closes the open set: its segment is on disk, so it does not matter when its tables are
    /// written.
    fn rotate(&mut self) {
        if self.groups.is_empty() {
            return;
        }
        match self.journal.rotate() {
            Ok(number) => {
                let groups = std::mem::take(&mut self.groups);
                // before the set is written, after which its segment may be removed
                self.are_in_earlier(&self.jobs.keys().copied().collect::<Vec<_>>());
                self.sets.open_segment.store(self.journal.number(), Ordering::Release);
                if self.writer.try_send(ClosedSet { number, groups }).is_err() {
                    self.sets.is_behind.store(true, Ordering::Release);
                }
                if self.backlog.is_empty() {
                    self.flush();
                }
            }
            Err(error) => self.health.failed(DumpPart::Journal, &error),
        }
    }

    /// Writes the last set, and waits until it is written.
    pub(crate) fn close(mut self) {
        self.flush();
        let lines = self.backlog.n_lines();
        if lines > 0 {
            tracing::error!(lines, "The last lines of the journal could not be written.");
        }
        self.rotate();
        drop(self.writer);
        if self.thread.join().is_err() {
            tracing::error!("The thread that writes the dump panicked; the next start writes it.");
        }
    }
}

/// Reads the segments before number `next`.
fn restore(config: &DumpConfig, next: usize) -> Result<Restored, Error> {
    let (mut restored, now, mut n_incomplete) = (Restored::default(), unix_now(), 0);
    let segments = journal::segments(&config.dir)?.into_iter();
    for journal::Segment { path, .. } in segments.filter(|segment| segment.number < next) {
        let mut is_empty = true;
        n_incomplete += journal::read_segment(&path, |entry| {
            is_empty = false;
            restored.take_entry(entry, config, now);
        })?;
        if is_empty {
            fs::remove_file(&path).map_err(|source| joust_schema::Error::io(&path, source))?;
        }
    }
    if n_incomplete > 0 {
        tracing::warn!(lines = n_incomplete, "Skipped incomplete lines of the journal.");
    }
    Ok(restored)
}

impl Restored {
    /// Takes an entry of the journal in.
    fn take_entry(&mut self, entry: JournalEntry, config: &DumpConfig, now: f64) {
        match entry {
            JournalEntry::Judged { at, by, judged } => {
                self.jobs.remove(&judged.key);
                let age = Duration::from_secs_f64((now - at).clamp(0.0, 1e12));
                // the result of another judge belongs into its set, but answers no request
                if age < config.keep && by == config.judged_by {
                    self.n_bytes += judged.n_bytes();
                    self.judged.push_back((age, judged));
                }
                while self.n_bytes as u64 > config.keep_bytes && self.judged.len() > 1 {
                    let oldest = self.judged.pop_front();
                    self.n_bytes -= oldest.map_or(0, |(_, judged)| judged.n_bytes());
                }
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
}

#[cfg(test)]
mod tests;
