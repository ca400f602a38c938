//! Which file of a crate imports from which, read from `use` items and from paths inside the text.
//!
//! Knows paths that begin with `crate`, `super`, `self`, a module that the file declares, or a
//! module that the file has imported by name. A module file that only declares its modules is never
//! imported from, for nothing is found in it.

use std::collections::{BTreeMap, BTreeSet};

use super::text::{without_comments_and_strings, without_tests};

/// The files of one crate.
pub(super) struct CrateFiles {
    /// Module path of each file: `["desk", "handle"]`; the root's is empty.
    modules: BTreeMap<Vec<String>, SourceFile>,
}

struct SourceFile {
    path: String,
    /// Without comments, strings and tests.
    code: String,
    /// Modules that exist for tests only.
    test_modules: Vec<String>,
}

/// What a path in a file begins with, and where that is.
type Scope = BTreeMap<String, Vec<String>>;

impl CrateFiles {
    /// `files` are path below `src` and text.
    pub(super) fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut modules = BTreeMap::new();
        for (path, text) in files {
            let (code, test_modules) = without_tests(&without_comments_and_strings(text));
            modules
                .insert(module_of(path), SourceFile { path: path.to_owned(), code, test_modules });
        }
        Self { modules }
    }

    /// Paths of the files that exist for tests only.
    pub(super) fn test_files(&self) -> BTreeSet<&str> {
        let is_test = |module: &[String]| {
            (0..module.len()).any(|depth| {
                let parent = self.modules.get(&module[..depth]);
                parent.is_some_and(|parent| parent.test_modules.contains(&module[depth]))
            })
        };
        self.modules
            .iter()
            .filter(|(module, _)| is_test(module))
            .map(|(_, file)| file.path.as_str())
            .collect()
    }

    /// Files that each file imports from; without tests.
    pub(super) fn imports(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let tests = self.test_files();
        let files = self.modules.iter().filter(|(_, file)| !tests.contains(&file.path[..]));
        files.map(|(module, file)| (&file.path[..], self.imports_of(module, file))).collect()
    }

    fn imports_of(&self, module: &[String], file: &SourceFile) -> BTreeSet<&str> {
        let mut scope = Scope::new();
        for child in self.children(module) {
            scope.insert(child.clone(), [module, &[child]].concat());
        }
        let (uses, rest) = split_uses(&file.code);
        let mut found = BTreeSet::new();
        for (path, alias) in uses.iter().flat_map(|text| leaves(text)) {
            let Some(target) = absolute(&path, module, &scope) else { continue };
            if self.modules.contains_key(&target) {
                scope.insert(alias, target);
            } else {
                found.extend(self.file_of(&target));
            }
        }
        for path in paths(&rest) {
            let target = absolute(&path, module, &scope);
            // the path of a module alone, as in a visibility, imports nothing
            let target = target.filter(|target| !self.modules.contains_key(target));
            found.extend(target.and_then(|target| self.file_of(&target)));
        }
        found.remove(&file.path[..]);
        found
    }

    fn children(&self, module: &[String]) -> Vec<String> {
        let below = self.modules.keys().filter(|other| other.len() == module.len() + 1);
        below.filter(|other| other.starts_with(module)).filter_map(|o| o.last().cloned()).collect()
    }

    /// The file that an item is in: that of the longest module before it.
    fn file_of(&self, item: &[String]) -> Option<&str> {
        let module = (0..item.len()).rev().find_map(|n| self.modules.get(&item[..n]))?;
        Some(&module.path)
    }
}

/// `desk/handle.rs` is the module `desk::handle`.
fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    let is_root = parts.len() == 1 && (parts[0] == "lib" || parts[0] == "main");
    if is_root || parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// `use` items, without the word and the semicolon, and the text without them.
fn split_uses(code: &str) -> (Vec<String>, String) {
    let mut uses = Vec::new();
    let mut left = String::new();
    let mut rest = code;
    let begins_item = |at: usize, text: &str| {
        let before = text[..at].trim_end();
        before.is_empty() || before.ends_with([';', '}', '{', ']', ')', 'b'])
    };
    while let Some(at) = rest.find("use ").map(|at| at + 4) {
        let is_item = begins_item(at - 4, rest);
        left.push_str(&rest[..at - if is_item { 4 } else { 0 }]);
        rest = &rest[at..];
        if is_item {
            let end = rest.find(';').unwrap_or(rest.len());
            uses.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
    }
    left.push_str(rest);
    (uses, left)
}

/// The paths of a `use` item, each with the name under which it is known afterwards.
fn leaves(text: &str) -> Vec<(Vec<String>, String)> {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    walk(&[], &text, &mut found);
    found
}

fn walk(prefix: &[String], text: &str, found: &mut Vec<(Vec<String>, String)>) {
    let text = text.trim();
    if let Some(start) = text.find('{') {
        let inner = &text[start + 1..text.rfind('}').unwrap_or(text.len())];
        let before = text[..start].split("::").map(str::trim).filter(|part| !part.is_empty());
        let prefix: Vec<String> = prefix.iter().cloned().chain(before.map(str::to_owned)).collect();
        split_at_commas(inner).iter().for_each(|part| walk(&prefix, part, found));
        return;
    }
    if text.is_empty() {
        return;
    }
    let (path, alias) = text.split_once(" as ").unwrap_or((text, ""));
    let mut path: Vec<String> =
        prefix.iter().cloned().chain(path.split("::").map(|part| part.trim().to_owned())).collect();
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    let name =
        if alias.is_empty() { path.last().cloned().unwrap_or_default() } else { alias.into() };
    found.push((path, name));
}

fn split_at_commas(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Every `a::b` of a text.
fn paths(code: &str) -> Vec<Vec<String>> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c| !is_path(c)).filter(|word| word.contains("::"));
    words.map(|word| word.split("::").map(str::to_owned).collect()).collect()
}

/// The path from the crate's root; none for paths into other crates.
fn absolute(path: &[String], module: &[String], scope: &Scope) -> Option<Vec<String>> {
    let mut base = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        "super" => module[..module.len().checked_sub(1)?].to_vec(),
        first => scope.get(first)?.clone(),
    };
    for part in &path[1..] {
        match part.as_str() {
            "super" => drop(base.pop()),
            part => base.push(part.to_owned()),
        }
    }
    Some(base)
}

/// Sets of files each of which can be reached from each other by imports.
pub(super) fn circles<'a>(imports: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<Vec<&'a str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|&file| (file, reachable(imports, file))).collect();
    let meets = |a: &str, b: &str| reached[a].contains(b) && reached[b].contains(a);
    let mut found: Vec<Vec<&str>> = Vec::new();
    for &file in imports.keys() {
        let is_known = found.iter().any(|circle| circle.contains(&file));
        if !is_known && reached[file].contains(file) {
            found.push(imports.keys().copied().filter(|other| meets(file, other)).collect());
        }
    }
    found
}

fn reachable<'a>(imports: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut todo: Vec<&str> = imports[from].iter().copied().collect();
    while let Some(file) = todo.pop() {
        if seen.insert(file) {
            todo.extend(imports.get(file).into_iter().flatten());
        }
    }
    seen
}
