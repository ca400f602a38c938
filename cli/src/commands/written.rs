//! What a command writes: refused where it would replace what the command reads, and tried before
//! the expensive part.
//!
//! It compares paths as the file system sees them, and knows no tables.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use joust_reward::{JudgeKind, RewardConfig, RewardKind};
use joust_schema::{Error, atomic};

use crate::failure::UserError;

/// A folder and the files that a command writes into it.
pub(crate) struct OutputFolder<'a> {
    pub(crate) path: &'a Path,
    pub(crate) files: &'a [&'a str],
}

impl OutputFolder<'_> {
    /// Refuses an output that would replace the input, or what a `replay` judge reads, now or when
    /// it reads its dump again.
    pub(crate) fn check_apart(&self, input: &Path, reward: &RewardConfig) -> anyhow::Result<()> {
        for name in self.files {
            let file = self.path.join(name);
            if is_same(&file, input) {
                return Err(refused(&file, "is the input"));
            }
        }
        check_apart_from_dump("--output", self.path, reward)
    }

    /// Makes the folder, and tries to write each of its files.
    pub(crate) fn prepare(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.path)
            .map_err(|source| Error::io(self.path, source))
            .context(UNWRITABLE)?;
        self.files.iter().try_for_each(|name| prepare_file(&self.path.join(name)))
    }
}

pub(crate) const UNWRITABLE: &str = "--output cannot be written";

/// Tries to write a file.
pub(crate) fn prepare_file(path: &Path) -> anyhow::Result<()> {
    atomic::check_file(path).context(UNWRITABLE)
}

/// Refuses an output folder that is the dump of a `replay` judge, lies in it, or holds it.
pub(crate) fn check_apart_from_dump(
    key: &str,
    output: &Path,
    reward: &RewardConfig,
) -> anyhow::Result<()> {
    let JudgeKind::Replay(replay) = &reward.judge.kind else { return Ok(()) };
    if reward.kind == RewardKind::Correct {
        return Ok(());
    }
    let target = place(output);
    let mut read = vec![place(&replay.dump)];
    // the folders of a dump may be links to folders elsewhere
    let inside = std::fs::read_dir(&replay.dump).into_iter().flatten().filter_map(Result::ok);
    read.extend(inside.map(|entry| entry.path()).filter(|path| path.is_dir()).map(|p| place(&p)));
    let meets = |folder: &PathBuf| folder.starts_with(&target) || target.starts_with(folder);
    match read.iter().any(meets) {
        true => Err(UserError::new(format!(
            "{key} {} is {}, the dump that the judge reads (reward.judge.dump), or one of the two \
             lies in the other: choose another folder",
            output.display(),
            replay.dump.display()
        ))
        .into()),
        false => Ok(()),
    }
}

/// Refuses a file to write that is the one that is read, also through links.
pub(crate) fn check_other_file(input: &Path, output: Option<&Path>) -> anyhow::Result<()> {
    match output.filter(|output| is_same(output, input)) {
        Some(output) => Err(refused(output, "is the input")),
        None => Ok(()),
    }
}

fn refused(output: &Path, what: &str) -> anyhow::Error {
    UserError::new(format!("--output {} {what}: choose another", output.display())).into()
}

/// Whether two paths lead to one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| path.canonicalize().ok();
    place(one).is_some_and(|one| Some(one) == place(other))
}

/// The path without links. Of a path that does not exist, the longest part that does is resolved.
pub(crate) fn place(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut parts = absolute.ancestors();
    let real = parts.find_map(|part| Some((part, part.canonicalize().ok()?)));
    match real {
        Some((part, real)) => match absolute.strip_prefix(part) {
            Ok(rest) if rest.as_os_str().is_empty() => real,
            Ok(rest) => real.join(rest),
            Err(_) => absolute,
        },
        None => absolute,
    }
}
