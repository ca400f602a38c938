//! The output of a large input: a folder with a subfolder per set, each written whole or not at
//! all, and the settings that they were made with.
//!
//! It does not know what is in a set.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use joust_reward::dump::set_path;
use joust_run::differing_keys;
use joust_schema::{Error, atomic};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::Table;

use crate::commands::written::UNWRITABLE;
use crate::failure::UserError;

/// The settings, in the folder.
const SETTINGS: &str = "sets.toml";

/// What is known of a set, in its folder.
const RECORD: &str = "set.json";

/// Held by the process that writes the folder.
const LOCK: &str = ".lock";

/// The folder, locked.
pub(super) struct SetFolder {
    dir: PathBuf,
    _lock: File,
}

/// What is known of a finished set.
#[derive(Serialize, Deserialize)]
pub(super) struct SetRecord<S> {
    /// Number of its groups or pairs.
    pub(super) n: usize,
    /// BLAKE3 hash of what was judged.
    pub(super) input: String,
    /// What is told of it.
    pub(super) summary: S,
}

/// Refuses a folder with sets, as the output of a command that writes none.
pub(crate) fn refuse_sets(dir: &Path) -> anyhow::Result<()> {
    match dir.join(SETTINGS).exists() {
        true => Err(refused(dir, "has sets of a larger input")),
        false => Ok(()),
    }
}

fn refused(dir: &Path, why: &str) -> anyhow::Error {
    UserError::new(format!("--output {} {why}: choose another", dir.display())).into()
}

impl SetFolder {
    /// Makes the folder, or opens one that was begun with the same settings. `files` are those of
    /// outputs without sets.
    ///
    /// # Errors
    /// A folder that has something else, or was begun with other settings; one that another process
    /// writes; [`Error::Io`].
    pub(super) fn open(dir: &Path, settings: &Table, files: &[&str]) -> anyhow::Result<Self> {
        let io = |source| Error::io(dir, source);
        std::fs::create_dir_all(dir).map_err(io).context(UNWRITABLE)?;
        let lock = lock(dir)?;
        let path = dir.join(SETTINGS);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let old: Table = text.parse().map_err(|error| Error::bad_file(&path, error))?;
                let keys = differing_keys(&old, settings);
                // without a set, nothing was made with the old ones
                if !keys.is_empty() && !set_path(dir, 0).exists() {
                    write_settings(&path, settings)?;
                } else if !keys.is_empty() {
                    return Err(UserError::new(format!(
                        "--output {} was begun with another value of {}: start with the same one, \
                         or choose another folder",
                        dir.display(),
                        keys.join(", ")
                    ))
                    .into());
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let is_taken = |file: &&&str| dir.join(file).exists();
                if let Some(file) = files.iter().find(is_taken) {
                    return Err(refused(dir, &format!("has {file} of another input")));
                }
                if set_path(dir, 0).exists() {
                    return Err(refused(dir, "has sets that another command wrote"));
                }
                write_settings(&path, settings)?;
            }
            Err(source) => return Err(Error::io(&path, source).into()),
        }
        atomic::sweep(dir, |name| name.starts_with("set"))?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Whether a set is finished.
    pub(super) fn has(&self, number: usize) -> bool {
        set_path(&self.dir, number).exists()
    }

    /// What is known of a set; `None` if it is not finished.
    pub(super) fn record<S: DeserializeOwned>(
        &self,
        number: usize,
    ) -> Result<Option<SetRecord<S>>, Error> {
        if !self.has(number) {
            return Ok(None);
        }
        let path = set_path(&self.dir, number).join(RECORD);
        let text = std::fs::read_to_string(&path).map_err(|source| Error::io(&path, source))?;
        serde_json::from_str(&text).map(Some).map_err(|error| Error::bad_file(&path, error))
    }

    /// Fails where a set could not be written now, before the expensive part.
    pub(super) fn check_writable(&self, number: usize) -> Result<(), Error> {
        atomic::check_free(&set_path(&self.dir, number))
    }

    /// Writes a set with its record.
    pub(super) fn write<S: Serialize>(
        &self,
        number: usize,
        record: &SetRecord<S>,
        fill: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        atomic::write_dir(&set_path(&self.dir, number), |unfinished| {
            fill(unfinished)?;
            let path = unfinished.join(RECORD);
            let text = serde_json::to_string(record)? + "\n";
            Ok(std::fs::write(&path, text).map_err(|source| Error::io(&path, source))?)
        })
    }
}

fn write_settings(path: &Path, settings: &Table) -> anyhow::Result<()> {
    let text = toml::to_string(settings)?;
    atomic::write_file(path, |file| {
        file.write_all(text.as_bytes()).map_err(|source| Error::io(path, source))
    })
    .context(UNWRITABLE)
}

/// Locks the folder until the process ends.
fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join(LOCK);
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = opened.map_err(|source| Error::io(&path, source)).context(UNWRITABLE)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(UserError::new(format!(
            "--output {}: another process is writing this; each shard has a folder of its own",
            dir.display()
        ))
        .into()),
        // a file system without locks cannot keep a second process away
        _ => Ok(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_opened_with_the_settings_that_it_was_begun_with() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let open = |text: &str| SetFolder::open(&out, &text.parse().unwrap(), &["rewards.jsonl"]);
        let error = |text: &str| open(text).err().unwrap().to_string();
        let begun = "\"--shard\" = \"1/2\"\n[reward]\nkind = \"win_rate\"";
        let folder = open(begun).unwrap();
        assert!(error(begun).contains("another process is writing this"));
        folder.check_writable(0).unwrap();
        assert!(folder.record::<u32>(0).unwrap().is_none());
        let record = SetRecord { n: 2, input: "x".to_owned(), summary: 7 };
        folder.write(0, &record, |_| Ok(())).unwrap();
        drop(folder);
        assert_eq!(open(begun).unwrap().record::<u32>(0).unwrap().unwrap().summary, 7);
        let other = begun.replace("1/2", "2/2").replace("win_rate", "correct");
        let told = error(&other);
        assert!(told.contains("with another value of --shard, reward.kind: "), "{told}");
        // what says how fast it works may differ
        open(&format!("{begun}\n[reward.judge]\nconcurrency = 3")).unwrap();
        assert!(refuse_sets(&out).is_err() && refuse_sets(dir.path()).is_ok());
        // a folder of something else
        std::fs::remove_file(out.join(SETTINGS)).unwrap();
        assert!(error(begun).contains("has sets that another command wrote"));
        std::fs::write(out.join("rewards.jsonl"), "").unwrap();
        assert!(error(begun).contains("has rewards.jsonl of another input"));
    }
}
