//! How the workspace's files hang together: imports without circles, short files, narrow lines,
//! heads, names. Each rule reads the files as text; what a rule misses is tested in `made_up`.

mod imports;
mod made_up;
mod rules;
mod text;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use imports::CrateFiles;
use tree::TextFile;

use crate::binary::root;

/// The Rust files of a crate's `src`, by crate.
fn crates(files: &[TextFile]) -> BTreeMap<&str, Vec<&TextFile>> {
    let mut crates: BTreeMap<&str, Vec<&TextFile>> = BTreeMap::new();
    for file in files {
        if let Some((folder, _)) = file.path.split_once("/src/") {
            crates.entry(folder).or_default().push(file);
        }
    }
    crates
}

fn crate_files(files: &[&TextFile]) -> CrateFiles {
    let below = |file: &TextFile| file.path.find("/src/").map_or(0, |at| at + 5);
    CrateFiles::new(files.iter().map(|file| (&file.path[below(file)..], &file.text[..])))
}

/// Paths of the files that exist for tests only.
fn test_files(files: &[TextFile]) -> BTreeSet<String> {
    let crates = crates(files);
    let of_crate = |(folder, files): (&&str, &Vec<&TextFile>)| {
        let files = crate_files(files);
        files.test_files().into_iter().map(|path| format!("{folder}/src/{path}")).collect()
    };
    let of_crates = crates.iter().flat_map(|found| -> Vec<String> { of_crate(found) });
    let of_folder = files.iter().filter(|file| file.path.starts_with("tests/"));
    of_crates.chain(of_folder.map(|file| file.path.clone())).collect()
}

/// Asserts that exactly the excepted problems are found, by their beginnings: an exception that is
/// no longer needed fails, too.
fn check_only(found: &[String], excepted: &[&str]) {
    let is_excepted = |problem: &&String| excepted.iter().any(|start| problem.starts_with(start));
    let new: Vec<&String> = found.iter().filter(|problem| !is_excepted(problem)).collect();
    assert!(new.is_empty(), "{new:#?}");
    let is_needed = |start: &&&str| found.iter().any(|problem| problem.starts_with(**start));
    let unneeded: Vec<&&str> = excepted.iter().filter(|start| !is_needed(start)).collect();
    assert!(unneeded.is_empty(), "exceptions that are not needed: {unneeded:#?}");
}

#[test]
fn imports_of_a_crates_files_have_no_circle() {
    let files = tree::files(&root(), &["rs"]);
    let mut found = Vec::new();
    for (folder, files) in crates(&files) {
        let files = crate_files(&files);
        for circle in imports::circles(&files.imports()) {
            found.push(format!("{folder}: {}", circle.join(" ")));
        }
    }
    check_only(&found, &[]);
}

#[test]
fn files_outside_tests_have_at_most_450_lines() {
    let files = tree::files(&root(), &["rs", "cu", "cuh", "cpp", "h", "py"]);
    let tests = test_files(&files);
    let found = rules::too_long(files.iter().filter(|file| !tests.contains(&file.path)));
    check_only(&found, &[]);
}

#[test]
fn lines_have_at_most_100_columns() {
    let files = tree::files(&root(), &["rs", "cu", "cuh", "cpp", "h", "py", "toml"]);
    check_only(&rules::too_wide(files.iter()), &[]);
}

#[test]
fn rust_files_begin_with_what_they_own() {
    let files = tree::files(&root(), &["rs"]);
    check_only(&rules::without_head(files.iter()), &[]);
}

#[test]
fn file_names_say_what_a_file_owns() {
    let files = tree::files(&root(), &["rs", "py", "cu", "cuh", "cpp", "h"]);
    check_only(&rules::without_name(files.iter()), &[]);
}

#[test]
fn type_names_are_declared_once_in_the_workspace() {
    let files = tree::files(&root(), &["rs"]);
    let tests = test_files(&files);
    let files = files.iter().filter(|file| !tests.contains(&file.path));
    let twice = rules::declared_twice(files);
    let found = twice.iter().map(|(name, paths)| format!("{name}: {}", paths.join(" ")));
    let excepted = [
        // one typed error per library crate
        "Error:",
    ];
    check_only(&found.collect::<Vec<_>>(), &excepted);
}
