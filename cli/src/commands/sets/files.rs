//! The data files that an input names: one file, those of a folder, or those that a pattern
//! matches.
//!
//! It knows paths, and nothing of what is in the files but the number of their rows.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use joust_schema::{Error, parquet};
use regex::Regex;

use crate::failure::UserError;

/// Endings of the files that are read of a folder.
const ENDINGS: [&str; 4] = ["parquet", "jsonl", "ndjson", "json"];

/// Characters that make a path a pattern.
const WILDCARDS: [char; 4] = ['*', '?', '[', '{'];

/// A data file of an input.
#[derive(Debug)]
pub(crate) struct ListedFile {
    pub(crate) path: PathBuf,
    /// The path below the input's folder; `None` for an input that is this file alone.
    pub(crate) name: Option<String>,
    /// Size; 0 for a pipe.
    pub(crate) n_bytes: u64,
    /// Number of rows, where the file says it.
    pub(crate) n_rows: Option<u64>,
}

/// The files of an input, in the order of their names.
///
/// # Errors
/// A folder or a pattern without data files; [`Error::Io`].
pub(crate) fn data_files(input: &Path) -> anyhow::Result<Vec<ListedFile>> {
    if input.is_dir() {
        return named(input, input, &|_| true);
    }
    match pattern(input) {
        Some((folder, pattern)) if !input.exists() => {
            named(input, &folder, &|name| pattern.is_match(name))
        }
        // a file that is not there is told by who opens it
        _ => Ok(vec![ListedFile::at(input.to_owned(), None)]),
    }
}

impl ListedFile {
    fn at(path: PathBuf, name: Option<String>) -> Self {
        let metadata = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file);
        let n_bytes = metadata.map_or(0, |metadata| metadata.len());
        let is_table = path.extension().is_some_and(|ending| ending == "parquet");
        let n_rows = if is_table { parquet::n_rows(&path).ok() } else { None };
        Self { path, name, n_bytes, n_rows: n_rows.map(|n_rows| n_rows as u64) }
    }
}

/// The data files below `folder` whose names are wanted.
fn named(
    input: &Path,
    folder: &Path,
    is_wanted: &dyn Fn(&str) -> bool,
) -> anyhow::Result<Vec<ListedFile>> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    walk(folder, "", &mut seen, &mut |name, path| {
        if is_wanted(&name) {
            found.push((name, path));
        }
    })?;
    found.sort();
    match found.is_empty() {
        false => {
            Ok(found.into_iter().map(|(name, path)| ListedFile::at(path, Some(name))).collect())
        }
        true => Err(UserError::new(format!(
            "{}: no data files here; wanted files that end in .{}",
            input.display(),
            ENDINGS.join(", .")
        ))
        .into()),
    }
}

/// Calls `take` with each data file below a folder and its name there. Links are followed; a folder
/// to which several ways lead is walked once. What begins with a dot or an underscore is no data.
fn walk(
    folder: &Path,
    prefix: &str,
    seen: &mut BTreeSet<PathBuf>,
    take: &mut dyn FnMut(String, PathBuf),
) -> Result<(), Error> {
    let io = |source| Error::io(folder, source);
    if !seen.insert(folder.canonicalize().map_err(io)?) {
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        entries.push(entry.map_err(io)?.path());
    }
    // links come last, so that a folder is known by its own name
    entries.sort_by_cached_key(|path| (path.is_symlink(), path.clone()));
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(['.', '_']) {
            continue;
        }
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            walk(&path, &format!("{name}/"), seen, take)?;
        } else if path.extension().is_some_and(|ending| ENDINGS.iter().any(|e| ending == *e)) {
            take(name, path);
        }
    }
    Ok(())
}

/// The folder before the first wildcard of a path, and the pattern of the names below it; `None`
/// for a path without wildcards, or whose pattern cannot be read.
fn pattern(input: &Path) -> Option<(PathBuf, Regex)> {
    let is_plain = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(WILDCARDS);
    let parts: Vec<Component<'_>> = input.components().collect();
    let n_plain = parts.iter().take_while(|part| is_plain(part)).count();
    if n_plain == parts.len() {
        return None;
    }
    let folder: PathBuf = parts[..n_plain].iter().collect();
    let rest: PathBuf = parts[n_plain..].iter().collect();
    let folder = if n_plain == 0 { PathBuf::from(".") } else { folder };
    Some((folder, Regex::new(&expression(&rest.to_string_lossy())).ok()?))
}

/// The regular expression of a shell's pattern: `*` and `?` within a name, `**` over folders, `[…]`
/// for one character, `{a,b}` for one of several texts.
fn expression(pattern: &str) -> String {
    let mut text = "^".to_owned();
    let mut rest = pattern;
    let mut n_open = 0;
    while let Some(c) = rest.chars().next() {
        let (part, n_bytes) = match c {
            '*' if rest.starts_with("**/") => ("(?:[^/]+/)*".to_owned(), 3),
            '*' if rest.starts_with("**") => (".*".to_owned(), 2),
            '*' => ("[^/]*".to_owned(), 1),
            '?' => ("[^/]".to_owned(), 1),
            '[' => match rest[1..].find(']').filter(|end| *end > 0) {
                Some(end) => {
                    let inside = rest[1..=end].replace('\\', "\\\\").replace('[', "\\[");
                    let inside = match inside.strip_prefix('!') {
                        Some(others) => format!("^{others}"),
                        None => inside,
                    };
                    (format!("[{inside}]"), end + 2)
                }
                None => ("\\[".to_owned(), 1),
            },
            '{' => {
                n_open += 1;
                ("(?:".to_owned(), 1)
            }
            '}' if n_open > 0 => {
                n_open -= 1;
                (")".to_owned(), 1)
            }
            ',' if n_open > 0 => ("|".to_owned(), 1),
            c => (regex::escape(&c.to_string()), c.len_utf8()),
        };
        text += &part;
        rest = &rest[n_bytes..];
    }
    text + "$"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(input: &Path) -> Vec<String> {
        data_files(input).unwrap().into_iter().map(|file| file.name.unwrap()).collect()
    }

    #[test]
    fn data_files_are_those_of_a_folder_or_a_pattern_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let all = ["b.jsonl", "a/2.parquet", "a/10.jsonl", "a/deep/x.json", "a/_SUCCESS.json"];
        for name in all.into_iter().chain([".hidden.jsonl", "readme.md", "a/deep/y.ndjson"]) {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/again")).unwrap();
        let at = |pattern: &str| names(&dir.path().join(pattern));
        let inside = ["a/10.jsonl", "a/2.parquet", "a/deep/x.json", "a/deep/y.ndjson", "b.jsonl"];
        assert_eq!(names(dir.path()), inside);
        assert_eq!(at("*.jsonl"), ["b.jsonl"]);
        assert_eq!(at("a/*.jsonl"), ["10.jsonl"]);
        assert_eq!(at("a/**/*.{json,ndjson}"), ["deep/x.json", "deep/y.ndjson"]);
        assert_eq!(at("**/*.jsonl"), ["a/10.jsonl", "b.jsonl"]);
        assert_eq!(at("a/[0-9].p?rquet"), ["2.parquet"]);
        assert_eq!(at("a/[!0-9]*/x.json"), ["deep/x.json"]);
        let error = data_files(&dir.path().join("c*.jsonl")).unwrap_err().to_string();
        assert!(error.ends_with("wanted files that end in .parquet, .jsonl, .ndjson, .json"));
        // a file is read whatever its name is
        let odd = dir.path().join("odd[1].txt");
        std::fs::write(&odd, "{}").unwrap();
        let files = data_files(&odd).unwrap();
        assert_eq!((files.len(), &files[0].path, files[0].n_bytes), (1, &odd, 2));
        assert_eq!(files[0].name, None);
    }
}
