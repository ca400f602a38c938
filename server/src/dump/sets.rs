//! Sets of Parquet tables, written by a thread of their own, and the removal of expired journal
//! segments.
//!
//! Knows neither the journal's lines nor the judge.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};
use joust_reward::arena::GroupResult;
use joust_reward::{Error, dump};
use joust_schema::ids::GroupId;

use super::health::{DumpHealth, DumpPart};
use super::journal;
use crate::config::DumpConfig;
use crate::judged::Judged;

/// Time between two attempts to write what could not be written.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// A closed set that waits for the disk.
pub(super) struct ClosedSet {
    pub(super) number: usize,
    pub(super) groups: Vec<Arc<Judged>>,
}

/// What the recorder tells the thread beside the sets.
#[derive(Clone, Default)]
pub(super) struct SetState {
    /// True if a segment may have no set yet: its groups are read from the journal then.
    pub(super) is_behind: Arc<AtomicBool>,
    /// Number of the segment that is written to.
    pub(super) open_segment: Arc<AtomicUsize>,
    /// True while earlier segments hold jobs that the open one lacks: none is removed then.
    pub(super) needs_segments: Arc<AtomicBool>,
}

/// The thread that writes sets and removes expired journal segments.
pub(super) struct SetWriter {
    pub(super) config: DumpConfig,
    pub(super) health: DumpHealth,
    pub(super) state: SetState,
}

impl SetWriter {
    /// Writes sets until the channel is closed. What fails is tried again, from the journal.
    pub(super) fn run(&self, sets: &Receiver<ClosedSet>) {
        loop {
            let received = sets.recv_timeout(RETRY_INTERVAL);
            let has_ended = matches!(received, Err(RecvTimeoutError::Disconnected));
            if let Ok(set) = &received
                && !self.try_write(set.number, || Ok(set.groups.clone()))
            {
                self.state.is_behind.store(true, Ordering::Release);
            }
            // the groups of a set that waits are not held in memory
            drop(received);
            if self.state.is_behind.swap(false, Ordering::AcqRel) && !self.catch_up() {
                self.state.is_behind.store(true, Ordering::Release);
                if has_ended {
                    tracing::error!(
                        "The last sets are in the journal only; the next start writes them."
                    );
                }
            }
            if has_ended {
                return;
            }
        }
    }

    /// Writes the sets of closed segments that have none; false if one fails.
    fn catch_up(&self) -> bool {
        let segments = match journal::segments(&self.config.dir) {
            Ok(segments) => segments,
            // a folder that could not be made yet has no segments
            Err(_) if !self.config.dir.exists() => return true,
            Err(error) => {
                self.health.failed(DumpPart::Sets, &error);
                return false;
            }
        };
        let open = self.state.open_segment.load(Ordering::Acquire);
        let mut waiting = segments.iter().filter(|one| !one.is_written && one.number < open);
        waiting.all(|segment| {
            self.try_write(segment.number, || Ok(journal::read_groups(&segment.path)?))
        })
    }

    /// Writes a set, unless it is written or has no groups, and marks its segment; false if that
    /// fails.
    fn try_write(
        &self,
        number: usize,
        groups: impl FnOnce() -> Result<Vec<Arc<Judged>>, Error>,
    ) -> bool {
        let dir = &self.config.dir;
        let write = || {
            if !journal::set_path(dir, number).exists() {
                let groups = groups()?;
                if !groups.is_empty() {
                    write_set(dir, number, &groups)?;
                }
            }
            if journal::segment_path(dir, number).exists() {
                journal::mark_written(dir, number)?;
            }
            Ok::<_, Error>(())
        };
        match write() {
            Ok(()) => {
                self.health.succeeded(DumpPart::Sets);
                if !self.state.needs_segments.load(Ordering::Acquire)
                    && let Err(error) = remove_expired_segments(&self.config)
                {
                    tracing::warn!(%error, "Could not remove expired segments of the journal.");
                }
                true
            }
            Err(error) => {
                self.health.failed(DumpPart::Sets, &error);
                false
            }
        }
    }
}

/// Writes the tables of a set.
///
/// # Errors
/// [`Error::Schema`]
fn write_set(dir: &Path, number: usize, groups: &[Arc<Judged>]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    let (mut requests, mut results) = (Vec::new(), Vec::new());
    for judged in groups {
        let mut result = judged.result.clone();
        let name = result.group_id.0.clone();
        // ids must be unique in the tables: a second group `g` becomes `g#2`
        for number in 2.. {
            if seen.insert(result.group_id.clone()) {
                break;
            }
            rename_group(&mut result, GroupId(format!("{name}#{number}")));
        }
        requests.push(judged.group.clone());
        results.push(result);
    }
    joust_schema::atomic::write_dir(&journal::set_path(dir, number), |unfinished| {
        dump::write(unfinished, &requests, &results).map(|_| ())
    })
}

/// Deletes segments with a written set: those older than the TTL of results, and the oldest beyond
/// the limit of disk.
fn remove_expired_segments(config: &DumpConfig) -> Result<(), Error> {
    let io = |path: &Path, source| Error::Schema(joust_schema::Error::io(path, source));
    let mut segments = Vec::new();
    let written = journal::segments(&config.dir)?.into_iter().filter(|segment| segment.is_written);
    for path in written.map(|segment| segment.path) {
        let metadata = fs::metadata(&path).map_err(|source| io(&path, source))?;
        let age = metadata.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        segments.push((path, age, metadata.len()));
    }
    let mut n_bytes: u64 = segments.iter().map(|(_, _, len)| len).sum();
    for (path, age, len) in segments {
        if age > config.keep || n_bytes > config.keep_bytes {
            fs::remove_file(&path).map_err(|source| io(&path, source))?;
            n_bytes -= len;
        }
    }
    Ok(())
}

/// Replaces the group id of a result, also in the ids of its matches.
fn rename_group(result: &mut GroupResult, group_id: GroupId) {
    let old = std::mem::replace(&mut result.group_id, group_id.clone());
    let renamed = |text: &str| match text.strip_prefix(&old.0) {
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
