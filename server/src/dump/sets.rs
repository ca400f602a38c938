//! Sets of Parquet tables, written by a thread of their own, and the removal of expired journal
//! segments.
//!
//! Knows neither the journal's lines nor the judge.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::Receiver;
use joust_reward::arena::GroupResult;
use joust_reward::{Error, dump};
use joust_schema::ids::GroupId;

use super::journal;
use crate::config::DumpConfig;
use crate::judged::Judged;
use crate::metrics::ServerMetrics;

/// Time between two attempts to write a set.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// A closed set that waits for the disk.
pub(super) struct ClosedSet {
    pub(super) number: usize,
    pub(super) groups: Vec<Arc<Judged>>,
}

/// True once the server shuts down: a set that cannot be written is left to the next start.
#[derive(Clone, Default)]
pub(super) struct ShutdownFlag(pub(super) Arc<AtomicBool>);

/// The thread that writes sets and removes expired journal segments.
pub(super) struct SetWriter {
    pub(super) config: DumpConfig,
    pub(super) metrics: ServerMetrics,
    pub(super) shutdown: ShutdownFlag,
}

impl SetWriter {
    /// Writes sets until the channel is closed.
    pub(super) fn run(&self, sets: &Receiver<ClosedSet>) {
        let dir = &self.config.dir;
        // written sets whose segments could not be renamed
        let mut unmarked = Vec::new();
        while let Ok(set) = sets.recv() {
            while let Err(error) = write_set(dir, set.number, &set.groups) {
                self.metrics.count_dump_error();
                tracing::error!(%error, "Could not write a set of the dump; will retry.");
                if self.shutdown.0.load(Ordering::Acquire) {
                    tracing::error!(
                        "The last sets are in the journal only; the next start writes them."
                    );
                    return;
                }
                std::thread::park_timeout(RETRY_INTERVAL);
            }
            unmarked.push(set.number);
            unmarked.retain(|&number| !try_mark_written(dir, number));
            if let Err(error) = remove_expired_segments(&self.config) {
                tracing::warn!(%error, "Could not remove expired segments of the journal.");
            }
        }
    }
}

/// Renames a segment whose set is written; false if that failed and should be retried. Until then
/// the segment is kept and nothing is lost.
pub(super) fn try_mark_written(dir: &Path, number: usize) -> bool {
    let marked = journal::mark_written(dir, number);
    if let Err(error) = &marked {
        tracing::warn!(%error, "Could not mark a segment of the journal as written.");
    }
    marked.is_ok()
}

/// Writes the tables of a set.
///
/// # Errors
/// [`Error::Schema`]
pub(super) fn write_set(dir: &Path, number: usize, groups: &[Arc<Judged>]) -> Result<(), Error> {
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
