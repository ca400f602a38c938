//! A file with given bytes, for parsers that map or open files. It is gone once it is dropped.

use std::path::PathBuf;

/// A file in a folder of its own.
pub(crate) struct ScratchFile {
    pub(crate) path: PathBuf,
    _folder: tempfile::TempDir,
}

impl ScratchFile {
    /// Writes the file into the folder for temporary files.
    pub(crate) fn new(name: &str, bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("room for a temporary file");
        Self { path, _folder: folder }
    }
}
