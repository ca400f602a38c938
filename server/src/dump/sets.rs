//! Sets of Parquet tables, written by a thread of their own, and the removal of journal segments
//! behind them.
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
use crate::figures::Figures;
use crate::judged::Judged;

/// Time between two tries to write a set.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// A closed set that waits for the disk.
pub(super) struct ClosedSet {
    pub(super) number: usize,
    pub(super) groups: Vec<Arc<Judged>>,
}

/// Whether the server ends: then what cannot be written is left to the next start.
#[derive(Clone, Default)]
pub(super) struct Closing(pub(super) Arc<AtomicBool>);

/// The thread that writes sets, and clears the journal away behind them.
pub(super) fn write_sets(
    config: &DumpConfig,
    sets: &Receiver<ClosedSet>,
    figures: &Figures,
    closing: &Closing,
) {
    // segments whose sets are written and that are not called so yet
    let mut unmarked = Vec::new();
    while let Ok(set) = sets.recv() {
        while let Err(error) = write_set(&config.dir, set.number, &set.groups) {
            figures.dump_failed();
            tracing::error!(%error, "Could not write a set of the dump; it will be tried again.");
            if closing.0.load(Ordering::Acquire) {
                tracing::error!(
                    "The last sets are in the journal only; the next start writes them."
                );
                return;
            }
            std::thread::park_timeout(RETRY_INTERVAL);
        }
        unmarked.push(set.number);
        unmarked.retain(|&number| !is_marked(&config.dir, number));
        if let Err(error) = clear(config) {
            tracing::warn!(%error, "Could not clear old segments of the journal away.");
        }
    }
}

/// Calls a segment written whose set is there; where that fails, it is tried again: nothing is lost
/// meanwhile but the order in the folder.
pub(super) fn is_marked(dir: &Path, number: usize) -> bool {
    let marked = journal::mark_written(dir, number);
    if let Err(error) = &marked {
        tracing::warn!(%error, "Could not mark a segment of the journal as written.");
    }
    marked.is_ok()
}

pub(super) fn write_set(dir: &Path, number: usize, groups: &[Arc<Judged>]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    let (mut requests, mut results) = (Vec::new(), Vec::new());
    for judged in groups {
        let mut result = judged.result.clone();
        let shown = result.group_id.0.clone();
        // two groups of one name in a set: the dump tells them apart
        for number in 2.. {
            if seen.insert(result.group_id.clone()) {
                break;
            }
            rename(&mut result, GroupId(format!("{shown}#{number}")));
        }
        requests.push(judged.group.clone());
        results.push(result);
    }
    joust_schema::atomic::write_dir(&journal::set_path(dir, number), |unfinished| {
        dump::write(unfinished, &requests, &results).map(|_| ())
    })
}

/// Deletes segments that nobody will ask for any more: those that are older than results are kept,
/// and the oldest where all are too large.
fn clear(config: &DumpConfig) -> Result<(), Error> {
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
