//! Names of what is unfinished, and the folder that holds them.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Extension of unfinished files and folders.
pub(super) const UNFINISHED: &str = "tmp";

/// The path with `ending` behind its name.
pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// The name under which `path` is written.
pub(super) fn unfinished_path(path: &Path) -> PathBuf {
    with_ending(path, &format!(".{UNFINISHED}"))
}

/// The name of the folder that `path` replaces, until it is deleted.
pub(super) fn replaced_path(path: &Path) -> PathBuf {
    with_ending(path, &format!(".old.{UNFINISHED}"))
}

/// The name of an unfinished or replaced file or folder once it is finished; other names as they
/// are.
pub fn finished_name(name: &str) -> &str {
    let Some(name) = name.strip_suffix(".tmp") else { return name };
    if let Some(replaced) = name.strip_suffix(".old") {
        return replaced;
    }
    // files: the process and a number
    let is_writer = |writer: &str| {
        let parts = writer.split_once('-');
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        parts.is_some_and(|(process, number)| is_number(process) && is_number(number))
    };
    match name.rsplit_once('.') {
        Some((finished, writer)) if is_writer(writer) => finished,
        _ => name,
    }
}

/// The folder of a path.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Brings the names in a folder to disk.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| Error::io(dir, source))
}
