//! Parts of a GGUF model that is split into several files: their names and numbers. It reads no
//! file.

use std::path::{Path, PathBuf};

/// The place of a file in a split model, by its name: `model-00002-of-00003.gguf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SplitName {
    /// Path up to the number.
    prefix: PathBuf,
    /// Number of the part, from 1.
    pub(crate) part: usize,
    /// Number of parts.
    pub(crate) n_parts: usize,
    /// The file's ending, in its own spelling.
    ending: String,
}

impl SplitName {
    /// Reads a file's name; none for a file that is no part of a split model.
    pub(crate) fn parse(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_owned();
        let stem = path.file_stem()?.to_str()?;
        let (rest, n_parts) = stem.rsplit_once("-of-")?;
        let (prefix, part) = rest.rsplit_once('-')?;
        let number = |text: &str| {
            let is_number = text.len() == 5 && text.chars().all(|c| c.is_ascii_digit());
            text.parse().ok().filter(|_| is_number)
        };
        let (part, n_parts) = (number(part)?, number(n_parts)?);
        let is_part = (1..=n_parts).contains(&part);
        is_part.then(|| Self { prefix: path.with_file_name(prefix), part, n_parts, ending })
    }

    /// Path of another part.
    pub(crate) fn path_of(&self, part: usize) -> PathBuf {
        let name = self.prefix.file_name().unwrap_or_default().to_string_lossy();
        let (n_parts, ending) = (self.n_parts, &self.ending);
        self.prefix.with_file_name(format!("{name}-{part:05}-of-{n_parts:05}.{ending}"))
    }
}

/// Whether a path ends in `.gguf`, in any spelling.
pub(crate) fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}
