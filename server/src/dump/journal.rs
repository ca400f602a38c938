//! Journal on disk: judged groups, delivered answers and accepted jobs, one JSON line each; a
//! restarted server reads it.
//!
//! Segments `journal_00012.jsonl` lie in the dump folder. Segment 12 holds the groups of
//! `set_00012` and is renamed to `journal_00012_written.jsonl` once that set is written; a set that
//! is moved away later is not written again. A line is handed to the operating system before its
//! result is answered: this survives a killed process. It reaches the disk a moment later, for a
//! machine that loses power. An incomplete last line is skipped. A lock on the folder keeps other
//! servers out.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use joust_schema::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::client::Client;
use crate::judged::{CohortRecord, GroupKey, Judged};
use joust_reward::arena::{GroupRequest, GroupResult};

/// A line as it is read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JournalEntry {
    /// A group was judged.
    Judged {
        /// Time, in seconds since 1970.
        at: f64,
        /// Judge and hash of its settings: results of another judge are no answers.
        by: String,
        #[serde(deserialize_with = "shared_judged")]
        judged: Arc<Judged>,
    },
    /// A member of a group of single completions was answered.
    Delivered {
        key: GroupKey,
        /// Index in the group.
        member: usize,
    },
    /// A job was accepted.
    Accepted { key: GroupKey, group: Box<GroupRequest>, client: Client },
    /// A job was cancelled.
    Cancelled { key: GroupKey },
}

/// A line as it is written: a [`JournalEntry`] whose group is JSON already.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JournalLine<'a> {
    Judged { at: f64, by: &'a str, judged: JudgedLine<'a> },
    Delivered { key: GroupKey, member: usize },
    Accepted { key: GroupKey, group: &'a RawValue, client: &'a Client },
    Cancelled { key: GroupKey },
}

/// The fields of [`Judged`], with the group as JSON.
#[derive(Serialize)]
pub(crate) struct JudgedLine<'a> {
    key: GroupKey,
    #[serde(skip_serializing_if = "str::is_empty")]
    tenant: &'a str,
    group: &'a RawValue,
    result: &'a GroupResult,
    #[serde(skip_serializing_if = "Option::is_none")]
    cohort: Option<&'a CohortRecord>,
}

impl<'a> JournalLine<'a> {
    /// The line of a judged group.
    pub(crate) fn judged(at: f64, by: &'a str, judged: &'a Judged, group: &'a RawValue) -> Self {
        let Judged { key, tenant, result, cohort, .. } = judged;
        let judged = JudgedLine { key: *key, tenant, group, result, cohort: cohort.as_ref() };
        Self::Judged { at, by, judged }
    }
}

impl JournalLine<'_> {
    /// The line with its end.
    pub(crate) fn to_text(&self) -> String {
        joust_schema::jsonl::to_line(self).expect("a line is plain data. This is a bug.")
    }
}

fn shared_judged<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Judged>, D::Error> {
    Judged::deserialize(deserializer).map(Arc::new)
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// The journal, open for writing its newest segment. On a full disk the segment, or the whole
/// folder, is made once there is room.
pub(crate) struct Journal {
    dir: PathBuf,
    number: usize,
    file: Option<File>,
    n_bytes: u64,
    /// The lock on the folder, held while the server runs.
    lock: Option<File>,
}

/// Locks the folder, which is made if it does not exist.
fn lock(dir: &Path) -> Result<File, Error> {
    fs::create_dir_all(dir).map_err(|source| Error::io(dir, source))?;
    let path = dir.join("lock");
    let io = |source| Error::io(&path, source);
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let reason = "another server writes its dump here; wanted another serve.dump";
            Err(Error::bad_file(dir, reason))
        }
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Number of the segment after all segments and sets of a folder.
fn next_number(dir: &Path) -> Result<usize, Error> {
    let used = segments(dir)?.into_iter().map(|segment| segment.number);
    let last = used.chain(set_numbers(dir)?).max();
    Ok(last.map_or(0, |last| last + 1))
}

/// `None` instead of an error that tells of a full disk.
fn unless_full<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_out_of_space() => Ok(None),
        Err(error) => Err(error),
    }
}

impl Journal {
    /// Opens the folder and begins a segment after all others.
    ///
    /// # Errors
    /// [`Error::Io`], but for a full disk; [`Error::BadFile`] if another server writes into the
    /// folder.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let lock = unless_full(lock(dir))?;
        let number = if lock.is_some() { next_number(dir)? } else { 0 };
        let file = match &lock {
            Some(_) => unless_full(create_segment(dir, number))?,
            None => None,
        };
        Ok(Self { dir: dir.to_owned(), number, file, n_bytes: 0, lock })
    }

    /// Number of the newest segment.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Number of bytes of the newest segment.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// The newest segment, made now if there was no room before.
    fn segment(&mut self) -> Result<&mut File, Error> {
        if self.lock.is_none() {
            self.lock = Some(lock(&self.dir)?);
            self.number = next_number(&self.dir)?;
        }
        if self.file.is_none() {
            self.file = Some(create_segment(&self.dir, self.number)?);
        }
        Ok(self.file.as_mut().expect("it was just made. This is a bug."))
    }

    /// Adds a line, made by [`JournalLine::to_text`].
    ///
    /// # Errors
    /// [`Error::Io`]
    pub(crate) fn append(&mut self, line: &str) -> Result<(), Error> {
        let n_bytes = self.n_bytes;
        let file = self.segment()?;
        // a single write: a kill leaves at most one incomplete line
        if let Err(source) = file.write_all(line.as_bytes()) {
            // an incomplete line would join the next one
            let _ = file.set_len(n_bytes);
            return Err(Error::io(segment_path(&self.dir, self.number), source));
        }
        self.n_bytes += line.len() as u64;
        Ok(())
    }

    /// Begins the next segment, and returns the number of the closed one.
    ///
    /// # Errors
    /// [`Error::Io`]; the old segment is continued then.
    pub(crate) fn rotate(&mut self) -> Result<usize, Error> {
        let closed = self.number;
        self.file = Some(create_segment(&self.dir, closed + 1)?);
        self.number = closed + 1;
        self.n_bytes = 0;
        Ok(closed)
    }
}

fn create_segment(dir: &Path, number: usize) -> Result<File, Error> {
    let path = segment_path(dir, number);
    let file = OpenOptions::new().create(true).append(true).open(&path);
    file.map_err(|source| Error::io(path, source))
}

/// File of a segment whose set is not written.
pub(crate) fn segment_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("journal_{number:05}.jsonl"))
}

/// Folder of a segment's set of tables.
pub(crate) fn set_path(dir: &Path, number: usize) -> PathBuf {
    joust_reward::dump::set_path(dir, number)
}

/// A segment in the folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    pub(crate) number: usize,
    /// Whether its set is written.
    pub(crate) is_written: bool,
    pub(crate) path: PathBuf,
}

/// The segments in a folder, in order.
///
/// # Errors
/// [`Error::Io`]
pub(crate) fn segments(dir: &Path) -> Result<Vec<Segment>, Error> {
    let segment = |name: &str| {
        let rest = name.strip_prefix("journal_")?;
        let written = rest.strip_suffix(WRITTEN);
        let number = written.or_else(|| rest.strip_suffix(".jsonl"))?.parse().ok()?;
        Some(Segment { number, is_written: written.is_some(), path: dir.join(name) })
    };
    sorted_entries(dir, segment)
}

/// End of the file name of a segment whose set is written.
const WRITTEN: &str = "_written.jsonl";

fn written_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("journal_{number:05}{WRITTEN}"))
}

/// Renames a segment whose set is written.
///
/// # Errors
/// [`Error::Io`]
pub(crate) fn mark_written(dir: &Path, number: usize) -> Result<(), Error> {
    let path = segment_path(dir, number);
    fs::rename(&path, written_path(dir, number)).map_err(|source| Error::io(path, source))
}

/// Whether a name in the folder is that of a set.
pub(crate) fn is_set(name: &str) -> bool {
    number_of_set(name).is_some()
}

fn number_of_set(name: &str) -> Option<usize> {
    name.strip_prefix("set_")?.parse().ok()
}

/// Numbers of the sets in a folder, in order.
///
/// # Errors
/// [`Error::Io`]
pub(crate) fn set_numbers(dir: &Path) -> Result<Vec<usize>, Error> {
    sorted_entries(dir, number_of_set)
}

/// The entries of a folder whose names `parse` reads, sorted.
fn sorted_entries<T: Ord>(dir: &Path, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Error> {
    let io = |source| Error::io(dir, source);
    let mut parsed = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        parsed.extend(parse(&entry.map_err(io)?.file_name().to_string_lossy()));
    }
    parsed.sort_unstable();
    Ok(parsed)
}

/// Maximum size of a line; a longer one is none of this program's.
const MAX_LINE_BYTES: u64 = 1 << 30;

/// Passes the entries of a segment on, one at a time, and returns the number of lines that could
/// not be read, such as an incomplete last line.
///
/// # Errors
/// [`Error::Io`]
pub(crate) fn read_segment(
    path: &Path,
    mut take: impl FnMut(JournalEntry),
) -> Result<usize, Error> {
    let io = |source| Error::io(path, source);
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let (mut line, mut n_bad, mut is_cut) = (Vec::new(), 0, false);
    while reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(io)? > 0 {
        let is_whole = line.ends_with(b"\n");
        match serde_json::from_slice(&line) {
            Ok(entry) if is_whole && !is_cut => take(entry),
            // the parts of a line that is too long count as one line
            _ => n_bad += usize::from(is_whole || !is_cut),
        }
        is_cut = !is_whole;
        line.clear();
    }
    Ok(n_bad)
}

/// The judged groups of a segment.
///
/// # Errors
/// [`Error::Io`]
pub(crate) fn read_groups(path: &Path) -> Result<Vec<Arc<Judged>>, Error> {
    let mut groups = Vec::new();
    read_segment(path, |entry| {
        if let JournalEntry::Judged { judged, .. } = entry {
            groups.push(judged);
        }
    })?;
    Ok(groups)
}
