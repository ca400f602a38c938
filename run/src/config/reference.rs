//! Reference of a config type: every key with its type, default, range and meaning.
//!
//! It reads the keys of the type and knows no config by name.

use joust_schema::config::check::dotted;
use joust_schema::config::keys::{Bounds, Choice, ConfigKey, ConfigKeys, Shape, Variant};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::merge::merge;

/// The part of docs/configuration.md for one config type: a table per section, in source order.
pub fn section<T>(command: &str) -> String
where
    T: Default + Serialize + DeserializeOwned + JsonSchema,
{
    let keys = ConfigKeys::of::<T>();
    let defaults = Table::try_from(T::default()).unwrap_or_default();
    // defaults of a kind that is not the default kind
    let with = |change: &Table| {
        let mut table = defaults.clone();
        merge(&mut table, change, Some(&keys));
        let config = T::deserialize(Value::Table(table)).ok();
        config.and_then(|config| Table::try_from(config).ok()).unwrap_or_default()
    };
    let mut page = Page { text: format!("\n## {command}\n"), defaults: &with };
    page.table("", "", &keys, &defaults);
    page.text
}

struct Page<'a> {
    text: String,
    /// The defaults of a config that has these keys.
    defaults: &'a dyn Fn(&Table) -> Table,
}

impl Page<'_> {
    /// The keys of a table, then the tables inside it.
    fn table(&mut self, path: &str, meaning: &str, keys: &ConfigKeys, defaults: &Table) {
        let is_plain = |key: &&ConfigKey| !matches!(key.shape, Shape::Table(_));
        let tag = keys.variants.as_ref().map(|variants| {
            let choices = variants.all.iter().map(|variant| variant.choice.clone()).collect();
            let shape = Shape::Choice(choices);
            let meaning = "Kind of this section.".to_owned();
            ConfigKey { name: variants.tag.clone(), meaning, shape }
        });
        if !path.is_empty() && (tag.is_some() || keys.all.iter().any(|key| is_plain(&key))) {
            self.text += &format!("\n### [{path}]\n\n{meaning}\n");
        }
        let plain: Vec<&ConfigKey> = tag.iter().chain(keys.all.iter().filter(is_plain)).collect();
        self.rows(&plain, &values_at(defaults, path));
        self.inner(path, "", &keys.all, defaults);
        for variant in keys.variants.iter().flat_map(|variants| &variants.all) {
            let tag = keys.variants.as_ref().map_or("", |variants| &variants.tag);
            self.variant(path, tag, variant);
        }
    }

    /// The keys that only one kind has.
    fn variant(&mut self, path: &str, tag: &str, variant: &Variant) {
        if variant.keys.is_empty() {
            return;
        }
        let word = &variant.choice.word;
        let change = nested(&dotted(path, tag), Value::String(word.clone()));
        let defaults = (self.defaults)(&change);
        let only = format!("Only for `{}` = `\"{word}\"`.", dotted(path, tag));
        self.text += &format!("\n### [{path}], {tag} = \"{word}\"\n\n{only}\n");
        let plain: Vec<&ConfigKey> =
            variant.keys.iter().filter(|key| !matches!(key.shape, Shape::Table(_))).collect();
        self.rows(&plain, &values_at(&defaults, path));
        self.inner(path, &format!(" {only}"), &variant.keys, &defaults);
    }

    /// The tables among `keys`, and those in lists; `only` is added to what they mean.
    fn inner(&mut self, path: &str, only: &str, keys: &[ConfigKey], defaults: &Table) {
        for key in keys {
            let path = dotted(path, &key.name);
            let meaning = format!("{}{only}", key.meaning);
            match &key.shape {
                Shape::Table(inner) => self.table(&path, &meaning, inner, defaults),
                Shape::List { items, .. } => {
                    if let Shape::Table(inner) = items.as_ref() {
                        self.list(&path, inner);
                    }
                }
                _ => {}
            }
        }
    }

    /// The tables of a list: keys that all have, then those of each kind.
    fn list(&mut self, path: &str, keys: &ConfigKeys) {
        let Some(variants) = &keys.variants else { return };
        let kinds = variants.all.iter().map(|variant| variant.choice.clone()).collect();
        let tag = ConfigKey {
            name: variants.tag.clone(),
            meaning: "Kind of this table.".to_owned(),
            shape: Shape::Choice(kinds),
        };
        let first = variants.all.first().map_or("", |variant| &variant.choice.word);
        self.text += &format!("\n### [[{path}]]\n\nA table of the list `{path}`.\n");
        let rows: Vec<&ConfigKey> = [&tag].into_iter().chain(&keys.all).collect();
        let mut defaults = self.defaults_in_list(path, &tag.name, first);
        defaults.remove(&tag.name);
        self.rows(&rows, &defaults);
        for Variant { choice, keys } in variants.all.iter().filter(|it| !it.keys.is_empty()) {
            let (tag, word) = (&tag.name, &choice.word);
            self.text += &format!("\n### [[{path}]], {tag} = \"{word}\"\n\n");
            self.text += &format!("{}\n", choice.meaning);
            let defaults = self.defaults_in_list(path, tag, word);
            self.rows(&keys.iter().collect::<Vec<_>>(), &defaults);
        }
    }

    /// The defaults of a table of a kind in a list.
    fn defaults_in_list(&self, path: &str, tag: &str, word: &str) -> Table {
        let table = Table::from_iter([(tag.to_owned(), Value::String(word.to_owned()))]);
        let list = Value::Array(vec![Value::Table(table)]);
        let config = (self.defaults)(&nested(path, list));
        let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
        let list = values_at(&config, section).remove(name);
        match list.and_then(|list| list.as_array()?.first()?.as_table().cloned()) {
            Some(table) => table,
            None => Table::new(),
        }
    }

    fn rows(&mut self, keys: &[&ConfigKey], defaults: &Table) {
        if keys.is_empty() {
            return;
        }
        self.text += "\n| key | type | default | range | meaning |\n|---|---|---|---|---|\n";
        for key in keys {
            let (kind, range) = type_of(&key.shape);
            let default = match defaults.get(&key.name) {
                Some(_) if is_required(key, defaults) => "required".to_owned(),
                Some(value) => format!("`{value}`"),
                None => String::new(),
            };
            let meaning = cell(&key.meaning);
            let choices = choices(&key.shape);
            self.text += &format!(
                "| `{}` | {kind} | {default} | {range} | {meaning}{choices} |\n",
                key.name
            );
        }
    }
}

/// A table with one value, at a dotted key.
fn nested(path: &str, value: Value) -> Table {
    let at = |value, name: &str| Value::Table(Table::from_iter([(name.to_owned(), value)]));
    match path.rsplit('.').fold(value, at) {
        Value::Table(table) => table,
        _ => Table::new(),
    }
}

/// Whether the default is no value that the key takes.
fn is_required(key: &ConfigKey, defaults: &Table) -> bool {
    let is_required = matches!(
        key.shape,
        Shape::Text { is_required: true } | Shape::List { is_required: true, .. }
    );
    let is_empty = match defaults.get(&key.name) {
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        _ => false,
    };
    is_required && is_empty
}

fn values_at(defaults: &Table, path: &str) -> Table {
    let mut parts = path.split('.').filter(|part| !part.is_empty());
    let found = parts.try_fold(defaults, |table, part| table.get(part)?.as_table());
    found.cloned().unwrap_or_default()
}

/// The name of a type, and its bounds.
fn type_of(shape: &Shape) -> (&'static str, String) {
    match shape {
        Shape::Table(_) => ("table", String::new()),
        Shape::Choice(_) => ("choice", String::new()),
        // counts are not negative anyway
        Shape::Integer(bounds) => {
            let min = bounds.min.filter(|min| *min != 0.0);
            ("integer", Bounds { min, ..*bounds }.to_string())
        }
        Shape::Number(bounds) => ("number", bounds.to_string()),
        Shape::Text { .. } => ("text", String::new()),
        Shape::Bool => ("boolean", String::new()),
        Shape::List { .. } => ("list", String::new()),
        Shape::Any => ("", String::new()),
    }
}

/// The words that a key may hold, each with its meaning.
fn choices(shape: &Shape) -> String {
    let Shape::Choice(all) = shape else { return String::new() };
    let text = |choice: &Choice| match choice.meaning.is_empty() {
        true => format!("<br>`{}`", choice.word),
        false => format!("<br>`{}`: {}", choice.word, cell(&choice.meaning)),
    };
    all.iter().map(text).collect()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests;
