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

/// One place that keys came from.
struct Source {
    name: String,
    table: Table,
}

/// Tables from files and from the command line, in the order in which they merge.
pub struct Merged {
    sources: Vec<Source>,
}

impl Merged {
    /// Reads `files`, and overrides of the form `a.b=c`.
    pub fn read(files: &[PathBuf], overrides: &[String]) -> Result<Self, Error> {
        let mut sources = Vec::new();
        for path in files {
            sources.push(Source { name: path.display().to_string(), table: read_file(path)? });
        }
        // one source: the kind of a table and its keys may come in any order
        let mut table = Table::new();
        for text in overrides {
            merge(&mut table, &parse_override(text)?, None);
        }
        sources.push(Source { name: "the command line".to_owned(), table });
        Ok(Self { sources })
    }

    /// Leaves sections out.
    pub fn without(mut self, sections: &[&str]) -> Self {
        for source in &mut self.sources {
            source.table.retain(|key, _| !sections.contains(&key));
        }
        self
    }

    /// Turns the tables into a typed config. Keys that are left out have their defaults.
    ///
    /// # Errors
    /// [`Error::Input`] with all unknown keys, wrong types and values out of bounds.
    pub fn into_config<T>(self) -> Result<T, Error>
    where
        T: Default + Serialize + DeserializeOwned + JsonSchema,
    {
        let keys = ConfigKeys::of::<T>();
        let mut table = Table::try_from(T::default())?;
        for source in &self.sources {
            merge(&mut table, &source.table, Some(&keys));
        }
        self.refuse(&check::problems(&table, &keys, &RENAMED))?;
        let result: Result<T, _> = serde_path_to_error::deserialize(Value::Table(table));
        result.map_err(|error| {
            let message = error.inner().to_string();
            let message = message.lines().next().unwrap_or_default().trim().to_owned();
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

    /// One error for all problems, by the place where their keys were written. Keys that are
    /// missing are left to the rules of the config: another key may make them unnecessary.
    fn refuse(&self, problems: &[KeyProblem]) -> Result<(), Error> {
        let mut places: Vec<(&str, Vec<String>)> =
            self.sources.iter().map(|source| (source.name.as_str(), Vec::new())).collect();
        for problem in problems {
            if matches!(problem.fault, Fault::Missing { .. }) {
                continue;
            }
            let writer = self.sources.iter().rposition(|source| source.writes(&problem.key));
            places[writer.unwrap_or(0)].1.push(problem.to_string());
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

/// `a.b=c`: c is TOML where it reads as such, else a string.
fn parse_override(text: &str) -> Result<Table, Error> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(Error::input(format!("override `{text}` has no `=`, wanted key.path=value")));
    };
    let key = key.trim().trim_start_matches("--");
    let parts: Vec<&str> = key.split('.').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(Error::input(format!("override `{text}`: empty part in the key `{key}`")));
    }
    let value = format!("value = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    let mut table = Table::new();
    table.insert(parts[parts.len() - 1].to_owned(), value);
    for part in parts[..parts.len() - 1].iter().rev() {
        let mut outer = Table::new();
        outer.insert((*part).to_owned(), Value::Table(table));
        table = outer;
    }
    Ok(table)
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
