//! Reference of a config type: every key with its type, default and meaning.
//!
//! It reads the type's JSON schema and knows no config by name.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Map, Value};

/// The part of docs/configuration.md for one config type: a table per section.
pub fn section<T: JsonSchema + Serialize>(command: &str, default: &T) -> String {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    let defaults = serde_json::to_value(default).unwrap_or_default();
    let mut text = format!("\n## {command}\n");
    tables("", schema.as_value(), &defaults, &mut text);
    text
}

/// A table for the keys of one object, then the objects inside it.
fn tables(path: &str, schema: &Value, defaults: &Value, text: &mut String) {
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let (nested, plain): (Vec<_>, Vec<_>) =
        properties.iter().partition(|(_, schema)| object_of(schema).is_some());
    if !plain.is_empty() {
        if !path.is_empty() {
            *text += &format!("\n### [{path}]\n");
        }
        *text += "\n| key | type | default | meaning |\n|---|---|---|---|\n";
        for (key, schema) in plain {
            let default = match &defaults[key] {
                Value::Null => String::new(),
                value => format!("`{value}`"),
            };
            let meaning = one_line(&schema["description"]);
            *text += &format!(
                "| `{key}` | {} | {default} | {meaning}{} |\n",
                type_of(schema),
                choices(schema)
            );
        }
    }
    for (key, schema) in nested {
        let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if let Some(object) = object_of(schema) {
            tables(&inner, object, &defaults[key], text);
        }
    }
}

/// The object that a key holds, perhaps an optional one.
fn object_of(schema: &Value) -> Option<&Value> {
    if schema["properties"].is_object() {
        return Some(schema);
    }
    let any = schema["anyOf"].as_array()?;
    any.iter().find(|schema| schema["properties"].is_object())
}

fn one_line(description: &Value) -> String {
    description.as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

fn type_of(schema: &Value) -> String {
    if let Some(any) = schema["anyOf"].as_array() {
        let known = any.iter().find(|schema| schema["type"] != "null");
        return known.map_or(String::new(), type_of);
    }
    if schema["oneOf"].is_array() || schema["enum"].is_array() {
        return "choice".to_owned();
    }
    match &schema["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            let known = names.iter().filter_map(Value::as_str).find(|name| *name != "null");
            known.unwrap_or_default().to_owned()
        }
        _ => String::new(),
    }
}

/// The words that a key may hold, each with its meaning.
fn choices(schema: &Value) -> String {
    let from = match schema["anyOf"].as_array() {
        Some(any) => any.iter().find(|schema| schema["oneOf"].is_array()),
        None => Some(schema),
    };
    let Some(all) = from.and_then(|schema| schema["oneOf"].as_array()) else {
        return String::new();
    };
    let mut text = String::new();
    for choice in all {
        if let Some(word) = choice["const"].as_str() {
            text += &format!("<br>`{word}`: {}", one_line(&choice["description"]));
        }
    }
    text
}
