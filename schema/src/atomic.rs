//! Files and folders that appear whole or not at all: written beside their place, synced, renamed.

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Ending of what is not finished yet.
const UNFINISHED: &str = "tmp";

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// Where what is to be `path` is written.
fn beside(path: &Path) -> PathBuf {
    with_ending(path, &format!(".{UNFINISHED}"))
}

/// Where the folder that `path` replaces waits for its end.
fn replaced(path: &Path) -> PathBuf {
    with_ending(path, &format!(".old.{UNFINISHED}"))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Writes a file with `write`, and puts it in its place once all of it is on disk.
///
/// # Errors
/// What `write` returns, or [`Error::Io`]; nothing is left behind then.
pub fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Error>,
) -> Result<(), Error> {
    let io = |source| Error::io(path, source);
    fs::create_dir_all(parent(path)).map_err(io)?;
    let unfinished = beside(path);
    let result = (|| {
        let mut writer = BufWriter::new(File::create(&unfinished).map_err(io)?);
        write(&mut writer)?;
        writer.flush().map_err(io)?;
        writer.get_ref().sync_all().map_err(io)?;
        fs::rename(&unfinished, path).map_err(io)?;
        sync_dir(parent(path))
    })();
    if result.is_err() {
        // a file that was never created is no further error
        let _ = fs::remove_file(&unfinished);
    }
    result
}

/// In a folder that is not finished, or no longer wanted: who has it locked is still at work on it.
pub const MARK: &str = ".unfinished";

/// Fills a folder with `fill`, and puts it in its place once all of it is on disk. A folder that
/// was there before is replaced.
///
/// # Errors
/// What `fill` returns, or [`Error::Io`]; nothing is left behind then, and what was there stays. As
/// [`check_free`].
pub fn write_dir<E: From<Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let io = |source| Error::io(path, source);
    fs::create_dir_all(parent(path)).map_err(io)?;
    let unfinished = beside(path);
    let mark = begin(path)?;
    let result = (|| {
        fill(&unfinished)?;
        sync_tree(&unfinished)?;
        put(&unfinished, path).map_err(io)?;
        // last of all: what has a mark may be taken away, what has none may not
        fs::remove_file(path.join(MARK)).map_err(io)?;
        Ok(sync_dir(parent(path))?)
    })();
    if result.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    drop(mark);
    result
}

/// Renames a finished folder. The one that was there before goes only once the new one is in its place.
fn put(finished: &Path, path: &Path) -> std::io::Result<()> {
    if !path.exists() {
        return fs::rename(finished, path);
    }
    let old = replaced(path);
    File::create(path.join(MARK))?;
    fs::rename(path, &old)?;
    if let Err(error) = fs::rename(finished, path) {
        fs::rename(&old, path)?;
        fs::remove_file(path.join(MARK))?;
        return Err(error);
    }
    fs::remove_dir_all(&old)
}

/// Whether a folder may be written: nothing has the names that it needs beside its own, but what an
/// interrupted program left there.
///
/// # Errors
/// [`Error::BadFile`] where another program is writing it, or something else has such a name.
pub fn check_free(path: &Path) -> Result<(), Error> {
    leftovers(path).map(|_| ())
}

/// What an interrupted program left in the folders beside `path`, each with its mark.
fn leftovers(path: &Path) -> Result<Vec<(PathBuf, File)>, Error> {
    let found = |folder: PathBuf| Ok(left(&folder)?.map(|mark| (folder, mark)));
    [beside(path), replaced(path)].into_iter().map(found).filter_map(Result::transpose).collect()
}

/// The mark of what an interrupted program left at `path`, locked where the file system has locks.
fn left(path: &Path) -> Result<Option<File>, Error> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(None);
    }
    let Ok(mark) = File::open(path.join(MARK)) else {
        return Err(Error::bad_file(path, "is in the way of what is to be written; move it away"));
    };
    lock(&mark, path).map(|()| Some(mark))
}

/// Takes a folder by its open mark.
fn lock(mark: &File, folder: &Path) -> Result<(), Error> {
    let others = || Error::bad_file(folder, "another program is writing this");
    // a file system without locks has no answer to who is at work
    if let Err(TryLockError::WouldBlock) = mark.try_lock() {
        return Err(others());
    }
    // another program may have removed it and begun anew between its opening and its locking
    let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let same = match (mark.metadata(), fs::metadata(folder.join(MARK))) {
        (Ok(mine), Ok(there)) => id(mine) == id(there),
        _ => false,
    };
    if same { Ok(()) } else { Err(others()) }
}

/// Makes the unfinished folder with its mark, locked. What an interrupted program left goes.
fn begin(path: &Path) -> Result<File, Error> {
    for (folder, _mark) in leftovers(path)? {
        // killed between two renames: what was to be replaced is all that there is
        let cleared = match folder == replaced(path) && !path.exists() {
            true => fs::rename(&folder, path).and_then(|()| fs::remove_file(path.join(MARK))),
            false => fs::remove_dir_all(&folder),
        };
        cleared.map_err(|source| Error::io(&folder, source))?;
    }
    let unfinished = beside(path);
    let io = |source| Error::io(&unfinished, source);
    // whoever makes it has it
    fs::create_dir(&unfinished).map_err(io)?;
    let begun = File::create(unfinished.join(MARK))
        .map_err(io)
        .and_then(|mark| lock(&mark, &unfinished).map(|()| mark));
    if let Err(Error::Io { .. }) = &begun {
        let _ = fs::remove_dir_all(&unfinished);
    }
    begun
}

/// Deletes what an interrupted program left unfinished in `dir` (not in its subfolders), but what
/// another one is writing.
///
/// # Errors
/// [`Error::Io`]
pub fn sweep(dir: &Path) -> Result<(), Error> {
    let io = |source| Error::io(dir, source);
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let mark = File::open(path.join(MARK));
        let is_in_work = mark.is_ok_and(|mark| lock(&mark, &path).is_err());
        if !is_in_work && path.extension().is_some_and(|ending| ending == UNFINISHED) {
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    let result = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    result.map_err(|source| Error::io(path, source))
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| Error::io(dir, source))
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
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        let text = |text: &'static str| {
            move |writer: &mut BufWriter<File>| {
                writer.write_all(text.as_bytes()).map_err(|e| Error::io("x", e))
            }
        };
        write_file(&path, text("old")).unwrap();
        let failed = write_file(&path, |_| Err(Error::bad_file("x", "broken")));
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_replaced_whole_and_leftovers_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        for text in ["one", "two"] {
            write_dir::<Error>(&path, |dir| {
                fs::write(dir.join("f"), text).map_err(|e| Error::io(dir, e))
            })
            .unwrap();
            assert_eq!(fs::read_to_string(path.join("f")).unwrap(), text);
        }
        let fails = |_: &Path| Err(Error::bad_file("x", "broken"));
        write_dir::<Error>(&path, fails).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        fs::create_dir(dir.path().join("half.tmp")).unwrap();
        sweep(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_unfinished_folder_is_its_writers_until_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        let write = || write_dir::<Error>(&path, |_| Ok(()));
        write_dir::<Error>(&path, |_| {
            let error = write().unwrap_err().to_string();
            assert!(error.contains("another program"), "{error}");
            sweep(dir.path()).unwrap();
            Ok(())
        })
        .unwrap();
        for name in ["model.tmp", "model.old.tmp"] {
            // a killed program's goes, somebody else's is not touched
            let in_the_way = dir.path().join(name);
            fs::create_dir(&in_the_way).unwrap();
            for error in [write().unwrap_err(), check_free(&path).unwrap_err()] {
                assert!(error.to_string().contains("in the way"), "{error}");
            }
            fs::write(in_the_way.join(MARK), "").unwrap();
            write().unwrap();
            assert!(!in_the_way.exists());
        }
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn what_was_to_be_replaced_stays_where_the_program_was_killed_between_two_renames() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        fs::create_dir(replaced(&path)).unwrap();
        fs::write(replaced(&path).join(MARK), "").unwrap();
        fs::write(replaced(&path).join("f"), "old").unwrap();
        write_dir::<Error>(&path, |_| Err(Error::bad_file("x", "broken"))).unwrap_err();
        assert_eq!(fs::read_to_string(path.join("f")).unwrap(), "old");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_mark_that_was_taken_over_is_not_ones_own() {
        let dir = tempfile::tempdir().unwrap();
        let mark = File::create(dir.path().join(MARK)).unwrap();
        fs::remove_file(dir.path().join(MARK)).unwrap();
        lock(&mark, dir.path()).unwrap_err();
        fs::write(dir.path().join(MARK), "").unwrap();
        lock(&mark, dir.path()).unwrap_err();
    }

    #[test]
    fn of_many_writers_at_once_each_writes_all_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        let write = |text: String| {
            write_dir::<Error>(&path, |dir| {
                for name in ["a", "b", "c"] {
                    fs::write(dir.join(name), &text).map_err(|e| Error::io(dir, e))?;
                }
                Ok(())
            })
        };
        let n_written: usize = std::thread::scope(|scope| {
            let many = |writer: usize| {
                (0..50).filter(|turn| write(format!("{writer} {turn}")).is_ok()).count()
            };
            let writers: Vec<_> = (0..4).map(|writer| scope.spawn(move || many(writer))).collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).sum()
        });
        assert!(n_written > 0);
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
        assert_eq!((read("a"), read("a")), (read("b"), read("c")));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 3);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
