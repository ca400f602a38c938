//! Files and folders that appear whole or not at all: written under another name, synced, renamed.

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Extension of unfinished files and folders.
const UNFINISHED: &str = "tmp";

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// The name under which `path` is written.
fn unfinished_path(path: &Path) -> PathBuf {
    with_ending(path, &format!(".{UNFINISHED}"))
}

/// The name of the folder that `path` replaces, until it is deleted.
fn replaced_path(path: &Path) -> PathBuf {
    with_ending(path, &format!(".old.{UNFINISHED}"))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Writes a file with `write`, and renames it to `path` once all of it is on disk.
///
/// # Errors
/// The error of `write`, or [`Error::Io`]; the unfinished file is deleted then.
pub fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), Error>,
) -> Result<(), Error> {
    let io = |source| Error::io(path, source);
    fs::create_dir_all(parent(path)).map_err(io)?;
    let unfinished = unfinished_path(path);
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
/// leftovers of an interrupted program.
///
/// # Errors
/// [`Error::BadFile`] if another program is writing the folder, or something else has such a name.
pub fn check_free(path: &Path) -> Result<(), Error> {
    leftovers(path).map(|_| ())
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
    let Ok(mark) = File::open(path.join(MARK)) else {
        return Err(Error::bad_file(path, "is in the way of what is to be written; move it away"));
    };
    lock(&mark, path).map(|()| Some(mark))
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
            true => fs::rename(&folder, path).and_then(|()| fs::remove_file(path.join(MARK))),
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

/// Deletes unfinished files and folders in `dir` (not in its subfolders), except those that another
/// program is writing.
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
            remove_if_present(&path)?;
        }
    }
    Ok(())
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
    fn write_file_keeps_the_old_file_and_nothing_else_after_a_failure() {
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
    fn write_dir_replaces_whole_folders_and_sweep_deletes_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        for text in ["one", "two"] {
            write_dir::<Error>(&path, |dir| {
                fs::write(dir.join("f"), text).map_err(|e| Error::io(dir, e))
            })
            .unwrap();
            assert_eq!(fs::read_to_string(path.join("f")).unwrap(), text);
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_dir::<Error>(&link, |dir| {
            fs::write(dir.join("f"), "three").map_err(|e| Error::io(dir, e))
        })
        .unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(path.join("f")).unwrap(), "three");
        fs::remove_file(&link).unwrap();
        let fails = |_: &Path| Err(Error::bad_file("x", "broken"));
        write_dir::<Error>(&path, fails).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        fs::create_dir(dir.path().join("half.tmp")).unwrap();
        sweep(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn write_dir_refuses_a_folder_that_another_writer_holds() {
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
            // leftovers of a killed program are deleted, other folders are kept
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
    fn write_dir_restores_the_replaced_folder_after_a_kill_between_two_renames() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        fs::create_dir(replaced_path(&path)).unwrap();
        fs::write(replaced_path(&path).join(MARK), "").unwrap();
        fs::write(replaced_path(&path).join("f"), "old").unwrap();
        write_dir::<Error>(&path, |_| Err(Error::bad_file("x", "broken"))).unwrap_err();
        assert_eq!(fs::read_to_string(path.join("f")).unwrap(), "old");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn lock_refuses_a_mark_that_another_program_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let mark = File::create(dir.path().join(MARK)).unwrap();
        fs::remove_file(dir.path().join(MARK)).unwrap();
        lock(&mark, dir.path()).unwrap_err();
        fs::write(dir.path().join(MARK), "").unwrap();
        lock(&mark, dir.path()).unwrap_err();
    }

    #[test]
    fn write_dir_of_many_writers_at_once_writes_all_or_nothing() {
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
