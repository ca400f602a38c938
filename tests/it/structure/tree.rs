//! The workspace's text files, read from disk. Knows nothing of what is written in them.

use std::path::Path;

/// Folders without text of this project.
const SKIPPED: [&str; 3] = ["target", "outputs", "__pycache__"];

/// A file: its path from the project's root, and its text.
pub(super) struct TextFile {
    pub(super) path: String,
    pub(super) text: String,
}

impl TextFile {
    /// The name without folders and extension.
    pub(super) fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.split('.').next().unwrap_or(name)
    }
}

/// All files with one of the extensions, by path.
pub(super) fn files(root: &Path, extensions: &[&str]) -> Vec<TextFile> {
    let mut found = Vec::new();
    collect(root, "", extensions, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(dir: &Path, prefix: &str, extensions: &[&str], found: &mut Vec<TextFile>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with('.') || SKIPPED.contains(&&name[..]) {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &format!("{path}/"), extensions, found);
        } else if path.rsplit_once('.').is_some_and(|(_, end)| extensions.contains(&end)) {
            found.push(TextFile { path, text: std::fs::read_to_string(entry.path()).unwrap() });
        }
    }
}
