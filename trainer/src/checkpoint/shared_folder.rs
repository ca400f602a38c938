//! A folder that all ranks write together, and that appears whole or not at all.
//!
//! It has to lie on a filesystem that all ranks see under one path. It does not know what is
//! written.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use joust_dist::Collectives;
use joust_schema::atomic;

use crate::error::Error;

/// Fills a folder on all ranks with `fill`, and renames it to `path` once all have done so. All
/// ranks call it together, and return once the folder is there.
///
/// # Errors
/// The error of `fill` or [`Error::Schema`]: the caller tells the other ranks of it, which wait for
/// this one, and then nothing of the folder is left. [`Error::Ranks`] where another rank has
/// failed.
pub(super) fn write_together(
    ranks: &Collectives,
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let all_have_written = || ranks.barrier();
    if ranks.world().is_first() {
        atomic::write_dir::<Error>(path, |dir| {
            ranks.broadcast_bytes(dir.as_os_str().as_bytes().to_vec())?;
            fill(dir)?;
            Ok(all_have_written()?)
        })?;
    } else {
        let dir = ranks.broadcast_bytes(Vec::new())?;
        fill(&PathBuf::from(OsString::from_vec(dir)))?;
        all_have_written()?;
    }
    // it has its name
    Ok(ranks.barrier()?)
}
