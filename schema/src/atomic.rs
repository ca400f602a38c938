//! Files and folders that appear whole or not at all: written under another name, synced, renamed.
//!
//! It does not know what is in them.

mod file;
mod names;

use std::fs::{self, File, Metadata, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

pub use file::{check_file, write_file};
pub use names::finished_name;

use crate::error::Error;
use names::{parent, replaced_path, sync_dir, unfinished_path};

/// Name of a file in unfinished and in replaced folders. The program that holds its lock still
/// works on the folder.
pub const MARK: &str = ".unfinished";

/// Fills a folder with `fill`, and renames it to `path` once all of it is on disk. An existing
/// folder is replaced.
///
/// # Errors
/// The error of `fill`, or [`Error::Io`]: the unfinished folder is deleted then, and an existing
/// folder stays. Those of [`check_free`].
pub fn write_dir<E: From<Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    // a link to a folder stays, and the folder behind it is replaced
    let real = path.canonicalize().ok();
    let path = real.as_deref().unwrap_or(path);
    let io = |source| Error::io(path, source);
    fs::create_dir_all(parent(path)).map_err(io)?;
    let unfinished = unfinished_path(path);
    let mark = begin(path)?;
    let result = (|| {
        fill(&unfinished)?;
        sync_tree(&unfinished)?;
        rename_finished(&unfinished, path).map_err(io)?;
        // last of all: folders with a mark may be deleted by others, folders without may not
        fs::remove_file(path.join(MARK)).map_err(io)?;
        Ok(sync_dir(parent(path))?)
    })();
    if result.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    drop(mark);
    result
}

/// Renames a finished folder. An existing folder is deleted only after that.
fn rename_finished(finished: &Path, path: &Path) -> std::io::Result<()> {
    if !path.exists() {
        return fs::rename(finished, path);
    }
    let old = replaced_path(path);
    File::create(path.join(MARK))?;
    fs::rename(path, &old)?;
    if let Err(error) = fs::rename(finished, path) {
        fs::rename(&old, path)?;
        fs::remove_file(path.join(MARK))?;
        return Err(error);
    }
    fs::remove_dir_all(&old)
}

/// Checks that a folder may be written: the names that writing needs are free, or taken by
/// leftovers of an interrupted program, and a file can be written beside it. Nothing is left of it.
///
/// # Errors
/// [`Error::BadFile`] if another program is writing the folder, or something else has such a name;
/// [`Error::Io`] where nothing can be written.
pub fn check_free(path: &Path) -> Result<(), Error> {
    let real = path.canonicalize().ok();
    let path = real.as_deref().unwrap_or(path);
    leftovers(path)?;
    let there = parent(path).ancestors().find(|folder| folder.exists());
    let beside = there.unwrap_or(Path::new(".")).join(path.file_name().unwrap_or_default());
    file::write_trial(&beside).map_err(|source| Error::io(path, source))
}

/// Folders beside `path` that an interrupted program left, each with its mark.
fn leftovers(path: &Path) -> Result<Vec<(PathBuf, File)>, Error> {
    let leftover = |folder: PathBuf| Ok(leftover_mark(&folder)?.map(|mark| (folder, mark)));
    [unfinished_path(path), replaced_path(path)]
        .into_iter()
        .map(leftover)
        .filter_map(Result::transpose)
        .collect()
}

/// The mark of a folder that an interrupted program left, locked where the file system has locks.
fn leftover_mark(path: &Path) -> Result<Option<File>, Error> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(None);
    }
    let Ok(mark) = open_mark(path) else {
        return Err(Error::bad_file(path, "is in the way of what is to be written; move it away"));
    };
    lock(&mark, path).map(|()| Some(mark))
}

/// Opens the mark of a folder for writing: some network file systems lock no file that is only
/// read.
fn open_mark(folder: &Path) -> std::io::Result<File> {
    File::options().read(true).write(true).open(folder.join(MARK))
}

/// Locks a folder by its open mark.
fn lock(mark: &File, folder: &Path) -> Result<(), Error> {
    let others = || Error::bad_file(folder, "another program is writing this");
    // a file system without locks cannot say whether a program works on the folder
    if let Err(TryLockError::WouldBlock) = mark.try_lock() {
        return Err(others());
    }
    // another program may have made the folder anew between the opening and the locking
    let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let same = match (mark.metadata(), fs::metadata(folder.join(MARK))) {
        (Ok(mine), Ok(there)) => id(mine) == id(there),
        _ => false,
    };
    if same { Ok(()) } else { Err(others()) }
}

/// Makes the unfinished folder with its mark, locked. Leftovers of an interrupted program are
/// deleted.
fn begin(path: &Path) -> Result<File, Error> {
    for (folder, _mark) in leftovers(path)? {
        // killed between two renames: the replaced folder is the only one left
        let cleared = match folder == replaced_path(path) && !path.exists() {
            true => restore(&folder, path),
            false => fs::remove_dir_all(&folder),
        };
        cleared.map_err(|source| Error::io(&folder, source))?;
    }
    let unfinished = unfinished_path(path);
    let io = |source| Error::io(&unfinished, source);
    // fails where another program has made it in the meantime
    fs::create_dir(&unfinished).map_err(io)?;
    let begun = File::create(unfinished.join(MARK))
        .map_err(io)
        .and_then(|mark| lock(&mark, &unfinished).map(|()| mark));
    if let Err(Error::Io { .. }) = &begun {
        let _ = fs::remove_dir_all(&unfinished);
    }
    begun
}

/// Clears what an interrupted program has left in `dir` (not in its subfolders), of the names that
/// are its own once they are finished: deletes what is unfinished, and restores a replaced folder
/// that was not replaced yet. What another program is writing stays, and so do all other names.
///
/// # Errors
/// [`Error::Io`]
pub fn sweep(dir: &Path, is_own: impl Fn(&str) -> bool) -> Result<(), Error> {
    let io = |source| Error::io(dir, source);
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let finished = finished_name(&name);
        if finished == name || !is_own(finished) || is_in_work(&path) {
            continue;
        }
        let target = path.with_file_name(finished);
        let is_replaced = path == replaced_path(&target);
        match (is_replaced, fs::symlink_metadata(&target).is_ok()) {
            // only folders are moved away before they are replaced
            (true, _) if !path.is_dir() => {}
            (true, false) => {
                restore(&path, &target).map_err(|source| Error::io(&path, source))?;
            }
            _ => remove_if_present(&path)?,
        }
    }
    Ok(())
}

/// Whether a program works on a folder, or may do so.
fn is_in_work(folder: &Path) -> bool {
    match open_mark(folder) {
        Ok(mark) => lock(&mark, folder).is_err(),
        Err(error) => !matches!(
            error.kind(),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
        ),
    }
}

/// Gives a replaced folder its name back.
fn restore(replaced: &Path, path: &Path) -> std::io::Result<()> {
    fs::rename(replaced, path)?;
    match fs::remove_file(path.join(MARK)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove_if_present(path: &Path) -> Result<(), Error> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    result.map_err(|source| Error::io(path, source))
}

fn sync_tree(dir: &Path) -> Result<(), Error> {
    let io = |source| Error::io(dir, source);
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(&path).and_then(|file| file.sync_all()).map_err(io)?;
        }
    }
    sync_dir(dir)
}

#[cfg(test)]
mod tests;
