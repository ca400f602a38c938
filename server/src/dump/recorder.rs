//! Recorder of the judge thread: writes each result to the journal before it is answered, and
//! closes a set once it has enough groups, bytes or age.
//!
//! A full disk does not stop rewards: failed writes are counted, the groups stay in memory and are
//! tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};
use serde_json::value::RawValue;

use super::journal::{self, Entry, Journal, Line, unix_now};
use super::sets::{ClosedSet, Closing, is_marked, write_set, write_sets};
use crate::config::DumpConfig;
use crate::figures::Figures;
use crate::judged::{GroupKey, Judged};
use joust_reward::{Error, GroupRequest};

/// Maximum number of closed sets that wait for the disk; further groups stay in their segment.
const MAX_WAITING: usize = 4;

/// State of an earlier start, from its journal.
#[derive(Default)]
pub(crate) struct Restored {
    /// Groups that were judged, with their age.
    pub(crate) judged: Vec<(Duration, Arc<Judged>)>,
    /// Members that have got their answers.
    pub(crate) delivered: BTreeSet<(GroupKey, usize)>,
    /// Jobs that were accepted and not finished.
    pub(crate) jobs: BTreeMap<GroupKey, (GroupRequest, String)>,
}

/// Writes results; owned by the judge thread.
pub(crate) struct Recorder {
    config: DumpConfig,
    journal: Journal,
    groups: Vec<Arc<Judged>>,
    /// Jobs that are not over, as they were accepted: each segment names them anew.
    jobs: BTreeMap<GroupKey, Entry>,
    began: Instant,
    writer: Sender<ClosedSet>,
    closing: Closing,
    thread: JoinHandle<()>,
    figures: Figures,
}

impl Recorder {
    /// Opens the folder: writes the sets that a killed server left in its journal, and reads what
    /// it knew.
    ///
    /// # Errors
    /// [`Error::Schema`] where the folder cannot be read or written, or another server writes
    /// there.
    pub(crate) fn open(config: &DumpConfig, figures: &Figures) -> Result<(Self, Restored), Error> {
        let dir = &config.dir;
        // the lock first: what another server writes at this moment is not to be touched
        let journal = Journal::open(dir)?;
        joust_schema::atomic::sweep(dir)?;
        let restored = restore(config, journal.number())?;
        let (writer, sets) = bounded(MAX_WAITING);
        let closing = Closing::default();
        let (own, told, of_thread) = (config.clone(), figures.clone(), closing.clone());
        let thread = std::thread::Builder::new()
            .name("dump".to_owned())
            .spawn(move || write_sets(&own, &sets, &told, &of_thread))
            .map_err(|error| Error::Config(format!("no thread for the dump: {error}")))?;
        let recorder = Self {
            config: config.clone(),
            journal,
            groups: Vec::new(),
            jobs: BTreeMap::new(),
            began: Instant::now(),
            writer,
            closing,
            thread,
            figures: figures.clone(),
        };
        Ok((recorder, restored))
    }

    /// Records a judged group; must be called before it is answered.
    pub(crate) fn judged(&mut self, judged: &Arc<Judged>, group_json: &RawValue) {
        self.jobs.remove(&judged.key);
        let line = Line::judged(unix_now(), &self.config.judged_by, judged, group_json);
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

    /// Records a note.
    pub(crate) fn note(&mut self, entry: Entry) {
        if let Entry::Accepted { key, .. } = &entry
            && self.jobs.contains_key(key)
        {
            return;
        }
        self.append(&entry);
        match &entry {
            Entry::Accepted { key, .. } => drop(self.jobs.insert(*key, entry)),
            Entry::Cancelled { key } => drop(self.jobs.remove(key)),
            Entry::Judged { .. } | Entry::Delivered { .. } => {}
        }
    }

    fn append(&mut self, entry: &Entry) {
        let written = self.journal.append(entry);
        self.count_failure(written);
    }

    fn count_failure(&self, written: Result<(), joust_schema::Error>) {
        if let Err(error) = written {
            self.figures.dump_failed();
            tracing::error!(%error, "Could not write the journal; rewards go on.");
        }
    }

    /// Closes the set once it is old enough.
    pub(crate) fn tick(&mut self) {
        if !self.groups.is_empty() && self.began.elapsed() >= self.config.every {
            self.rotate();
        }
    }

    fn rotate(&mut self) {
        // where sets wait for a slow or full disk, this one goes on
        if self.writer.is_full() || self.groups.is_empty() {
            return;
        }
        match self.journal.rotate() {
            Ok(number) => {
                let groups = std::mem::take(&mut self.groups);
                for job in self.jobs.values().cloned().collect::<Vec<_>>() {
                    self.append(&job);
                }
                // only this thread sends, and there was room
                let _ = self.writer.try_send(ClosedSet { number, groups });
            }
            Err(error) => {
                self.figures.dump_failed();
                tracing::error!(
                    %error,
                    "Could not begin a journal segment; the old one goes on."
                );
            }
        }
    }

    /// Writes the last set and waits for it.
    pub(crate) fn close(mut self) {
        self.closing.0.store(true, Ordering::Release);
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

/// Reads the segments before `next`, and writes the sets that are missing.
fn restore(config: &DumpConfig, next: usize) -> Result<Restored, Error> {
    let dir = &config.dir;
    let sets: BTreeSet<usize> = journal::sets(dir)?.into_iter().collect();
    let (mut restored, now) = (Restored::default(), unix_now());
    let mut n_bad = 0;
    let segments = journal::segments(dir)?.into_iter().filter(|segment| segment.number < next);
    for journal::Segment { number, is_written, path } in segments {
        let (entries, bad) = journal::read(&path)?;
        n_bad += bad;
        let n_entries = entries.len();
        let mut groups = Vec::new();
        for entry in entries {
            match entry {
                Entry::Judged { at, by, judged } => {
                    restored.jobs.remove(&judged.key);
                    let age = Duration::from_secs_f64((now - at).clamp(0.0, 1e12));
                    // what another judge made of it is history, no answer
                    if age < config.keep && by == config.judged_by {
                        restored.judged.push((age, Arc::clone(&judged)));
                    }
                    groups.push(judged);
                }
                Entry::Delivered { key, member } => {
                    restored.delivered.insert((key, member));
                }
                Entry::Accepted { key, group, client } => {
                    restored.jobs.insert(key, (*group, client));
                }
                Entry::Cancelled { key } => drop(restored.jobs.remove(&key)),
            }
        }
        if n_entries == 0 {
            fs::remove_file(&path).map_err(|source| joust_schema::Error::io(&path, source))?;
        } else if !is_written {
            // notes alone make no set; jobs that they name are named anew in this start's segment
            if !groups.is_empty() && !sets.contains(&number) {
                write_set(dir, number, &groups)?;
                let groups = groups.len();
                tracing::info!(set = number, groups, "Wrote what a server had left.");
            }
            is_marked(dir, number);
        }
    }
    if n_bad > 0 {
        tracing::warn!(
            lines = n_bad,
            "The journal has lines that were cut off; they are left out."
        );
    }
    Ok(restored)
}
