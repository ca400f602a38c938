//! The check of a table against the keys of a config: unknown keys, wrong types, choices, bounds.
//!
//! It reports all problems at once, and does not know rules between two keys.

use serde::Serialize;
use toml::{Table, Value};

use super::keys::{Bounds, Choice, ConfigKey, ConfigKeys, Shape};
use super::near::nearest;
use super::problem::{Fault, KeyProblem};

/// Keys that have a new name: the old dotted key and the new one.
pub type RenamedKeys = [(&'static str, &'static str)];

/// All problems of a typed config, each a text that begins with the dotted key.
pub fn validate<T: Serialize>(config: &T, keys: &ConfigKeys) -> Vec<String> {
    match Table::try_from(config) {
        Ok(table) => problems(&table, keys, &[]).iter().map(KeyProblem::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

/// All problems of a table, in the order of its keys.
pub fn problems(table: &Table, keys: &ConfigKeys, renamed: &RenamedKeys) -> Vec<KeyProblem> {
    let mut check = Check { root: keys, renamed, problems: Vec::new() };
    check.table("", table, keys);
    check.problems
}

struct Check<'a> {
    root: &'a ConfigKeys,
    renamed: &'a RenamedKeys,
    problems: Vec<KeyProblem>,
}

impl Check<'_> {
    fn add(&mut self, key: &str, fault: Fault) {
        self.problems.push(KeyProblem { key: key.to_owned(), fault });
    }

    fn table(&mut self, path: &str, table: &Table, keys: &ConfigKeys) {
        let tag = keys.variants.as_ref().map(|variants| variants.tag.as_str());
        let kind = tag.and_then(|tag| table.get(tag)?.as_str());
        for (name, value) in table {
            let at = dotted(path, name);
            if Some(name.as_str()) == tag {
                let all = keys.variants.iter().flat_map(|variants| &variants.all);
                let choices: Vec<Choice> = all.map(|variant| variant.choice.clone()).collect();
                self.choice(&at, value, &choices);
            } else if let Some(key) = keys.of_kind(kind).find(|key| key.name == *name) {
                self.value(&at, value, key);
            } else {
                self.stray(path, &at, value, keys, kind);
            }
        }
    }

    /// A key that its table does not have.
    fn stray(
        &mut self,
        path: &str,
        at: &str,
        value: &Value,
        keys: &ConfigKeys,
        kind: Option<&str>,
    ) {
        let n_before = self.problems.len();
        self.renamed(at, value);
        if self.problems.len() > n_before {
            return;
        }
        let name = at.rsplit('.').next().unwrap_or(at);
        let owner = keys.variants.as_ref().and_then(|variants| {
            let has = |key: &ConfigKey| key.name == name;
            let owner = variants.all.iter().find(|variant| variant.keys.iter().any(has))?;
            Some((dotted(path, &variants.tag), owner.choice.word.clone()))
        });
        let fault = match (owner, kind) {
            (Some((tag, owner)), Some(kind)) => {
                Fault::OtherKind { tag, kind: kind.to_owned(), owner }
            }
            _ => {
                let tag = keys.variants.iter().map(|variants| variants.tag.as_str());
                let names = keys.of_kind(kind).map(|key| key.name.as_str()).chain(tag);
                let near = nearest(name, names).map(|near| dotted(path, near));
                Fault::Unknown { meant: near.or_else(|| self.elsewhere(name, value)) }
            }
        };
        self.add(at, fault);
    }

    /// The new names of all that is at or under a key.
    fn renamed(&mut self, at: &str, value: &Value) {
        match (self.renamed.iter().find(|(old, _)| *old == at), value) {
            (Some((_, to)), _) => self.add(at, Fault::Renamed { to: (*to).to_owned() }),
            (None, Value::Table(table)) => {
                for (name, value) in table {
                    self.renamed(&dotted(at, name), value);
                }
            }
            (None, _) => {}
        }
    }

    /// The only key called `name` that takes a value like this, in any table.
    fn elsewhere(&self, name: &str, value: &Value) -> Option<String> {
        let mut found = Vec::new();
        find_all("", name, value.is_table(), self.root, &mut found);
        match found.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    fn value(&mut self, at: &str, value: &Value, key: &ConfigKey) {
        let is_empty = match value {
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        match &key.shape {
            Shape::List { is_required: true, items } if is_empty => match items.as_ref() {
                // such a list has words by default, so that somebody has emptied it
                Shape::Choice(choices) => {
                    self.wrong(at, "an empty list", &format!("at least one of {}", words(choices)));
                }
                _ => self.missing(at, key),
            },
            Shape::Text { is_required: true } if is_empty => self.missing(at, key),
            shape => self.shaped(at, value, shape),
        }
    }

    fn missing(&mut self, at: &str, key: &ConfigKey) {
        self.add(at, Fault::Missing { wanted: first_sentence(&key.meaning) });
    }

    fn shaped(&mut self, at: &str, value: &Value, shape: &Shape) {
        match (shape, value) {
            (Shape::Table(keys), Value::Table(table)) => self.table(at, table, keys),
            (Shape::Choice(choices), _) => self.choice(at, value, choices),
            (Shape::Integer(bounds), Value::Integer(number)) => {
                self.number(at, *number as f64, &seen(value), bounds);
            }
            (Shape::Number(bounds), Value::Integer(number)) => {
                self.number(at, *number as f64, &seen_number(*number as f64), bounds);
            }
            (Shape::Number(bounds), Value::Float(number)) => {
                self.number(at, *number, &seen_number(*number), bounds);
            }
            (Shape::List { items, .. }, Value::Array(values)) => {
                for (idx, value) in values.iter().enumerate() {
                    let at = format!("{at}[{idx}]");
                    match (items.as_ref(), value) {
                        (Shape::Text { is_required: true }, Value::String(text))
                            if text.is_empty() =>
                        {
                            self.wrong(&at, "an empty text", "at least one character");
                        }
                        (items, value) => self.shaped(&at, value, items),
                    }
                }
            }
            (Shape::Text { .. }, Value::String(_)) | (Shape::Bool, Value::Boolean(_)) => {}
            // a table may have a short form, which its type reads
            (Shape::Table(_) | Shape::Any, _) => {}
            (Shape::Integer(_), _) => self.wrong(at, &seen(value), "an integer"),
            (Shape::Number(_), _) => self.wrong(at, &seen(value), "a number"),
            (Shape::Text { .. }, _) => self.wrong(at, &seen(value), "a text"),
            (Shape::Bool, _) => self.wrong(at, &seen(value), "true or false"),
            (Shape::List { .. }, _) => self.wrong(at, &seen(value), "a list"),
        }
    }

    fn wrong(&mut self, at: &str, seen: &str, wanted: &str) {
        let (seen, wanted) = (seen.to_owned(), wanted.to_owned());
        self.add(at, Fault::Value { seen, wanted, meant: None });
    }

    fn number(&mut self, at: &str, number: f64, seen: &str, bounds: &Bounds) {
        if !bounds.contain(number) {
            self.wrong(at, seen, &bounds.wanted(number));
        }
    }

    fn choice(&mut self, at: &str, value: &Value, choices: &[Choice]) {
        let words = || choices.iter().map(|choice| choice.word.as_str());
        let word = value.as_str();
        if word.is_some_and(|word| words().any(|known| known == word)) {
            return;
        }
        let wanted = format!("one of {}", self::words(choices));
        let meant = word.and_then(|word| nearest(word, words())).map(|near| format!("\"{near}\""));
        self.add(at, Fault::Value { seen: seen(value), wanted, meant });
    }
}

/// The words of choices.
fn words(choices: &[Choice]) -> String {
    choices.iter().map(|choice| &choice.word[..]).collect::<Vec<_>>().join(", ")
}

/// The value in one line.
fn seen(value: &Value) -> String {
    match value {
        Value::Table(_) => "a table".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        value => value.to_string().replace('\n', " "),
    }
}

/// The value of a key that takes any number: the same for `-5` in a file and for the -5.0 that it
/// is read as, so that nobody is told of it twice.
fn seen_number(number: f64) -> String {
    match number.abs() {
        size if size == 0.0 || (1e-6..1e15).contains(&size) => number.to_string(),
        size if size.is_finite() => format!("{number:e}"),
        _ => seen(&Value::Float(number)),
    }
}

/// All keys called `name` that are tables, or that are none.
fn find_all(path: &str, name: &str, is_table: bool, keys: &ConfigKeys, found: &mut Vec<String>) {
    for key in keys.of_kind(None) {
        let at = dotted(path, &key.name);
        if let Shape::Table(keys) = &key.shape {
            find_all(&at, name, is_table, keys, found);
        }
        let is_like = matches!(key.shape, Shape::Table(_)) == is_table;
        if key.name == name && is_like && !found.contains(&at) {
            found.push(at);
        }
    }
}

/// `path.name`; `name` at the root.
pub fn dotted(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The first sentence of a meaning, as the end of another sentence.
fn first_sentence(meaning: &str) -> String {
    let sentence = meaning.split_once(". ").map_or(meaning, |(first, _)| first);
    let sentence = sentence.trim_end_matches('.');
    let mut letters = sentence.chars();
    match letters.next() {
        // `GGUF` stays as it is, `Model` does not
        Some(first) if letters.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => sentence.to_owned(),
    }
}

#[cfg(test)]
mod tests;
