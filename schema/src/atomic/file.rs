//! One file, whole or not at all. Links stay links, and pipes and devices get the bytes directly.
//!
//! It does not know folders.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::names::{UNFINISHED, parent, sync_dir, with_ending};
use crate::error::Error;

/// Where the bytes of a file go.
enum Destination {
    /// A file that is made or replaced.
    Whole(PathBuf),
    /// A pipe, a device, or a file that is open already (`/dev/stdout`): nothing is replaced.
    Stream,
}

/// Maximum number of links that lead to a file.
const MAX_LINKS: usize = 40;

/// Number of bytes that are written to find out whether there is room for a file.
const TRIAL_BYTES: usize = 4096;

/// Writes a file with `write`, and renames it to `path` once all of it is on disk. The file behind
/// a link is replaced, and the link stays. A pipe or a device is written to as it is.
///
/// # Errors
/// The error of `write`, or [`Error::Io`]; the unfinished file is deleted then. [`Error::BadFile`]
/// for a folder.
pub fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Error>,
) -> Result<(), Error> {
    let io = |source| Error::io(path, source);
    match Destination::of(path)? {
        Destination::Whole(target) => write_whole(path, &target, write),
        Destination::Stream => {
            // a file that is open already goes on at its end
            let file = OpenOptions::new().append(true).open(path).map_err(io)?;
            let mut writer = BufWriter::new(file);
            write(&mut writer)?;
            writer.flush().map_err(io)
        }
    }
}

/// Checks that [`write_file`] can write: makes the folder of the file, and a file beside it, which
/// is deleted again. Pipes and devices are not touched.
///
/// # Errors
/// As [`write_file`].
pub fn check_file(path: &Path) -> Result<(), Error> {
    let Destination::Whole(target) = Destination::of(path)? else { return Ok(()) };
    let io = |source| Error::io(path, source);
    fs::create_dir_all(parent(&target)).map_err(io)?;
    write_trial(&target).map_err(io)
}

/// Writes a file beside `target`, and deletes it again.
pub(super) fn write_trial(target: &Path) -> std::io::Result<()> {
    let (unfinished, mut file) = begin(target)?;
    // a full disk may show only once the bytes are on it
    let written = file.write_all(&[0; TRIAL_BYTES]).and_then(|()| file.sync_all());
    written.and(fs::remove_file(&unfinished))
}

/// Writes `target`, which is `path` without links.
fn write_whole(
    path: &Path,
    target: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Error>,
) -> Result<(), Error> {
    let io = |source| Error::io(path, source);
    fs::create_dir_all(parent(target)).map_err(io)?;
    let (unfinished, file) = begin(target).map_err(io)?;
    let result = (|| {
        let mut writer = BufWriter::new(file);
        write(&mut writer)?;
        writer.flush().map_err(io)?;
        writer.get_ref().sync_all().map_err(io)?;
        fs::rename(&unfinished, target).map_err(io)?;
        sync_dir(parent(target))
    })();
    if result.is_err() {
        // where it has its name already, it is not there any more
        let _ = fs::remove_file(&unfinished);
    }
    result
}

/// Makes the unfinished file beside `target`, under a name that nobody has.
fn begin(target: &Path) -> std::io::Result<(PathBuf, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let ending = format!(".{}-{number}.{UNFINISHED}", std::process::id());
        let unfinished = with_ending(target, &ending);
        match OpenOptions::new().write(true).create_new(true).open(&unfinished) {
            // left by a killed process of the same number
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (unfinished, file)),
        }
    }
}

impl Destination {
    fn of(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::io(path, source);
        if let Ok(metadata) = fs::metadata(path) {
            if metadata.is_dir() {
                return Err(Error::bad_file(path, "is a folder, wanted a file"));
            }
            if !metadata.is_file() {
                return Ok(Self::Stream);
            }
        }
        let mut target = path.to_owned();
        for _ in 0..MAX_LINKS {
            if is_descriptor(&target) {
                return Ok(Self::Stream);
            }
            match fs::read_link(&target) {
                Ok(to) => target = parent(&target).join(to),
                // no link, or nothing
                Err(_) => return Ok(Self::Whole(target)),
            }
        }
        Err(io(std::io::Error::other("too many links")))
    }
}

/// Whether a path names a file that a process has open.
fn is_descriptor(path: &Path) -> bool {
    let folder = parent(path).canonicalize().unwrap_or_default();
    folder.starts_with("/proc") && folder.ends_with("fd")
}

#[cfg(test)]
mod tests;
