//! From TOML files and `a.b=c` overrides to one table, and from there to a typed config.
//!
//! Defaults come first, files merge left to right over them, and overrides come last. Every error
//! names the dotted key and where it was written. It knows nothing of what the keys mean.

use std::path::{Path, PathBuf};

use joust_schema::config::check;
use joust_schema::config::keys::{ConfigKeys, Shape};
use joust_schema::config::problem::{Fault, KeyProblem};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::renamed::RENAMED;
use crate::error::Error;

/// Section and two keys of it of which one is set: a later file or override that sets the other one
/// takes its place.
const ALTERNATIVES: [(&str, [&str; 2]); 1] = [("trainer", ["steps", "epochs"])];

/// One place that keys came from.
struct Source {
    name: String,
    table: Table,
}

/// Whether a config has a dotted key, or a table of several kinds that may have it.
fn is_key(keys: &ConfigKeys, dotted: &str) -> bool {
    if keys.variants.is_some() {
        return true;
    }
    match dotted.split_once('.') {
        None => keys.get(dotted).is_some(),
        Some((first, rest)) => match keys.get(first).map(|key| &key.shape) {
            Some(Shape::Table(inner)) => is_key(inner, rest),
            _ => false,
        },
    }
}

/// Tables from files, in the order in which they merge, and overrides.
pub struct Merged {
    sources: Vec<Source>,
    overrides: Vec<Override>,
}

/// `a.b=c` as it was written.
struct Override {
    /// The parts of the key.
    path: Vec<String>,
    value: String,
}

impl Merged {
    /// Reads `files`, and overrides of the form `a.b=c`.
    pub fn read(files: &[PathBuf], overrides: &[String]) -> Result<Self, Error> {
        let mut sources = Vec::new();
        for path in files {
            sources.push(Source { name: path.display().to_string(), table: read_file(path)? });
        }
        let overrides = overrides.iter().map(|text| Override::read(text));
        Ok(Self { sources, overrides: overrides.collect::<Result<_, Error>>()? })
    }

    /// Leaves sections out.
    pub fn without(mut self, sections: &[&str]) -> Self {
        for source in &mut self.sources {
            source.table.retain(|key, _| !sections.contains(&key));
        }
        self.overrides.retain(|one| !sections.contains(&one.path[0].as_str()));
        self
    }

    /// Turns the tables into a typed config. Keys that are left out have their defaults. `rules`
    /// returns the problems between keys, each beginning with its key.
    ///
    /// # Errors
    /// [`Error::Input`] with all unknown keys, wrong types and values out of bounds, and with the
    /// problems that `rules` finds beside them.
    pub fn into_config<T>(mut self, rules: impl Fn(&T) -> Vec<String>) -> Result<T, Error>
    where
        T: Default + Serialize + DeserializeOwned + JsonSchema,
    {
        let keys = ConfigKeys::of::<T>();
        self.add_command_line(&keys)?;
        let mut table = Table::try_from(T::default())?;
        for source in &self.sources {
            drop_earlier_alternatives(&mut table, &source.table);
            merge(&mut table, &source.table, Some(&keys));
        }
        // `trainer` of `joust train` and `joust dpo` are two sections of one name
        let is_other = |new: &str| {
            let section = new.split('.').next().unwrap_or_default();
            keys.get(section).is_some() && !is_key(&keys, new)
        };
        let renamed: Vec<(&str, &str)> =
            RENAMED.into_iter().filter(|(_, new)| !is_other(new)).collect();
        let problems = check::problems(&table, &keys, &renamed);
        let result: Result<T, _> = serde_path_to_error::deserialize(Value::Table(table));
        self.refuse(&problems, result.as_ref().map(rules).unwrap_or_default())?;
        result.map_err(|error| {
            let message = error.inner().to_string();
            let message = message.lines().next().unwrap_or_default().trim();
            let message = match message.split_once("expected struct") {
                Some((seen, _)) => format!("{seen}wanted a table of keys"),
                None => message.to_owned(),
            };
            let path = error.path().to_string();
            let path = if path == "." { "" } else { &path };
            let missing = message.strip_prefix("missing field `");
            let text = match missing.and_then(|rest| rest.split('`').next()) {
                Some(name) => format!("{} is missing", check::dotted(path, name)),
                None => format!("{path}: {message}"),
            };
            let place = self.source_of(path).map_or("config", |source| &source.name);
            Error::input(format!("{place}: {text}"))
        })
    }

    /// Makes the overrides the last source. It is one source: the kind of a table and its keys may
    /// come in any order.
    fn add_command_line(&mut self, keys: &ConfigKeys) -> Result<(), Error> {
        let mut table = Table::new();
        for one in &self.overrides {
            merge(&mut table, &one.table(keys)?, None);
        }
        self.sources.push(Source { name: "the command line".to_owned(), table });
        Ok(())
    }

    /// One error for all problems, by the place where their keys were written. Keys that are
    /// missing are left to the rules of the config: another key may make them unnecessary.
    fn refuse(&self, problems: &[KeyProblem], mut rules: Vec<String>) -> Result<(), Error> {
        let mut places: Vec<(&str, Vec<String>)> =
            self.sources.iter().map(|source| (source.name.as_str(), Vec::new())).collect();
        for problem in problems {
            if matches!(problem.fault, Fault::Missing { .. }) {
                continue;
            }
            let writer = self.sources.iter().rposition(|source| source.writes(&problem.key));
            let text = problem.to_string();
            // the rules of a config look at its bounds too
            rules.retain(|rule| *rule != text);
            places[writer.unwrap_or(0)].1.push(text);
        }
        if !rules.is_empty() {
            places.push(("config", rules));
        }
        places.retain(|(_, texts)| !texts.is_empty());
        let texts = places.iter().map(|(name, texts)| format!("{name}: {}", texts.join("; ")));
        match places.is_empty() {
            true => Ok(()),
            false => Err(Error::input(texts.collect::<Vec<_>>().join("; "))),
        }
    }

    /// The last source that wrote `key`.
    fn source_of(&self, key: &str) -> Option<&Source> {
        self.sources.iter().rev().find(|source| source.writes(key))
    }
}

impl Source {
    fn writes(&self, key: &str) -> bool {
        let key = key.split('[').next().unwrap_or(key);
        let mut parts = key.split('.');
        let last = parts.next_back();
        let table = parts.try_fold(&self.table, |table, part| table.get(part)?.as_table());
        table.is_some_and(|table| last.is_some_and(|part| table.contains_key(part)))
    }
}

fn read_file(path: &Path) -> Result<Table, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::input(format!("config {}: {error}", path.display())))?;
    text.parse::<Table>().map_err(|error| {
        let line = error
            .span()
            .map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
        Error::input(format!("{}:{line}: {}", path.display(), error.message().replace('\n', ", ")))
    })
}

impl Override {
    fn read(text: &str) -> Result<Self, Error> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(Error::input(format!(
                "override `{text}` has no `=`, wanted key.path=value"
            )));
        };
        let key = key.trim().trim_start_matches("--");
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(Error::input(format!("override `{text}`: empty part in the key `{key}`")));
        }
        Ok(Self { path, value: value.to_owned() })
    }

    /// A table that has this key alone.
    fn table(&self, keys: &ConfigKeys) -> Result<Table, Error> {
        let mut value = self.value(keys)?;
        for part in self.path.iter().rev() {
            value = Value::Table(Table::from_iter([(part.clone(), value)]));
        }
        match value {
            Value::Table(table) => Ok(table),
            _ => unreachable!("a key has a part, which makes a table. This is a bug."),
        }
    }

    /// The value: TOML where it reads as such, else a text. A key that takes a text gets what was
    /// written, unless that is a text in quotes: `run.name=7` names a run `7`.
    fn value(&self, keys: &ConfigKeys) -> Result<Value, Error> {
        let read = format!("value = {}", self.value).parse::<Table>();
        let read = read.ok().and_then(|mut table| table.remove("value"));
        match (read, self.shape(keys)) {
            (Some(Value::String(text)), _) => Ok(Value::String(text)),
            (_, Some(Shape::Text { .. })) => Ok(Value::String(self.value.clone())),
            (Some(value), _) => Ok(value),
            // TOML has no integers beyond 64 bits with a sign
            (None, Some(Shape::Integer(_))) if self.value.trim().parse::<i128>().is_ok() => {
                Err(Error::input(format!(
                    "the command line: {} is {}, wanted at most {}",
                    self.path.join("."),
                    self.value.trim(),
                    i64::MAX
                )))
            }
            (None, _) => Ok(Value::String(self.value.clone())),
        }
    }

    /// The shape of the key; none where there is no such key.
    fn shape<'a>(&self, keys: &'a ConfigKeys) -> Option<&'a Shape> {
        let (last, sections) = self.path.split_last()?;
        let keys = sections.iter().try_fold(keys, |keys, part| match &keys.get(part)?.shape {
            Shape::Table(inner) => Some(inner),
            _ => None,
        })?;
        Some(&keys.get(last)?.shape)
    }
}

/// Overwrites `target` with `source`, table by table. Where `source` changes the kind of a table,
/// the keys of the earlier kind are dropped.
pub(crate) fn merge(target: &mut Table, source: &Table, keys: Option<&ConfigKeys>) {
    drop_keys_of_earlier_kind(target, source, keys);
    for (name, value) in source {
        let inner = keys.and_then(|keys| match &keys.get(name)?.shape {
            Shape::Table(inner) => Some(inner),
            _ => None,
        });
        match (target.get_mut(name), value) {
            (Some(Value::Table(target)), Value::Table(source)) => merge(target, source, inner),
            _ => {
                target.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Drops a key where a later source sets the one that stands in its place.
fn drop_earlier_alternatives(target: &mut Table, source: &Table) {
    for (section, [first, second]) in ALTERNATIVES {
        let later = source.get(section).and_then(Value::as_table);
        let (Some(later), Some(Value::Table(earlier))) = (later, target.get_mut(section)) else {
            continue;
        };
        for (set, other) in [(first, second), (second, first)] {
            if later.contains_key(set) && !later.contains_key(other) {
                earlier.remove(other);
            }
        }
    }
}

fn drop_keys_of_earlier_kind(target: &mut Table, source: &Table, keys: Option<&ConfigKeys>) {
    let Some(variants) = keys.and_then(|keys| keys.variants.as_ref()) else { return };
    let kind_of = |table: &Table| table.get(&variants.tag)?.as_str().map(str::to_owned);
    let (Some(earlier), Some(later)) = (kind_of(target), kind_of(source)) else { return };
    if let Some(variant) = variants.get(&earlier).filter(|_| earlier != later) {
        target.retain(|name, _| variant.keys.iter().all(|key| key.name != *name));
    }
}

#[cfg(test)]
mod tests;
