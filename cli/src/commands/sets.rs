//! Large inputs of `joust score` and `joust judge`: rows of many files become sets, each judged and
//! written by itself, so that memory is bounded and a restart goes on after the last finished set.
//!
//! It does not know what is judged, nor what is written.

mod files;
mod folder;
mod progress;
mod read;
mod shard;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use joust_reward::judge::KeptVotes;
use joust_reward::{JudgeKind, RewardKind};
use joust_schema::rows::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Table;

use crate::commands::written::{check_apart_from_dump, place};
use crate::failure::UserError;
use crate::output;
use crate::score_config::ScoreRun;
use crate::signals::StopSignals;
use files::{ListedFile, data_files};
use folder::{SetFolder, SetRecord};
use progress::SetProgress;
use read::{ReadSet, SetShape, read_sets};
use shard::Shard;

pub(crate) use folder::refuse_sets;
pub(crate) use read::{RowAt, SetRows};

/// File of the votes of the set in work.
const UNFINISHED: &str = "unfinished_votes.jsonl";

/// How a large input is divided.
#[derive(Args)]
pub(crate) struct SetArgs {
    /// Number of groups (`joust judge`: pairs) per set. A set is rated together, with one position
    /// term, and written as `set_00000`, `set_00001`, … into the output folder; a restart goes on
    /// after the last of them. One file that is no more than a set is written into the folder
    /// itself. 0: the whole input is one set, in memory.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    set_groups: usize,
    /// Takes only part I of N of the input (3/8), counted from 1: the rows I, I + N, … of all
    /// files. Each part is written into an output folder of its own.
    #[arg(long, value_name = "I/N", default_value_t = Shard::ALL)]
    shard: Shard,
}

/// What a command does with the items of a set.
pub(crate) trait SetWork {
    /// A group or a pair.
    type Item;
    /// Items with what the judge said.
    type Judged;
    /// What is told of a set, and of all sets together.
    type Summary: Serialize + DeserializeOwned + Default;

    /// Name of several items.
    const UNIT: &'static str;

    /// What the result of an item depends on, as text.
    fn content(item: &Self::Item) -> String;

    /// Refuses an input by its first set.
    ///
    /// # Errors
    /// An input that cannot be judged as the config says.
    fn check_first(&self, items: &[Self::Item], is_all: bool) -> anyhow::Result<()>;

    /// Keeps the votes of the judge.
    fn keep_votes(&mut self, kept: KeptVotes);

    /// Judges a set; `progress` is called with each item.
    ///
    /// # Errors
    /// Those of loading the judge, and of items that it refuses to take.
    fn judge(
        &mut self,
        items: Vec<Self::Item>,
        progress: &mut dyn FnMut(),
    ) -> anyhow::Result<Self::Judged>;

    /// Writes the files of a set.
    ///
    /// # Errors
    /// Those of the file system.
    fn write(&self, dir: &Path, judged: &Self::Judged) -> anyhow::Result<()>;

    /// What is told of a set.
    fn summary(&self, judged: &Self::Judged) -> Self::Summary;

    /// Refuses a set that is not worth keeping: its judge was away.
    ///
    /// # Errors
    /// The reason.
    fn check(&self, summary: &Self::Summary) -> anyhow::Result<()>;

    /// Adds what is told of a later set.
    fn add(total: &mut Self::Summary, later: Self::Summary);
}

/// An input and where its results go.
pub(crate) struct SetJob<'a> {
    pub(crate) command: &'static str,
    pub(crate) config: &'a ScoreRun,
    pub(crate) input: &'a Path,
    pub(crate) output: &'a Path,
    pub(crate) args: &'a SetArgs,
    /// Names of the files of an output without sets.
    pub(crate) files: &'a [&'a str],
    /// Options of the command that the results depend on.
    pub(crate) options: Table,
}

/// What became of an input.
pub(crate) enum Labelled<T, S> {
    /// It is one file of one set: nothing is done yet.
    Small(Vec<T>),
    /// Its sets are written.
    Sets(S),
}

/// Judges and writes an input set by set; one file of one set is returned as it is.
///
/// # Errors
/// Those of reading, judging and writing; an output of other rows or settings; a stop signal. The
/// sets that were finished stay.
pub(crate) fn label<R, W>(
    job: &SetJob<'_>,
    rows: &mut R,
    work: &mut W,
) -> anyhow::Result<Labelled<W::Item, W::Summary>>
where
    R: SetRows<Item = W::Item>,
    W: SetWork,
{
    let files = data_files(job.input)?;
    check_apart(job, &files)?;
    let size = if job.args.set_groups == 0 { usize::MAX } else { job.args.set_groups };
    let shape = SetShape { size, shard: job.args.shard };
    let is_one_file = matches!(&files[..], [ListedFile { name: None, .. }]);
    let may_be_small = is_one_file && shape.shard == Shard::ALL;
    let (mut small, mut run) = (None, None);
    read_sets(&files, &shape, rows, &mut |set| {
        if set.number == 0 {
            work.check_first(&set.items, set.is_last)?;
            if set.is_last && may_be_small {
                small = Some(set.items);
                return Ok(());
            }
            let opened = SetRun::<W>::open(job, &files)?;
            opened.kept.iter().for_each(|kept| work.keep_votes(kept.clone()));
            run = Some(opened);
        }
        let run = run.as_mut().expect("the first set has opened the run. This is a bug.");
        run.take(set, work)
    })?;
    match (small, run) {
        (Some(items), _) => Ok(Labelled::Small(items)),
        (None, Some(run)) => run.end().map(Labelled::Sets),
        // more shards than rows
        (None, None) => SetRun::<W>::open(job, &files)?.end().map(Labelled::Sets),
    }
}

/// Refuses an output folder that the input is read of.
fn check_apart(job: &SetJob<'_>, files: &[ListedFile]) -> anyhow::Result<()> {
    let output = place(job.output);
    let is_inside =
        |file: &ListedFile| file.name.is_some() && place(&file.path).starts_with(&output);
    let holds = job.input.is_dir() && output.starts_with(place(job.input));
    match holds || files.iter().any(is_inside) {
        true => Err(UserError::new(format!(
            "--output {} and --input {} lie in each other: choose another output",
            job.output.display(),
            job.input.display()
        ))
        .into()),
        false => Ok(()),
    }
}

/// The sets of an input, one after the other.
struct SetRun<W: SetWork> {
    output: PathBuf,
    folder: SetFolder,
    signals: StopSignals,
    progress: SetProgress,
    /// Votes of the set in work, of a judge that is paid for by the vote. Those of a judge in this
    /// process depend on the votes beside them in their last bits: its sets are judged anew.
    kept: Option<KeptVotes>,
    total: W::Summary,
    n_sets: usize,
}

impl<W: SetWork> SetRun<W> {
    fn open(job: &SetJob<'_>, files: &[ListedFile]) -> anyhow::Result<Self> {
        let reward = &job.config.reward;
        check_apart_from_dump("--output", job.output, reward)?;
        let is_paid =
            reward.kind != RewardKind::Correct && matches!(reward.judge.kind, JudgeKind::Http(_));
        Ok(Self {
            output: job.output.to_owned(),
            folder: SetFolder::open(job.output, &settings(job)?, job.files)?,
            signals: StopSignals::listen_for_sets()?,
            progress: SetProgress::new(files, job.args.shard, W::UNIT),
            kept: is_paid.then(KeptVotes::default),
            total: W::Summary::default(),
            n_sets: 0,
        })
    }

    /// Judges and writes a set, unless that was done before.
    fn take(&mut self, set: ReadSet<W::Item>, work: &mut W) -> anyhow::Result<()> {
        let (number, n) = (set.number, set.items.len());
        if self.signals.has_come() {
            return Err(self.signals.stopped_between_sets(number).into());
        }
        self.n_sets = number + 1;
        let input = digest::<W>(&set.items);
        if let Some(record) = self.folder.record::<W::Summary>(number)? {
            if record.input != input {
                return Err(self.refused(number));
            }
            W::add(&mut self.total, record.summary);
            self.progress.skip(n);
            return Ok(());
        }
        self.folder.check_writable(number)?;
        self.progress.begin_set(set.rows_read, set.bytes_read, n, set.is_last);
        if let Some(kept) = &self.kept {
            let n_votes = kept.begin(&self.output.join(UNFINISHED), &input)?;
            if n_votes > 0 {
                output::note(format!(
                    "Set {number} goes on with {n_votes} votes that came before."
                ));
            }
        }
        let judged = work.judge(set.items, &mut || self.progress.inc())?;
        let summary = work.summary(&judged);
        work.check(&summary).with_context(|| format!("set {number} is not written"))?;
        let record = SetRecord { n, input, summary };
        self.folder.write(number, &record, |dir| work.write(dir, &judged))?;
        self.kept.as_ref().map_or(Ok(()), KeptVotes::end)?;
        W::add(&mut self.total, record.summary);
        Ok(())
    }

    /// The summary of all sets.
    fn end(self) -> anyhow::Result<W::Summary> {
        match self.folder.has(self.n_sets) {
            true => Err(self.refused(self.n_sets)),
            false => Ok(self.total),
        }
    }

    fn refused(&self, number: usize) -> anyhow::Error {
        UserError::new(format!(
            "set {number} of {} was made of other rows than there are now: the input has changed; \
             restore it, or choose another --output",
            self.output.display()
        ))
        .into()
    }
}

/// What the results depend on, beside the rows.
fn settings(job: &SetJob<'_>) -> anyhow::Result<Table> {
    let mut settings = Table::new();
    settings.insert("command".to_owned(), job.command.into());
    settings.insert("--set-groups".to_owned(), i64::try_from(job.args.set_groups)?.into());
    settings.insert("--shard".to_owned(), job.args.shard.to_string().into());
    settings.extend(job.options.clone());
    let config = Table::try_from(job.config)?;
    let seed = Table::from_iter([("seed".to_owned(), config["run"]["seed"].clone())]);
    settings.insert("run".to_owned(), seed.into());
    settings.insert("reward".to_owned(), config["reward"].clone());
    Ok(settings)
}

fn digest<W: SetWork>(items: &[W::Item]) -> String {
    let mut hasher = blake3::Hasher::new();
    for item in items {
        let text = W::content(item);
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The name of a row in an input without ids: its number, behind the name of its file where there
/// are several.
pub(crate) fn default_id(at: &RowAt<'_>, row: &Row) -> String {
    let number = row.place().number();
    match at.name {
        Some(name) => format!("{name}:{number:06}"),
        None => format!("{number:06}"),
    }
}
