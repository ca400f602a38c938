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
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use joust_schema::Error;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::judged::{CohortRecord, GroupKey, Judged};
use joust_reward::arena::{GroupRequest, GroupResult};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    /// A group was judged.
    Judged {
        /// When, in seconds since 1970.
        at: f64,
        /// By whom and how: results of another judge, or by other settings, are no answers.
        by: String,
        /// The group.
        #[serde(with = "shared")]
        judged: Arc<Judged>,
    },
    /// A member of a group whose members came one by one has got its answer.
    Delivered {
        /// The group.
        key: GroupKey,
        /// Its place in it.
        member: usize,
    },
    /// A job was accepted: its client will ask for the result later.
    Accepted {
        /// The group.
        key: GroupKey,
        /// What is to be judged.
        group: Box<GroupRequest>,
        /// Whose it is.
        client: String,
    },
    /// A job was cancelled.
    Cancelled {
        /// The group.
        key: GroupKey,
    },
}

/// A line to be written without a second serialisation of its group; read as [`Entry`].
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    /// See [`Entry::Judged`].
    Judged { at: f64, by: &'a str, judged: JudgedLine<'a> },
}

/// The fields of [`Judged`], with the group as JSON.
#[derive(Serialize)]
pub(crate) struct JudgedLine<'a> {
    key: GroupKey,
    group: &'a RawValue,
    result: &'a GroupResult,
    #[serde(skip_serializing_if = "Option::is_none")]
    cohort: Option<&'a CohortRecord>,
}

impl<'a> Line<'a> {
    /// The line of a judged group.
    pub(crate) fn judged(at: f64, by: &'a str, judged: &'a Judged, group: &'a RawValue) -> Self {
        let Judged { key, result, cohort, .. } = judged;
        let judged = JudgedLine { key: *key, group, result, cohort: cohort.as_ref() };
        Self::Judged { at, by, judged }
    }
}

/// A shared group is written like one that is not.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::Judged;

    pub(crate) fn serialize<S: Serializer>(
        judged: &Arc<Judged>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        judged.as_ref().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<Judged>, D::Error> {
        Judged::deserialize(deserializer).map(Arc::new)
    }
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// The segment that is being written.
pub(crate) struct Journal {
    dir: PathBuf,
    number: usize,
    file: File,
    n_bytes: u64,
    /// Held while the server runs.
    _lock: File,
}

impl Journal {
    /// Opens the folder and begins a segment after all that are there.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::BadFile`] where another server writes there.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(|source| Error::io(dir, source))?;
        let path = dir.join("lock");
        let io = |source| Error::io(&path, source);
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let reason = "another server writes its dump here; wanted another serve.dump";
                return Err(Error::bad_file(dir, reason));
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let known = segments(dir)?.into_iter().map(|segment| segment.number);
        let last = known.chain(sets(dir)?).max();
        let number = last.map_or(0, |last| last + 1);
        let file = begin(dir, number)?;
        Ok(Self { dir: dir.to_owned(), number, file, n_bytes: 0, _lock: lock })
    }

    /// The segment's number.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Bytes of the segment.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Adds a line.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub(crate) fn append(&mut self, entry: &impl Serialize) -> Result<(), Error> {
        let path = segment_path(&self.dir, self.number);
        let line =
            joust_schema::jsonl::to_line(entry).map_err(|error| Error::bad_file(&path, error))?;
        // one write, so that a kill leaves at most one line in parts
        if let Err(source) = self.file.write_all(line.as_bytes()) {
            // what is there of it must not spoil the next line
            let _ = self.file.set_len(self.n_bytes);
            return Err(Error::io(&path, source));
        }
        self.n_bytes += line.len() as u64;
        Ok(())
    }

    /// Begins the next segment, and returns the number of the one that is closed with it.
    ///
    /// # Errors
    /// [`Error::Io`]; the old segment goes on then.
    pub(crate) fn rotate(&mut self) -> Result<usize, Error> {
        let closed = self.number;
        self.file = begin(&self.dir, closed + 1)?;
        self.number = closed + 1;
        self.n_bytes = 0;
        Ok(closed)
    }
}

fn begin(dir: &Path, number: usize) -> Result<File, Error> {
    let path = segment_path(dir, number);
    let file = OpenOptions::new().create(true).append(true).open(&path);
    file.map_err(|source| Error::io(path, source))
}

/// The file of a segment whose set is not written.
pub(crate) fn segment_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("journal_{number:05}.jsonl"))
}

/// The folder of a segment's tables.
pub(crate) fn set_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("set_{number:05}"))
}

/// A segment that is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Segment {
    pub(crate) number: usize,
    /// Whether its groups have become a set.
    pub(crate) is_written: bool,
    pub(crate) path: PathBuf,
}

/// The segments that are there, in order.
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
    found(dir, segment)
}

/// How the name of a segment ends whose set is written.
const WRITTEN: &str = "_written.jsonl";

fn written_path(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("journal_{number:05}{WRITTEN}"))
}

/// Remembers that a segment's set is written.
///
/// # Errors
/// [`Error::Io`]
pub(crate) fn mark_written(dir: &Path, number: usize) -> Result<(), Error> {
    let path = segment_path(dir, number);
    fs::rename(&path, written_path(dir, number)).map_err(|source| Error::io(path, source))
}

/// Numbers of the sets that are there, in order.
///
/// # Errors
/// [`Error::Io`]
pub(crate) fn sets(dir: &Path) -> Result<Vec<usize>, Error> {
    found(dir, |name| name.strip_prefix("set_")?.parse().ok())
}

/// What the names of a folder's entries stand for, in order.
fn found<T: Ord>(dir: &Path, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Error> {
    let io = |source| Error::io(dir, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        found.extend(read(&entry.map_err(io)?.file_name().to_string_lossy()));
    }
    found.sort_unstable();
    Ok(found)
}

/// The lines of a segment, and how many could not be read: a last one that was cut off, say.
///
/// # Errors
/// [`Error::Io`]
pub(crate) fn read(path: &Path) -> Result<(Vec<Entry>, usize), Error> {
    let io = |source| Error::io(path, source);
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let (mut entries, mut n_bad) = (Vec::new(), 0);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).map_err(io)? > 0 {
        match serde_json::from_slice(&line) {
            Ok(entry) if line.ends_with(b"\n") => entries.push(entry),
            _ => n_bad += 1,
        }
        line.clear();
    }
    Ok((entries, n_bad))
}
