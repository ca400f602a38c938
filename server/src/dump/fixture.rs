//! A disk that has no room, for tests: `/dev/full` stands for it.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::journal;

/// Has the segments from this number on written to a disk without room.
pub(crate) fn fill_disk(dir: &Path, from: usize) {
    for number in from..from + 4 {
        symlink("/dev/full", journal::segment_path(dir, number)).unwrap();
    }
}
