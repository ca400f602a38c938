//! The lock of a run's folder: one process writes a run.
//!
//! It knows nothing of what is written. The system releases the lock when the process ends, however
//! it ends; the file stays.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use joust_schema::Error as FileError;

use crate::error::Error;

/// Name of the lock's file in a run's folder.
pub(super) const FILE: &str = ".lock";

/// Held for as long as this process writes the run.
#[derive(Debug)]
pub(super) struct RunLock {
    file: File,
    path: PathBuf,
}

impl RunLock {
    /// Locks the folder, which must exist.
    ///
    /// # Errors
    /// [`Error::Input`] where another process holds it, with the process.
    pub(super) fn acquire(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let io = |source| FileError::io(&path, source);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(io)?;
        let locked = patiently(|| file.try_lock());
        allow(locked, &mut file, dir)?;
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        file.write_all(this_process().as_bytes()).map_err(io)?;
        let lock = Self { file, path };
        lock.check()?;
        Ok(lock)
    }

    /// Refuses a folder that another process writes, without touching it.
    pub(super) fn probe(dir: &Path) -> Result<(), Error> {
        match File::open(dir.join(FILE)) {
            Ok(mut file) => {
                let locked = patiently(|| file.try_lock_shared());
                allow(locked, &mut file, dir)
            }
            Err(_) => Ok(()),
        }
    }

    /// Checks that the folder is still the one that was locked.
    ///
    /// # Errors
    /// [`Error::Lost`] where it was deleted or replaced in the meantime.
    pub(super) fn check(&self) -> Result<(), Error> {
        let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let (mine, there) = (self.file.metadata(), std::fs::metadata(&self.path));
        match (mine.map(id), there.map(id)) {
            (Ok(mine), Ok(there)) if mine == there => Ok(()),
            _ => Err(Error::Lost { dir: self.path.parent().unwrap_or(&self.path).to_owned() }),
        }
    }
}

/// Tries again for a moment: another start may be looking whether the lock is free, or a process
/// may be on its way from its fork to the program that it runs, with the lock still in its hands.
fn patiently(lock: impl Fn() -> Result<(), TryLockError>) -> Result<(), TryLockError> {
    for _ in 0..20 {
        match lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            locked => return locked,
        }
    }
    lock()
}

/// The result of locking an open file: where another process holds it, an error that names it.
fn allow(locked: Result<(), TryLockError>, file: &mut File, dir: &Path) -> Result<(), Error> {
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // the holder may be about to write its name
            let _ = file.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another process",
                holder => holder,
            };
            Err(Error::input(format!(
                "{}: {holder} is writing this run; wait for its end or stop it, or choose another \
                 run.name",
                dir.display()
            )))
        }
        Err(TryLockError::Error(error)) => {
            tracing::warn!(dir = %dir.display(), %error, "The file system has no locks: nothing \
                keeps a second process from writing this run.");
            Ok(())
        }
    }
}

/// `process 4711 on node3`
fn this_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => format!("process {}\n", std::process::id()),
        host => format!("process {} on {host}\n", std::process::id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_held_by_one_and_names_its_process() {
        let dir = tempfile::tempdir().unwrap();
        RunLock::probe(dir.path()).unwrap();
        let held = RunLock::acquire(dir.path()).unwrap();
        let wanted = format!("process {}", std::process::id());
        for error in
            [RunLock::acquire(dir.path()).unwrap_err(), RunLock::probe(dir.path()).unwrap_err()]
        {
            assert!(error.to_string().contains(&wanted), "{error}");
        }
        held.check().unwrap();
        drop(held);
        drop(RunLock::acquire(dir.path()).unwrap());
    }

    #[test]
    fn lock_of_a_folder_that_was_replaced_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        std::fs::create_dir(&run).unwrap();
        let held = RunLock::acquire(&run).unwrap();
        std::fs::remove_dir_all(&run).unwrap();
        assert!(matches!(held.check(), Err(Error::Lost { .. })));
        std::fs::create_dir(&run).unwrap();
        let second = RunLock::acquire(&run).unwrap();
        assert!(matches!(held.check(), Err(Error::Lost { .. })));
        second.check().unwrap();
    }
}
