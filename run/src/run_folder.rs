//! A run's folder: it is made, locked, resumed, and cleaned of the leftovers of an interrupted run.
//!
//! It knows files and steps. The work of a step is not known here.

mod about;
mod changes;
mod content;
mod lock;
mod metrics_log;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use joust_dist::Collectives;
use joust_schema::config::keys::ConfigKeys;
use joust_schema::{Error as FileError, atomic, jsonl, manifest};
use joust_trainer::checkpoint;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};
use toml::Table;

use crate::config::RunSection;
use crate::config::merge::merge;
use crate::error::Error;
use crate::inputs::InputPath;
use crate::ranks;
use about::n_processors;
use changes::KeyChange;
use content::{ABOUT, CONFIG, FolderContent, STARTS, read_whole_lines};
use lock::RunLock;

pub use changes::differing_keys;
pub(crate) use content::{WEIGHTS, is_own_name, run_around};
pub(crate) use metrics_log::MetricsLog;

/// Treatment of a run folder that exists already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExistingRun {
    /// A run that has made a step is an error.
    #[default]
    Refuse,
    /// Resumes from the newest checkpoint, or starts afresh if there is none.
    Resume,
    /// Deletes the run first.
    Clean,
}

/// One start of a run: its config, what it reads, and what may happen to a run that exists.
pub(crate) struct RunStart<'a, C> {
    run: &'a RunSection,
    config: &'a C,
    inputs: &'a [InputPath],
    /// Hash of each input by its key.
    digests: BTreeMap<Cow<'static, str>, String>,
    existing: ExistingRun,
}

/// What a start does with the folder.
enum Plan {
    /// Begins with an empty folder; what an earlier run left is deleted.
    Afresh,
    /// Goes on with the run that is there.
    Resume(Vec<KeyChange>),
}

/// The folder of one run. While it exists, no other process writes the run.
pub(crate) struct RunFolder {
    dir: PathBuf,
    /// None where another rank writes the run.
    lock: Option<RunLock>,
    /// The keys that differ from the start before.
    changes: Vec<KeyChange>,
    /// The checkpoint to go on from: step and folder.
    newest: Option<(u64, PathBuf)>,
}

impl<'a, C> RunStart<'a, C>
where
    C: Default + Serialize + JsonSchema,
{
    /// Reads the inputs for their hashes.
    ///
    /// # Errors
    /// [`Error::Schema`] for an input that cannot be read.
    pub(crate) fn new(
        run: &'a RunSection,
        config: &'a C,
        inputs: &'a [InputPath],
        existing: ExistingRun,
    ) -> Result<Self, Error> {
        let digests = inputs.iter().map(|input| Ok((input.key.clone(), input.digest()?)));
        let digests = digests.collect::<Result<_, Error>>()?;
        Ok(Self { run, config, inputs, digests, existing })
    }

    /// Whether the start goes on with a run, if there is one.
    pub(crate) fn resumes(&self) -> bool {
        matches!(self.existing, ExistingRun::Resume)
    }

    /// The last step of the run that the start goes on with. Only the first rank looks.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(crate) fn newest_step(&self, ranks: &Collectives) -> Result<Option<u64>, Error> {
        match self.resumes() && ranks.world().is_first() {
            true => Ok(checkpoint::latest(&self.run.dir())?.map(|(step, _)| step)),
            false => Ok(None),
        }
    }

    /// Refuses a folder that this start cannot use, before expensive work and without touching it.
    /// Its result holds until somebody else comes: [`RunStart::open`] looks again. Only the first
    /// rank looks at the folder; all compare their configs and inputs.
    ///
    /// # Errors
    /// As [`RunStart::open`]; [`Error::Input`] where ranks differ.
    pub(crate) fn check(&self, ranks: &Collectives) -> Result<(), Error> {
        if ranks.world().is_first() {
            self.check_folder()?;
        }
        self.check_ranks(ranks)
    }

    /// Refuses to begin where this rank has another config, or other inputs, than the first one.
    fn check_ranks(&self, ranks: &Collectives) -> Result<(), Error> {
        if ranks.world().size == 1 {
            return Ok(());
        }
        let own = (toml::to_string(self.config)?, self.digests.clone());
        let (config, digests) = ranks::of_first(ranks, own)?;
        let difference = self.difference(&config, &digests)?;
        if let Some(difference) = difference {
            return Err(Error::input(format!(
                "config and files differ from those of rank 0: {difference}; wanted the same on \
                 all ranks"
            )));
        }
        // a rank that differs says so here
        Ok(ranks.barrier()?)
    }

    /// The first thing in which a config and the hashes of inputs differ from this start's.
    fn difference(
        &self,
        config: &str,
        digests: &BTreeMap<Cow<'static, str>, String>,
    ) -> Result<Option<String>, Error> {
        // what a rank may have of its own
        const OWN: [&str; 2] = ["run.threads", "reward.judge.urls"];
        let first: Table = config.parse().map_err(|error: toml::de::Error| {
            Error::input(format!("the config of rank 0: {}", error.message()))
        })?;
        let changes = changes::changes(&first, &Table::try_from(self.config)?);
        let change = changes.iter().find(|change| !OWN.contains(&change.key.as_str()));
        let input = self.digests.iter().find(|(key, hash)| digests.get(*key) != Some(*hash));
        Ok(change
            .map(KeyChange::to_string)
            .or_else(|| input.map(|(key, _)| format!("the content of {key}"))))
    }

    fn check_folder(&self) -> Result<(), Error> {
        let dir = self.run.dir();
        RunLock::probe(&dir)?;
        self.plan(&dir).map(|_| ())
    }

    /// Opens the folder on the first rank, which alone writes it, and rewinds it to its newest
    /// checkpoint. The others are told which one that is.
    ///
    /// # Errors
    /// As [`RunStart::open`] on the first rank; [`Error::Ranks`] on the others once it has failed.
    pub(crate) fn open_together(&self, ranks: &Collectives) -> Result<RunFolder, Error> {
        if !ranks.world().is_first() {
            let newest = ranks::of_first(ranks, None)?;
            return Ok(RunFolder { dir: self.run.dir(), lock: None, changes: Vec::new(), newest });
        }
        let folder = self.open()?;
        folder.rewind()?;
        ranks::of_first(ranks, folder.newest.clone())?;
        Ok(folder)
    }

    /// Makes and locks the folder, and writes the resolved config into it.
    ///
    /// # Errors
    /// A folder that another process writes, that is no run, or that exists already, unless
    /// `existing` allows it; on resuming, a config or an input that is not that of the run.
    pub(crate) fn open(&self) -> Result<RunFolder, Error> {
        let dir = self.run.dir();
        // a folder that is no run gets not even a lock
        if content::look(&dir)? == FolderContent::Other {
            self.plan(&dir)?;
        }
        std::fs::create_dir_all(&dir).map_err(|source| FileError::io(&dir, source))?;
        let lock = RunLock::acquire(&dir)?;
        let changes = match self.plan(&dir)? {
            Plan::Afresh => {
                content::delete_run(&dir)?;
                Vec::new()
            }
            Plan::Resume(changes) => {
                // a checkpoint that was about to be replaced may be the newest one
                content::sweep(&dir)?;
                changes
            }
        };
        let newest = checkpoint::latest(&dir)?;
        let folder = RunFolder { dir, lock: Some(lock), changes, newest };
        // before the config is replaced by that of this start, whose changes would be forgotten
        if folder.dir.join(CONFIG).exists() {
            folder.note_start()?;
        }
        folder.write(CONFIG, &toml::to_string(self.config)?)?;
        if !folder.dir.join(ABOUT).exists() {
            let mut about = about::about(self.run, self.config);
            about["inputs"] = json!(self.digests);
            folder.write(ABOUT, &format!("{about:#}\n"))?;
        }
        if !folder.dir.join(STARTS).exists() {
            folder.note_start()?;
        }
        Ok(folder)
    }

    fn plan(&self, dir: &Path) -> Result<Plan, Error> {
        let refuse = |text: &str| Err(Error::input(format!("{} {text}", dir.display())));
        match (content::look(dir)?, self.existing) {
            (FolderContent::Nothing | FolderContent::RunWithoutSteps, _) => Ok(Plan::Afresh),
            (FolderContent::Other, ExistingRun::Clean) => refuse(
                "is there already and is no run: --clean deletes only folders of runs; choose \
                 another run.name",
            ),
            (FolderContent::Other, _) => refuse(
                "is there already and is no run, so that neither --resume nor --clean touches it; \
                 choose another run.name",
            ),
            (FolderContent::RunWithSteps, ExistingRun::Refuse) => refuse(
                "is there already; go on with --resume, start over with --clean, or choose another \
                 run.name",
            ),
            (FolderContent::RunWithSteps, ExistingRun::Clean) => Ok(Plan::Afresh),
            (FolderContent::RunWithSteps, ExistingRun::Resume) => {
                self.compare(dir).map(Plan::Resume)
            }
        }
    }

    /// The keys that differ from the start before, if the run can go on with them and with these
    /// inputs.
    fn compare(&self, dir: &Path) -> Result<Vec<KeyChange>, Error> {
        let path = dir.join(CONFIG);
        let text = std::fs::read_to_string(&path).map_err(|source| FileError::io(&path, source))?;
        let written: Table = text.parse().map_err(|error: toml::de::Error| {
            Error::input(format!("{}: {}", path.display(), error.message()))
        })?;
        // a key that the version of the first start did not have was at its default
        let mut old = Table::try_from(C::default())?;
        merge(&mut old, &written, Some(&ConfigKeys::of::<C>()));
        let changes = changes::changes(&old, &Table::try_from(self.config)?);
        let same = self.same_inputs(dir)?;
        match changes::refusal(&changes, &same) {
            Some(reason) => Err(Error::input(format!("{}: {reason}", path.display()))),
            None => Ok(changes),
        }
    }

    /// The keys of inputs that the run began with.
    ///
    /// # Errors
    /// Inputs whose content has changed.
    fn same_inputs(&self, dir: &Path) -> Result<Vec<&str>, Error> {
        let path = dir.join(ABOUT);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let about: Value = serde_json::from_str(&text).unwrap_or_default();
        let Some(first) = about["inputs"].as_object() else {
            tracing::warn!(run = %dir.display(), "The run was begun by a version that did not note \
                the content of its files; whether they have changed is not known.");
            return Ok(Vec::new());
        };
        let is_changed = |input: &&InputPath| {
            first.get(&*input.key).is_some_and(|first| *first != json!(self.digests[&input.key]))
        };
        let changed = self.inputs.iter().filter(is_changed);
        let changed: Vec<String> =
            changed.map(|input| format!("{} ({})", input.key, input.path.display())).collect();
        match changed.is_empty() {
            true => {
                let keys = self.digests.keys().map(AsRef::as_ref);
                Ok(keys.filter(|key: &&str| first.contains_key(*key)).collect())
            }
            false => Err(Error::input(format!(
                "{}: not the content that the run began with: {}; resume with the files of the \
                 first start, or start over with --clean",
                dir.display(),
                changed.join(", ")
            ))),
        }
    }
}

impl RunFolder {
    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Checks that the folder is still this process's own.
    ///
    /// # Errors
    /// [`Error::Lost`]
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.lock.as_ref().map_or(Ok(()), RunLock::check)
    }

    /// The log of the run's metrics, which the rank that writes the run keeps.
    pub(crate) fn metrics_log(&self) -> Option<MetricsLog> {
        self.lock.is_some().then(|| MetricsLog::of_run(&self.dir))
    }

    /// The keys that differ from the start before, each with both values.
    pub(crate) fn changes(&self) -> Vec<String> {
        self.changes.iter().map(KeyChange::to_string).collect()
    }

    /// The newest checkpoint if there is one: step and folder.
    pub(crate) fn newest(&self) -> Option<(u64, PathBuf)> {
        self.newest.clone()
    }

    /// The error of the newest checkpoint, which cannot be read, with what to do instead. Failures
    /// of the machine stay as they are.
    pub(crate) fn bad_checkpoint(&self, error: Error) -> Error {
        use joust_engine::Error as EngineError;
        use joust_trainer::Error as TrainerError;
        let of_engine = |error: &EngineError| match error {
            EngineError::Tensor(_) | EngineError::Device(_) | EngineError::OutOfMemory { .. } => {
                true
            }
            EngineError::Io { source, .. } => source.kind() != std::io::ErrorKind::NotFound,
            _ => false,
        };
        let is_machines = match &error {
            Error::Engine(error) | Error::Trainer(TrainerError::Engine(error)) => of_engine(error),
            Error::Ranks(_) | Error::Trainer(TrainerError::Ranks(_)) => true,
            Error::Trainer(
                TrainerError::Tensor(_) | TrainerError::Schema(FileError::Io { .. }),
            ) => true,
            _ => false,
        };
        match &self.newest {
            Some((step, path)) if !is_machines => {
                let older = checkpoint::before(&self.dir, *step).ok().flatten();
                let (path, older) = (path.clone(), older.map(|(_, path)| path));
                Error::BadCheckpoint { path, older, source: Box::new(error) }
            }
            _ => error,
        }
    }

    /// Writes a file of the folder whole or not at all.
    fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.dir.join(name);
        Ok(atomic::write_file(&path, |file| {
            let result = file.write_all(text.as_bytes());
            result.map_err(|source| FileError::io(&path, source))
        })?)
    }

    /// Adds this start to `starts.jsonl`.
    fn note_start(&self) -> Result<(), Error> {
        let changes = self
            .changes
            .iter()
            .map(|change| (change.key.clone(), json!({ "from": change.from, "to": change.to })));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let line = json!({
            "unix_time_s": now.map_or(0, |time| time.as_secs()),
            "resumed_from_step": self.newest.as_ref().map(|(step, _)| *step),
            "changes": changes.collect::<Map<_, _>>(),
            "joust": env!("CARGO_PKG_VERSION"),
            "processors": n_processors(),
            "command": std::env::args().collect::<Vec<_>>(),
        });
        let path = self.dir.join(STARTS);
        let mut lines = if path.exists() { read_whole_lines(&path)? } else { Vec::new() };
        lines.push(line);
        Ok(jsonl::write(&path, &lines)?)
    }

    /// Deletes the records after the newest checkpoint, or all records without one; the run makes
    /// them again.
    fn rewind(&self) -> Result<(), Error> {
        let step = self.newest.as_ref().map(|(step, _)| *step);
        let later = |number: u64| step.is_none_or(|step| number > step);
        for (dir, step_of) in content::step_folders(&self.dir) {
            let Ok(entries) = std::fs::read_dir(&dir) else {
                continue;
            };
            for entry in entries {
                let path = entry.map_err(|source| FileError::io(&dir, source))?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if step_of(&name).is_some_and(later) {
                    let removed = match path.is_dir() {
                        true => std::fs::remove_dir_all(&path),
                        false => std::fs::remove_file(&path),
                    };
                    removed.map_err(|source| FileError::io(&path, source))?;
                }
            }
        }
        manifest::truncate(&self.dir, step.map_or(-1, |step| step as i64))?;
        MetricsLog::of_run(&self.dir).forget_from(step.map_or(0, |step| step + 1))
    }
}

#[cfg(test)]
mod tests;
