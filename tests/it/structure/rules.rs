//! What holds for every file: its length, its lines, its head, its name; and for names of types.

use std::collections::BTreeMap;

use super::text::{without_comments_and_strings, without_tests};
use super::tree::TextFile;

const MAX_LINES: usize = 450;
const MAX_COLUMNS: usize = 100;

/// Names that say nothing of what a file owns.
const EMPTY_NAMES: [&str; 6] = ["util", "utils", "helper", "helpers", "common", "misc"];

/// Files of more lines than allowed.
pub(super) fn too_long<'a>(files: impl Iterator<Item = &'a TextFile>) -> Vec<String> {
    let long = files.map(|file| (&file.path, file.text.lines().count()));
    let long = long.filter(|(_, n)| *n > MAX_LINES);
    long.map(|(path, n)| format!("{path} has {n} lines, wanted at most {MAX_LINES}")).collect()
}

/// Files with wider lines than allowed, each with the first of them.
pub(super) fn too_wide<'a>(files: impl Iterator<Item = &'a TextFile>) -> Vec<String> {
    files
        .filter_map(|file| {
            let mut wide = file.text.lines().enumerate();
            let (at, line) = wide.find(|(_, line)| line.chars().count() > MAX_COLUMNS)?;
            let (n, number) = (line.chars().count(), at + 1);
            Some(format!("{}:{number} has {n} columns, wanted at most {MAX_COLUMNS}", file.path))
        })
        .collect()
}

/// Rust files that do not begin by saying what they own.
pub(super) fn without_head<'a>(files: impl Iterator<Item = &'a TextFile>) -> Vec<String> {
    let files = files.filter(|file| !file.text.starts_with("//! "));
    files.map(|file| format!("{} does not begin with `//! `", file.path)).collect()
}

/// Files whose name says nothing.
pub(super) fn without_name<'a>(files: impl Iterator<Item = &'a TextFile>) -> Vec<String> {
    let files = files.filter(|file| EMPTY_NAMES.contains(&file.stem()));
    files.map(|file| format!("{} has a name that says nothing", file.path)).collect()
}

/// Names of structs, enums and traits that several files declare, with these files; without tests.
pub(super) fn declared_twice<'a>(
    files: impl Iterator<Item = &'a TextFile>,
) -> BTreeMap<String, Vec<&'a str>> {
    let mut declared: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for file in files {
        let (code, _) = without_tests(&without_comments_and_strings(&file.text));
        let words: Vec<&str> = code
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|w| !w.is_empty())
            .collect();
        for pair in words.windows(2) {
            let is_name = pair[1].starts_with(char::is_uppercase);
            if is_name && matches!(pair[0], "struct" | "enum" | "trait" | "union") {
                declared.entry(pair[1].to_owned()).or_default().push(&file.path);
            }
        }
    }
    declared.retain(|_, paths| paths.len() > 1);
    declared
}
