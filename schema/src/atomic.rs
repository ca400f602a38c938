//! Files and folders that appear whole or not at all: written beside their place, synced, renamed.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Ending of what is not finished yet.
const UNFINISHED: &str = "tmp";

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{UNFINISHED}"));
    path.with_file_name(name)
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

/// In an unfinished folder: who has it locked is still filling it.
const MARK: &str = ".unfinished";

/// Fills a folder with `fill`, and puts it in its place once all of it is on disk. A folder that
/// was there before is replaced.
///
/// # Errors
/// What `fill` returns, or [`Error::Io`]; nothing is left behind then. [`Error::BadFile`] where another
/// program is writing the same folder, or something else has the unfinished one's name.
pub fn write_dir<E: From<Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let io = |source| Error::io(path, source);
    fs::create_dir_all(parent(path)).map_err(io)?;
    let unfinished = beside(path);
    let mark = begin(&unfinished)?;
    let result = (|| {
        fill(&unfinished)?;
        sync_tree(&unfinished)?;
        fs::remove_file(unfinished.join(MARK)).map_err(io)?;
        if path.exists() {
            // the old folder goes only once the new one is complete
            let mut old = path.file_name().unwrap_or_default().to_owned();
            old.push(format!(".old.{}.{UNFINISHED}", std::process::id()));
            let old = path.with_file_name(old);
            fs::rename(path, &old).map_err(io)?;
            fs::rename(&unfinished, path).map_err(io)?;
            remove_if_there(&old)?;
        } else {
            fs::rename(&unfinished, path).map_err(io)?;
        }
        Ok(sync_dir(parent(path))?)
    })();
    if result.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    drop(mark);
    result
}

/// Makes the unfinished folder with its mark, locked. What an interrupted program left goes.
fn begin(unfinished: &Path) -> Result<File, Error> {
    let io = |source| Error::io(unfinished, source);
    let mark = unfinished.join(MARK);
    if fs::symlink_metadata(unfinished).is_ok() {
        let left = File::open(&mark).map_err(|_| {
            Error::bad_file(unfinished, "is in the way of what is to be written; move it away")
        })?;
        if left.try_lock().is_err() {
            return Err(Error::bad_file(unfinished, "another program is writing this"));
        }
        fs::remove_dir_all(unfinished).map_err(io)?;
    }
    // whoever makes it has it
    fs::create_dir(unfinished).map_err(io)?;
    let mark = File::create(&mark).map_err(io)?;
    mark.lock().map_err(io)?;
    Ok(mark)
}

/// Deletes what an interrupted program left unfinished in `dir` (not in its subfolders).
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
        if path.extension().is_some_and(|ending| ending == UNFINISHED) {
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
            Ok(())
        })
        .unwrap();
        // a killed program's is taken over, somebody else's is not
        let unfinished = dir.path().join("model.tmp");
        fs::create_dir(&unfinished).unwrap();
        let error = write().unwrap_err().to_string();
        assert!(error.contains("in the way"), "{error}");
        fs::write(unfinished.join(MARK), "").unwrap();
        write().unwrap();
        assert!(!unfinished.exists());
    }
}
