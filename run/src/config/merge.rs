//! From TOML files and `a.b=c` overrides to one table, and from there to a typed config.
//!
//! Files merge left to right, overrides come last. Every error names the dotted key and where it
//! was written. It knows nothing of what the keys mean.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::error::Error;

/// One place that keys came from.
struct Source {
    name: String,
    table: Table,
}

/// The merged table with the memory of which source wrote which key.
pub struct Merged {
    sources: Vec<Source>,
    table: Table,
}

impl Merged {
    /// Reads and merges `files`, then applies `overrides` of the form `a.b=c`.
    pub fn read(files: &[PathBuf], overrides: &[String]) -> Result<Self, Error> {
        let mut sources = Vec::new();
        for path in files {
            sources.push(Source { name: path.display().to_string(), table: read_file(path)? });
        }
        for text in overrides {
            sources.push(Source { name: "the command line".into(), table: parse_override(text)? });
        }
        let mut table = Table::new();
        for source in &sources {
            merge(&mut table, &source.table);
        }
        Ok(Self { sources, table })
    }

    /// Leaves sections out.
    pub fn without(mut self, sections: &[&str]) -> Self {
        self.table.retain(|key, _| !sections.contains(&key));
        self
    }

    /// Turns the table into a typed config; unknown keys and wrong types are errors.
    pub fn into_config<T: DeserializeOwned>(self) -> Result<T, Error> {
        let result: Result<T, _> =
            serde_path_to_error::deserialize(Value::Table(self.table.clone()));
        result.map_err(|error| {
            let message = error.inner().to_string();
            let message = message.lines().next().unwrap_or_default().trim().to_owned();
            let mut key = error.path().to_string();
            // serde reports an unknown field at its parent; the key itself is the useful name
            if let Some(field) =
                message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next())
                && !key.ends_with(field)
            {
                key = if key == "." { field.to_owned() } else { format!("{key}.{field}") };
            }
            let place = self.source_of(&key).unwrap_or("the config");
            Error::input(format!("{place}: key `{key}`: {message}"))
        })
    }

    /// The last source that wrote `key`.
    fn source_of(&self, key: &str) -> Option<&str> {
        let writes = |source: &&Source| lookup(&source.table, key).is_some();
        self.sources.iter().rev().find(writes).map(|source| source.name.as_str())
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

/// Overwrites `target` with `source`, table by table.
fn merge(target: &mut Table, source: &Table) {
    for (key, value) in source {
        match (target.get_mut(key), value) {
            (Some(Value::Table(target)), Value::Table(source)) => merge(target, source),
            _ => {
                target.insert(key.clone(), value.clone());
            }
        }
    }
}

fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let mut parts = key.split('.');
    let mut value = table.get(parts.next()?)?;
    for part in parts {
        value = value.as_table()?.get(part)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests;
